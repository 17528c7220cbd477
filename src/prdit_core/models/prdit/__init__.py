"""PRDiT: Local Denoiser, Global Residual DiT and refiners, the first family."""
