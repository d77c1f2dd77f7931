"""Help from friends: what a device releases to them under noise of its own, and how another device uses it."""
