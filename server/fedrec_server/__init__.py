"""The server: one Coordinator loop over any Federation, and its checkpoints."""
