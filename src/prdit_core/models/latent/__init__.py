"""3D MedDiffusion: Patch-Volume autoencoder and BiFlowNet in its latents."""
