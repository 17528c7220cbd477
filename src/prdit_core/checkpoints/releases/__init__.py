"""Foreign checkpoint files: a folder for each group of releases, which alone knows their names."""
