"""Help from friends on a device: sealed shares that the device paid for, and what those of friends add to a list."""
