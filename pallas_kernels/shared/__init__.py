"""What several operators share: argument checks, chunks, decay, inverse."""
