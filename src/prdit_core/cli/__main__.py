"""`python -m prdit_core.cli`."""

from prdit_core.cli import main

main()
