"""The README shows what is there, and the command explains itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from prdit_core.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
LARGEST_BYTES = 3 * 2**20


def test_pictures_are_there_and_small_enough_to_wait_for() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert pictures[0].endswith("emerging.webp")
    assert [one for one in pictures if (ROOT / one).stat().st_size > LARGEST_BYTES] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(get_command(app).commands))  # type: ignore[attr-defined]
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{command} {parameter.name} has no help"
