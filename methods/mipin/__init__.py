"""MIP-IN: a network inverted layer by layer."""
