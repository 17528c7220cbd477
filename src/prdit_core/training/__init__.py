"""Training: stages, objective, batches, average and the one loop."""
