"""Training of 3D MedDiffusion: its autoencoder in two stages, and BiFlowNet in latents."""
