"""`prdit-core train`."""

from __future__ import annotations

import difflib
import re
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.console import door, progress, result, say, stoppable
from prdit_core.config import (
    Activations,
    Output,
    Precision,
    RateName,
    Sees,
    Shows,
    StageName,
    Strategy,
    TrainConfig,
)
from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.machine import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from prdit_core.training.board import Board
    from prdit_core.training.claim import Begin
    from prdit_core.training.events import Event

CONFIG_LIMIT = 1 << 20


@door
def train(
    stage: Annotated[
        StageName | None,
        typer.Option(
            help="local: stage 1; global: stage 2, on top of stage 1; refine: stage 3, doubles the "
            "resolution of a model; finetune: all of a model."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data of `preprocess` or `phantoms`.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder; all results go there.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Run, checkpoint or demo to start from; only stage local needs none."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="small (default below 128^3) or size/patch/depth such as PRDiT-B/12/4; for refine "
            "the patches of the refiner, also as patch/stride/padding/width such as 8/4/2/192. "
            "[refine: those of the model below]"
        ),
    ] = None,
    objective: Annotated[
        Output | None, typer.Option(help="velocity is flow matching. [image-and-noise]")
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            help="Optimiser steps. [local 104000, global 130000, refine 250000, finetune 50000]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Volumes per step, of all processes. [16]")
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(help="Volumes a process holds at once. [all of its share]")
    ] = None,
    activations: Annotated[
        Activations | None,
        typer.Option(help="recompute: less memory, about a third slower. [keep]"),
    ] = None,
    consistency: Annotated[
        float | None,
        typer.Option(help="Weight of the low-frequency term of a chain; 0 leaves it out. [0.1]"),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="refine: edge of the box trained on per step. [the whole volume]"),
    ] = None,
    sees: Annotated[
        Sees | None,
        typer.Option(help="refine: below also shows the refiner the prediction below it. [noise]"),
    ] = None,
    shows: Annotated[
        Shows | None,
        typer.Option(
            help="refine: averages instead of every second voxel for what lies below. [voxels]"
        ),
    ] = None,
    lower_sizes: Annotated[
        float | None,
        typer.Option(help="finetune: weight of the loss at every lower resolution of a chain. [0]"),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [the paper's]")] = None,
    lr_schedule: Annotated[
        RateName | None,
        typer.Option(help="cosine falls to zero over --iterations. [constant]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, data order and noise. [0]")] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints, each validated. [1000]")
    ] = None,
    preview_every: Annotated[
        int | None, typer.Option(help="Steps between pictures. [1000]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            help="For several processes (torchrun, srun); fsdp also splits weights. [ddp]"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that prepare batches ahead. [0]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads, part of the seed.")] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(help="auto: bf16 where the device is fast at it, else float32."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with these settings; options here win.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")
    ] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Resume with other settings; it is recorded.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write RUN/tensorboard.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print every event as JSON.")] = False,
) -> None:
    """Train the Local Denoiser, the Global Residual DiT, a refiner, or a whole model further.

    Ctrl-C finishes the step and saves; --resume goes on, with the same bytes as in one go.
    Defaults are the paper's settings. Several processes: torchrun --standalone --nproc-per-node N
    --no-python -- prdit-core train ..., or srun prdit-core train ...
    """
    given = {
        "stage": stage,
        "data": data,
        "run": run,
        "start": start,
        "model": model,
        "objective": objective,
        "iterations": iterations,
        "batch_size": batch_size,
        "micro_batch": micro_batch,
        "activations": activations,
        "consistency": consistency,
        "crop": crop,
        "sees": sees,
        "shows": shows,
        "lower_sizes": lower_sizes,
        "lr": lr,
        "lr_schedule": lr_schedule,
        "seed": seed,
        "save_every": save_every,
        "preview_every": preview_every,
        "device": device,
        "strategy": strategy,
        "workers": workers,
        "threads": threads,
        "precision": precision,
    }
    settings = _config(config, {n: v for n, v in given.items() if v is not None})
    begin: Begin = "change" if allow_change else "resume" if resume else "new"
    board = _open_board(settings.run) if tensorboard and processes().rank == 0 else None
    with board or nullcontext():
        _follow(settings, begin, json, [board.take] if board else [])


def _config(file: Path | None, given: dict[str, Any]) -> TrainConfig:
    settings = ({} if file is None else _read_toml(file)) | given
    for name in settings:
        if name not in TrainConfig.model_fields:
            near = difflib.get_close_matches(name, TrainConfig.model_fields, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{shown(file or '')}: setting {shown(name)!r} is not known{hint}")
    for name in ("stage", "data", "run"):
        if name not in settings:
            raise UsageError(f"--{name} is needed")
    return TrainConfig.model_validate(settings)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            text = stream.read(CONFIG_LIMIT + 1)
        if len(text) > CONFIG_LIMIT:
            raise UsageError(f"{shown(file)} is larger than {CONFIG_LIMIT} bytes")
        return tomllib.loads(text.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{shown(file)} cannot be read as TOML: {error}") from error


def _open_board(run: Path) -> Board:
    from prdit_core.training.board import Board

    return Board(run / "tensorboard")


def _follow(
    config: TrainConfig, begin: Begin, as_json: bool, others: list[Callable[[Event], None]]
) -> None:
    """Train, and show what happens; in all processes but the first in silence."""
    from prdit_core.training.events import Started, Stopped, TrainStep
    from prdit_core.verbs.train import train_steps

    first = processes().rank == 0
    ended = "finished"
    with stoppable() as stop, progress(first and not as_json) as bar:
        task = bar.add_task(f"stage {config.stage}", total=None)
        for event in train_steps(config, begin, lambda: stop.code is not None):
            if not first:
                continue
            if isinstance(event, Started):
                bar.update(task, total=event.total, completed=event.index)
            elif isinstance(event, TrainStep):
                words = f"{config.stage} loss {event.losses['total']:.4f}"
                bar.update(task, completed=event.index, description=words)
            elif isinstance(event, Stopped):
                ended = f"stopped after iteration {event.index}; go on with --resume"
            _tell(event, as_json)
            for take in others:
                take(event)
    stop.raise_if_asked()
    if first and not as_json:
        line = f"{ended}; generate with --checkpoint {shown(config.run)}"
        result({}, [line], as_json=False)


def _tell(event: Event, as_json: bool) -> None:
    """One event for machines, or the lines it is worth to people."""
    from prdit_core.training.events import Previewed, Saved, Started, Validated

    if as_json:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(event).__name__).lower()
        content = {"event": name, **vars(event)}
        result({k: str(v) if isinstance(v, Path) else v for k, v in content.items()}, [], True)
    elif isinstance(event, Started):
        for note in event.notes:
            say(f"note: {shown(note)}")
    elif isinstance(event, Validated):
        say(f"iteration {event.index}: validation loss {event.losses['total']:.5f}")
    elif isinstance(event, Saved | Previewed):
        kind = "checkpoint" if isinstance(event, Saved) else "preview"
        say(f"{kind} {shown(event.path)}")
