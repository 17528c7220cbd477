"""Training of PRDiT: stages, the network of each, and what it minimises."""
