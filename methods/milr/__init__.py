"""MI-LR, MIRE's earlier form."""
