"""How each family is trained: its stages and losses."""
