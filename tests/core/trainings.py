"""Small training runs for the tests of faults: begun, killed, resumed and compared byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from prdit_core.checkpoints.catalog import saved
from prdit_core.checkpoints.store import read_header, read_weights
from prdit_core.data.datasets import Manifest, write_case, write_manifest
from prdit_core.data.phantoms import make_phantom
from prdit_core.data.presets import PRESETS
from prdit_core.data.transforms import Conformed
from prdit_core.prdit_config import TrainConfig
from prdit_core.runs.folder import RunFolder
from prdit_core.runs.metrics import read_lines
from prdit_core.verbs.train import train_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prdit_core.training.claim import Begin
    from prdit_core.training.events import Event

NEVER = 10**6
SETTINGS: dict[str, Any] = {
    "stage": "local",
    "iterations": 6,
    "batch_size": 2,
    "save_every": 2,
    "preview_every": NEVER,
    "precision": "32-true",
    "threads": 1,
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PRDIT_THREADS": "1"}
OPTIONS = {"start": "--from"}


def drawn_set(folder: Path, count: int, size: int = 8) -> Path:
    """Phantoms as they are drawn, as a data set whose last case is held out.

    The command `phantoms` cuts them out around the body, which takes ITK; a machine with a GPU may
    lack it.
    """
    preset = PRESETS["chest-320"]
    cases = []
    for index in range(count):
        phantom = make_phantom(0, index, spacing_mm=preset.field_of_view_mm / size)
        drawn = Conformed(phantom.volume, phantom.labels, {}, ())
        name = f"phantom-0-{index:06d}"
        cases.append(write_case(folder, name, drawn, patient=name, source_sha256=f"{index:064x}"))
    train, validation = tuple(cases[:-1]), tuple(cases[-1:])
    write_manifest(folder, Manifest(preset=preset, size=size, train=train, validation=validation))
    return folder


def settings(data: Path, run: Path, **more: Any) -> TrainConfig:
    """A short run of the smallest network."""
    return TrainConfig(data=data, run=run, **(SETTINGS | more))


def train(config: TrainConfig, begin: Begin = "new") -> list[Event]:
    """All events of a run to its end."""
    return list(train_steps(config, begin))


def trained(config: TrainConfig) -> dict[str, bytes]:
    """What a run in one go leaves."""
    train(config)
    return content(config.run)


def resumed(config: TrainConfig) -> dict[str, bytes]:
    """What is there after the run went on to its end."""
    train(config, "resume")
    return content(config.run)


def closed_after(config: TrainConfig, number: int, begin: Begin = "new") -> Event:
    """Close the iterator after event `number`, counted from 0, and return that event."""
    with contextlib.closing(train_steps(config, begin)) as events:
        for _ in range(number):
            next(events)
        return next(events)


def until(events: Iterator[Event], kind: type, index: int) -> None:
    """Go on to the event of this kind and iteration."""
    next(event for event in events if isinstance(event, kind) and event.index == index)


def last(run: Path) -> Path:
    """Folder of the newest checkpoint."""
    return saved(run)[-1]


def content(run: Path) -> dict[str, bytes]:
    """Payloads of the newest checkpoint by name, and the metrics."""
    payloads = {file.name: file.read_bytes() for file in last(run).glob("*.safetensors")}
    needed = {"weights.safetensors", "raw.safetensors", "optimizer.safetensors"}
    assert needed <= set(payloads) <= needed | {"codec.safetensors", "control.safetensors"}
    return {last(run).name: b"", **payloads, "metrics.jsonl": (run / "metrics.jsonl").read_bytes()}


def without_metrics(found: dict[str, bytes]) -> dict[str, bytes]:
    """Payloads alone, for runs that were validated at other times."""
    return {name: held for name, held in found.items() if name != "metrics.jsonl"}


def unlike(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Names of what differs; shorter to read than the bytes."""
    names = sorted(found.keys() | expected.keys())
    return [name for name in names if found.get(name) != expected.get(name)]


def history(run: Path) -> list[dict[str, Any]]:
    """Beginnings and continuations."""
    file = run / "history.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def iterations(run: Path) -> list[int]:
    """Iterations of training that the metrics know."""
    lines = read_lines(RunFolder(run).metrics)
    return [line["iteration"] for line in lines if line["kind"] == "train"]


def assert_whole(run: Path) -> None:
    """Every checkpoint that counts as saved can be trusted."""
    for folder in saved(run):
        read_weights(folder, read_header(folder))


def leftovers(run: Path) -> list[str]:
    """Hidden files and folders: what a process left half-written."""
    return [path.name for path in run.rglob(".*")]


def flip(file: Path, byte: int = -5) -> None:
    """Change one bit, keeping the length."""
    raw = bytearray(file.read_bytes())
    raw[byte] ^= 0x10
    file.write_bytes(raw)


def words(config: TrainConfig) -> list[str]:
    """The command line of a run."""
    given = config.model_dump(mode="json", exclude_unset=True)
    pairs = [(OPTIONS.get(n, f"--{n.replace('_', '-')}"), str(v)) for n, v in given.items()]
    return ["train", *(word for pair in pairs for word in pair)]


@contextlib.contextmanager
def child(config: TrainConfig, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, all of which is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "prdit_core.cli", *words(config), *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **ONE_THREAD},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def has_iterated(pid: int, run: Path, count: int = 1) -> bool:
    """Whether a process has done `count` iterations of its own."""
    begun = history(run)[-1:]
    if not begun or begun[0]["pid"] != pid:
        return False
    return iterations(run)[-1:] >= [begun[0]["iteration"] + count]


def iterating(process: subprocess.Popen[str], run: Path, count: int = 1) -> None:
    """Wait until the child has done `count` iterations of its own."""
    while process.poll() is None:
        if has_iterated(process.pid, run, count):
            return
        time.sleep(0.01)
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())
