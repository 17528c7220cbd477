"""The command `prdit-core`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from prdit_core.cli.app import app

    app()
