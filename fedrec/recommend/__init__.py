"""Lists for one person: ranked, made diverse, and explained, from a released model and that person's history."""
