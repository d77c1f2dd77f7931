"""`fedrec export`: released models in formats of other programs."""
