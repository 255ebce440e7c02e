"""Files from outside, read with care, and files of ours, written whole."""
