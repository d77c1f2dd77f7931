"""Recommendations on the device of one person, with numpy and `cryptography` alone; see `client`."""
