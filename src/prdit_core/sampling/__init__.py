"""Samplers: grids of times, predictors, the corrector, and the one loop."""
