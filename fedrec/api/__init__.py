"""The Python API: what `import fedrec` offers, over the same machinery as the command line."""
