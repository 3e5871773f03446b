"""The loops: one class a role."""
