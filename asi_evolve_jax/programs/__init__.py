"""Source identity, genomes, Artifacts."""
