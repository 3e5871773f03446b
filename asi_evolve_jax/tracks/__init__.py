"""Research questions, one folder each."""
