"""`fedrec compress`: smaller released models. All of it is post-processing of what was released: it costs no budget."""
