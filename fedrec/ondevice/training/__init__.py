"""Training on a device with numpy alone: what one person adds in a round of `popularity` and `als`."""
