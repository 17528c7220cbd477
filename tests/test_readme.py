"""What the README tells people to type exists and works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from prdit_core.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
LINES = [line for _, block in BLOCKS for line in block.splitlines()]
COMMANDS = sorted({line for line in LINES if line.startswith("prdit-core ")})
TARGETS = sorted({line.split()[1] for line in LINES if line.startswith("make ")})


def test_the_readme_shows_commands_and_pictures() -> None:
    assert len(COMMANDS) > 8 and "test" in TARGETS
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8"))
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_exists(line: str) -> None:
    words = shlex.split(line, comments=True)
    command = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("command", sorted(get_command(app).commands))  # type: ignore[attr-defined]
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    for parameter in get_command(app).commands[command].params:  # type: ignore[attr-defined]
        if parameter.name != "help":
            assert getattr(parameter, "help", None), f"{command} {parameter.name} has no help"


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program,) = [block for language, block in BLOCKS if language == "python"]
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {})
    assert (tmp_path / "volume.nii.gz").is_file()
