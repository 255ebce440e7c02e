"""NIF: information flow on a network's graph."""
