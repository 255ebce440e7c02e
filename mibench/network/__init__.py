"""A network opened at its cut points, walked layer by layer, and left as it was found."""
