"""Words from a language model on this device: reasons retold, and a shortlist ordered by a wish. Nothing leaves it."""
