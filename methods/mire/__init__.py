"""MIRE, and the form of it that mixes noise in (ours)."""
