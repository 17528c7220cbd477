"""Linear operators of imaging, one file each; `table` rebuilds them from their specs."""
