"""napari plugin of PRDiT: what `napari.yaml` contributes, on top of `prdit_core`.

Nothing is imported here: napari loads a function when it is first used, and torch later still.
"""
