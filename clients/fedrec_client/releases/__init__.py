"""Releases on a device: fetched, verified and installed by `EdgeClient.sync`."""
