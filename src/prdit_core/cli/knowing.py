"""`prdit-core info` and `devices`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prdit_core.cli.console import Json, door, result
from prdit_core.cli.describing import (
    described,
    described_classes,
    described_data,
    described_scan,
    in_lines,
)
from prdit_core.cli.reading import reads_scans

if TYPE_CHECKING:
    from prdit_core.data.io import ReadOptions


@door
@reads_scans
def info(
    what: Annotated[
        str | None,
        typer.Argument(help="Checkpoint, run, prepared data set, classes.json, or scan."),
    ] = None,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Tell what a checkpoint, data set or scan is; without an argument, list known checkpoints."""
    from prdit_core.checkpoints.catalog import CATALOGUE, find
    from prdit_core.checkpoints.store import read_header
    from prdit_core.data.datasets import MANIFEST

    if what is None:
        entries = [vars(entry) for entry in CATALOGUE.values()]
        lines = [
            f"{e['name']:20}{e['size']}^3  HU {e['intensity']:12} {e['description']} ({e['where']})"
            for e in entries
        ]
        result({"catalogue": entries}, lines, json)
        return
    path = Path(what)
    if what in CATALOGUE or (path.is_dir() and _holds_checkpoint(path)):
        content = described(read_header(find(what)), what)
    elif (path / MANIFEST).is_file():
        content = described_data(path)
    elif path.suffix == ".json":
        content = described_classes(path)
    else:
        content = described_scan(path, options)
    result(content, in_lines(content), json)


@door
def devices(json: Json = False) -> None:
    """List the devices this machine can compute on, best first."""
    from prdit_core.machine import devices as devices_here

    entries = devices_here()
    lines = [
        f"{e['device']:10}{e['description']:30}"
        + (f"{e['memory'] / 2**30:.0f} GiB" if e["memory"] else "")
        for e in entries
    ]
    result({"devices": entries}, lines, json)


def _holds_checkpoint(path: Path) -> bool:
    from prdit_core.checkpoints.catalog import RUN_CHECKPOINTS
    from prdit_core.checkpoints.header import HEADER

    return (path / HEADER).is_file() or (path / RUN_CHECKPOINTS).is_dir()
