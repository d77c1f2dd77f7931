"""`fedrec bench`: what a round costs, beside other programs that do the same work, measured in one run."""
