"""`prdit-core train`."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from prdit_core.cli.console import door, progress, result, say, stoppable
from prdit_core.config import Precision, StageName, TrainConfig
from prdit_core.errors import UsageError
from prdit_core.files import shown

CONFIG_LIMIT = 1 << 20


@door
def train(
    stage: Annotated[
        StageName | None,
        typer.Option(help="local: stage 1; global: stage 2, on top of a finished stage 1."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data of `preprocess` or `phantoms`.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder; all results go there.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Run or checkpoint to start from; stage 2 needs one."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="small (default below 128^3) or size/patch/depth such as PRDiT-B/12/4."),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Optimiser steps. [local 104000, global 130000]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Volumes per step. [16]")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. [the paper's]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, data order and noise. [0]")] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints. [1000]")
    ] = None,
    preview_every: Annotated[
        int | None, typer.Option(help="Steps between pictures. [1000]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
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
    json: Annotated[bool, typer.Option("--json", help="Print every event as JSON.")] = False,
) -> None:
    """Train stage 1 (Local Denoiser) or stage 2 (Global Residual DiT) on prepared data.

    Ctrl-C finishes the step and saves; --resume goes on. Defaults are the paper's settings.
    """
    given = {
        "stage": stage,
        "data": data,
        "run": run,
        "start": start,
        "model": model,
        "iterations": iterations,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "save_every": save_every,
        "preview_every": preview_every,
        "device": device,
        "threads": threads,
        "precision": precision,
    }
    _follow(_config(config, {n: v for n, v in given.items() if v is not None}), resume, json)


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


def _follow(config: TrainConfig, resume: bool, as_json: bool) -> None:
    from prdit_core.training.loop import TrainStep
    from prdit_core.verbs.train import Previewed, Saved, Started, train_steps

    def tell(line: str, event: dict[str, Any]) -> None:
        if as_json:
            result(event, [], as_json=True)
        else:
            say(line)

    last = ""
    with stoppable() as stop, progress(not as_json) as bar:
        task = bar.add_task(f"stage {config.stage}", total=None)
        events = train_steps(config, "resume" if resume else "new")
        try:
            for event in events:
                if isinstance(event, Started):
                    bar.update(task, total=event.total)
                    for note in event.notes:
                        tell(f"note: {note}", {"event": "note", "note": note})
                elif isinstance(event, TrainStep):
                    loss = event.losses["total"]
                    bar.update(
                        task, completed=event.index, description=f"{config.stage} loss {loss:.4f}"
                    )
                    if as_json:
                        tell(
                            "", {"event": "step", "iteration": event.index, "losses": event.losses}
                        )
                elif isinstance(event, Saved | Previewed):
                    kind = "checkpoint" if isinstance(event, Saved) else "preview"
                    last = str(event.path)
                    tell(
                        f"{kind} {event.path}",
                        {"event": kind, "iteration": event.index, "path": last},
                    )
                if stop.code is not None:
                    break
        finally:
            events.close()  # saves what was not saved yet
    stop.raise_if_asked()
    if not as_json:
        result({}, [f"finished; generate with --checkpoint {config.run}"], as_json=False)
