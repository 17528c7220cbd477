"""Our checkpoint format, known weights, and the import of official files."""
