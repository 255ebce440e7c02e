"""IBA: a bottleneck for each sample, and one that is learned once."""
