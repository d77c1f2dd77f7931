"""Public facts about items, as triples: labels, paths and embeddings for a catalogue. No user is in them."""
