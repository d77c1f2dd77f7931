"""The client: what computes where the users' data lie."""
