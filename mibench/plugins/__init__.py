"""What a plug-in is, how it is written, and how it is found."""
