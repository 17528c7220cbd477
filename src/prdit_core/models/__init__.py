"""The networks: local part, global residual, and the prior that wraps them."""
