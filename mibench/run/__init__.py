"""A run, in the order in which it does its work: plan, prepare, explain, score, measure costs, report."""
