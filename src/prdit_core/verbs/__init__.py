"""What one does with CT volumes: generate, decompose, preprocess, train."""
