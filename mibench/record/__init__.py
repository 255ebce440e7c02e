"""What a run keeps: cells, the database, maps, hashes, seeds, and the machine it ran on."""
