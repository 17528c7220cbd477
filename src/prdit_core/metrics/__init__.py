"""Numbers that say how good volumes are, and of what they are made."""
