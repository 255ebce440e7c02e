"""Intervals, ties and ranks, as pure functions."""
