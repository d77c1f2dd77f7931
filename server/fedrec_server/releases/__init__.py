"""Releases on the server: the folder that `fedrec server publish` writes, and its signed roles."""
