"""`prdit-core evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prdit_core.cli.console import Json, door, progress, result, say, stoppable
from prdit_core.cli.options import Device, Threads
from prdit_core.cli.reading import reads_scans
from prdit_core.errors import OutputError, UsageError
from prdit_core.files import check_writable, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prdit_core.data.io import ReadOptions
    from prdit_core.evaluation.critics import WScoreChoice
    from prdit_core.evaluation.passes import EvaluationStep
    from prdit_core.metrics.confidence import Measured
    from prdit_core.metrics.evaluation import Evaluation, Fake, Floor

COLUMNS = {
    "fid_unbiased": "FID corrected",
    "fid": "FID",
    "mmd_unbiased": "MMD unbiased",
    "mmd": "MMD",
}


@door
@reads_scans
def evaluate(
    real: Annotated[str, typer.Option(metavar="DIR", help="Real volumes, not trained on.")],
    fake: Annotated[
        list[str], typer.Option(metavar="NAME=DIR", help="Volumes of a model; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json and report.html.")],
    training: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="What the models were trained on, to look for copies."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="What they all are, of a model of classes."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=REAL,MADE",
            help="Another class of the first model, to lie beside it in a plot; may be repeated.",
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="recommended, or paper (needs MedicalNet's ResNet-50).")
    ] = "recommended",
    encoder: Annotated[
        str | None,
        typer.Option(
            help="What makes features: phantom (ours), a folder of train-encoder, a MedicalNet "
            "file, or hub:OWNER/REPOSITORY/FILE. Default: the protocol's."
        ),
    ] = None,
    encoder_depth: Annotated[
        int | None, typer.Option(help="10, 18, 34 or 50, where a MedicalNet file must be that.")
    ] = None,
    encoder_shortcut: Annotated[
        Literal["A", "B"] | None, typer.Option(help="The same for its kind of shortcut.")
    ] = None,
    wscore: Annotated[
        bool | None,
        typer.Option(
            "--wscore/--no-wscore",
            help="Train critics for the W-score, the longest part. "
            "Default: where the sets are large enough.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of halves, pairs and critics.")] = 0,
    device: Device = "cpu",
    threads: Threads = None,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Compare generated volumes with real ones: FID, MMD, W-score, diversity, copies, tissues.

    A folder holds what `generate` wrote, scans of any format, or a prepared data set; all volumes
    lie on one grid. docs/evaluation.md says what the numbers mean.
    """
    from prdit_core.data.sources import refuse_overlap
    from prdit_core.evaluation.sets import open_sets
    from prdit_core.machine import choose_device, use_threads
    from prdit_core.verbs.evaluate import evaluate_steps, find_protocol, protocol_encoder
    from prdit_core.verbs.report import write_report

    fakes, others = _named(fake), _classes(beside or ())
    row, place = find_protocol(protocol), choose_device(device)
    folders = [real, *fakes.values(), training, *(f for pair in others.values() for f in pair)]
    refuse_overlap([Path(f) for f in folders if f], out)
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{shown(out)} is not empty; choose another --out")
    sets = open_sets(real, fakes, training, options, label=label, beside=others)
    chosen = protocol_encoder(row, place, encoder, encoder_depth, encoder_shortcut)
    check_writable(out)
    use_threads(threads)
    steps = evaluate_steps(
        sets,
        chosen,
        protocol=protocol,
        wscore=_choice(wscore),
        seed=seed,
        device=place,
        scratch=out,
    )
    evaluation = _drain(steps, json)
    report = write_report(evaluation, sets, out)
    result(
        {"evaluation": str(report.content), "page": str(report.page)},
        [*_table(evaluation), f"numbers  {report.content}", f"page     {report.page}"],
        json,
    )


def _named(fakes: Sequence[str]) -> dict[str, str]:
    """Folders by the names given to them."""
    named: dict[str, str] = {}
    for text in fakes:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise UsageError(f"--fake {shown(text)}: give NAME=DIR, such as demo=volumes/demo")
        if name in named:
            raise UsageError(f"--fake {shown(name)} is given twice; each set needs its own name")
        named[name] = folder
    return named


def _classes(texts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Folders of real and of generated volumes by class."""
    classes: dict[str, tuple[str, str]] = {}
    for text in texts:
        name, _, folders = text.partition("=")
        real, _, made = folders.partition(",")
        if not (name and real and made):
            raise UsageError(f"--beside {shown(text)}: give CLASS=REAL,MADE, such as head=ct,made")
        if name in classes:
            raise UsageError(f"--beside {shown(name)} is given twice; each class lies there once")
        classes[name] = real, made
    return classes


def _choice(wished: bool | None) -> WScoreChoice:
    if wished is None:
        return "auto"
    return "on" if wished else "off"


def _drain(steps: Iterator[EvaluationStep | Evaluation], as_json: bool) -> Evaluation:
    from prdit_core.evaluation.passes import EvaluationStep

    with stoppable() as stop, progress(not as_json) as bar:
        task, words = bar.add_task("", total=None), ""
        for step in steps:
            if not isinstance(step, EvaluationStep):
                evaluation = step
                continue
            if step.words != words:
                words = step.words
                bar.reset(task, description=words)
            bar.update(task, completed=step.index + 1, total=step.total)
            stop.raise_if_asked()
    for warning in evaluation.warnings:
        say(f"note: {warning}")
    return evaluation


def _table(evaluation: Evaluation) -> list[str]:
    """The main numbers, a line for each set."""
    rows = [
        ["", *COLUMNS.values(), "MS-SSIM"],
        _row("real halves", evaluation.floor, evaluation.real.ms_ssim),
        *(_row(name, fake, fake.ms_ssim) for name, fake in evaluation.fakes.items()),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(name: str, distances: Floor | Fake, alike: Measured | None) -> list[str]:
    return [name, *(_number(getattr(distances, key)) for key in COLUMNS), _number(alike)]


def _number(number: Measured | None) -> str:
    if number is None:
        return "-"
    if number.low is None or number.high is None:
        return f"{number.value:.4g}"
    return f"{number.value:.4g} ({number.low:.3g} to {number.high:.3g})"
