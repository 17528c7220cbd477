"""Files of the release of 3D MedDiffusion."""
