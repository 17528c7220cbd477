"""Files of the PRDiT, TF-PRDiT and PRDiT-FM releases."""
