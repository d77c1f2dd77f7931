"""`fedrec serve`: lists over HTTP for the history in a request, of which nothing is kept."""
