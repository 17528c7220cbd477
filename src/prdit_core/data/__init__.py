"""Arrays: reading and writing scans, phantoms, prepared data sets."""
