"""The loopback HTTP API of a device (`fedrec client serve`): it needs the extra `serve`."""
