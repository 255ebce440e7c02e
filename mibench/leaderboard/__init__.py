"""Leaderboards: per-sample scores in; a table, a page and an index out."""
