"""Pages for people: what an evaluation found, in tables and pictures."""
