"""Linear inverse problems: operators, measurements and the classical ways to solve them."""
