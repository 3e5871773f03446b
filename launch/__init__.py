"""absl apps: flags, wiring and exit codes. One file an app."""
