"""napari plugin."""
