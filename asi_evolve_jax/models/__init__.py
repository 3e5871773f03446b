"""The language model around a token mixer."""
