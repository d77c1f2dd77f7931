"""A template for an algorithm of one's own."""
