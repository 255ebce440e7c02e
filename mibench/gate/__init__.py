"""CI's gate: two sides compared, the thresholds, and the comment that a reviewer reads."""
