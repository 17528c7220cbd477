"""3D patch prior with global context (arXiv 2512.18161)."""
