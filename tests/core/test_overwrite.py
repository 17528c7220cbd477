"""No command replaces what is there, unless it is told to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from latents import tiny_codec, tiny_control, tiny_latent
from scans import chest
from test_runs import begun, metric
from typer.main import get_command
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.io import write_volume
from prdit_core.data.phantoms import LABELS
from prdit_core.runs.metrics import append_line

if TYPE_CHECKING:
    from pathlib import Path

MINE = b"years of work"

# What lies there, and the command that would write to it. SCAN is a volume, RUN a run.
COMMANDS = {
    "generate a file": ("a.nii.gz", "generate --size 32 --steps 1 --out OUT/a.nii.gz"),
    "generate its picture": ("a.png", "generate --size 32 --steps 1 --out OUT/a.nrrd"),
    "generate its record": ("a.json", "generate --size 32 --steps 1 --out OUT/a.mha"),
    "decompose": ("x", "decompose --size 32 --volume SCAN --out OUT"),
    "export": ("x", "export SCAN --dicom OUT"),
    "simulate": ("a.npz", "simulate SCAN --out OUT/a.npz"),
    "simulate the truth": ("a.nii", "simulate SCAN --out OUT/a.npz --truth OUT/a.nii"),
    "calibrate": ("a.json", "calibrate demo --data DATA --out OUT/a.json"),
    "reconstruct": ("fbp.nii.gz", "reconstruct M.npz --method fbp --out OUT"),
    "preprocess": ("x", "preprocess SCAN --size 16 --out OUT"),
    "phantoms": ("x", "phantoms --count 1 --size 16 --out OUT"),
    "latents": ("x", "latents --data DATA --codec CODEC --out OUT"),
    "train": ("log.txt", "train --stage local --data DATA --run OUT --iterations 1"),
    "evaluate": ("x", "evaluate --real DATA --fake a=DATA --out OUT"),
    "augment": ("x", "augment --labels DATA --checkpoint CONTROL --count 1 --out OUT"),
    "train-encoder": ("x", "train-encoder --out OUT"),
    "import": ("x", "import OUT/x --norm layer --size 32 --out OUT"),
    "runs plot": ("a.png", "runs plot RUN --out OUT/a.png"),
}


def run(text: str, tmp_path: Path) -> tuple[int, str]:
    words = text
    places = {"OUT": "out", "SCAN": "scan.nii", "DATA": "data", "RUN": "run", "M.npz": "m.npz"}
    places |= {"CODEC": "codec", "CONTROL": "control"}
    for name, place in places.items():
        words = words.replace(name, str(tmp_path / place))
    result = CliRunner().invoke(app, words.split())
    return result.exit_code, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_there_stays(tmp_path: Path, name: str) -> None:
    there, command = COMMANDS[name]
    write_volume(chest(), tmp_path / "scan.nii")
    if " DATA" in command:
        run("phantoms --count 2 --size 16 --out DATA", tmp_path)
    if " CODEC" in command:
        tiny_codec(tmp_path / "codec")
    if " CONTROL" in command:
        labels = tuple(name for name, number in LABELS.items() if number)
        tiny_control(tmp_path / "control", tiny_latent(tmp_path / "base"), labels)
    if " M.npz" in command:
        run(f"simulate SCAN --out {tmp_path / 'm.npz'}", tmp_path)
    append_line(begun(tmp_path / "run", "finished").metrics, metric(1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / there).write_bytes(MINE)
    code, output = run(command, tmp_path)
    assert code == 6, output
    assert [line for line in output.splitlines() if line.startswith("prdit-core: ")]
    left = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.name != "lock"}
    assert left == {there: MINE}


def test_every_command_that_writes_is_in_the_table() -> None:
    commands = dict(get_command(app).commands)  # type: ignore[attr-defined]
    commands |= {f"runs {name}": c for name, c in commands.pop("runs").commands.items()}
    written = {"out", "run", "dicom"}
    writing = {n for n, c in commands.items() if written & {p.name for p in c.params}}
    writing -= {"runs stop"}  # RUN is a run that is there
    tried = {words.split(" --")[0] for _, words in COMMANDS.values()}
    assert all(any(words.startswith(name) for words in tried) for name in writing)


def test_told_to_a_measurement_is_replaced_but_never_the_scan(tmp_path: Path) -> None:
    write_volume(chest(), tmp_path / "scan.nii")
    before = (tmp_path / "scan.nii").read_bytes()
    words = f"simulate SCAN --operator blur --out {tmp_path / 'a.npz'} --overwrite"
    (tmp_path / "a.npz").write_bytes(MINE)
    assert run(words, tmp_path)[0] == 0
    assert (tmp_path / "a.npz").read_bytes()[:2] == b"PK"
    assert run(f"{words} --truth SCAN", tmp_path)[0] == 2
    assert (tmp_path / "scan.nii").read_bytes() == before


@pytest.mark.slow
def test_told_to_a_picture_is_replaced(tmp_path: Path) -> None:
    append_line(begun(tmp_path / "run", "finished").metrics, metric(1))
    (tmp_path / "a.png").write_bytes(MINE)
    code, output = run(f"runs plot RUN --out {tmp_path / 'a.png'} --overwrite", tmp_path)
    assert code == 0, output
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    for _ in range(2):  # the run's own picture
        assert run("runs plot RUN", tmp_path)[0] == 0
