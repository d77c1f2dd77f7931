"""Sequence encoders: what a user's events, in order, say about the next one. A new encoder is one new file."""
