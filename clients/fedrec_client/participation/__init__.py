"""Taking part from a device: when it may, whose word of the store counts, and one stay at a server."""
