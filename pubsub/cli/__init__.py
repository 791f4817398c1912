"""Commands that neither serve nor load a server."""
