"""Language models: one port, its providers, what calls cost and who pays."""
