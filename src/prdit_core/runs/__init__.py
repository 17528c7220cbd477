"""Run folders: the only thing a training run and those who watch it share."""
