"""`prdit-core train-encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prdit_core.cli.console import Json, door, progress, result, stoppable
from prdit_core.files import shown


@door
def train_encoder(
    out: Annotated[Path, typer.Option(help="Folder of the encoder; must not exist.")],
    iterations: Annotated[int, typer.Option(help="Optimiser steps.")] = 1500,
    phantoms: Annotated[int, typer.Option(help="Different phantoms to learn from.")] = 500,
    seed: Annotated[int, typer.Option(help="Of weights, phantoms and their order.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads, part of the seed.")] = None,
    json: Json = False,
) -> None:
    """Train an encoder of our own on phantoms, for `evaluate --encoder OUT`.

    The bundled one, "phantom", was made by this command as it stands, with --threads 1, in about a
    quarter of an hour. Its distances compare volumes of one evaluation, never with the paper's.
    """
    from prdit_core.verbs.train_encoder import (
        EncoderSaved,
        EncoderStep,
        PhantomMade,
        train_encoder_steps,
    )

    steps = train_encoder_steps(
        out, iterations=iterations, phantoms=phantoms, seed=seed, threads=threads
    )
    losses: dict[str, float] = {}
    with stoppable() as stop, progress(not json) as bar:
        task = bar.add_task("phantoms", total=None)
        for event in steps:
            stop.raise_if_asked()
            if isinstance(event, PhantomMade):
                bar.update(task, completed=event.index, total=event.total)
            elif isinstance(event, EncoderStep):
                losses = event.losses
                words = f"encoder loss {sum(losses.values()):.4f}"
                bar.update(task, completed=event.index, total=event.total, description=words)
            elif isinstance(event, EncoderSaved):
                line = f"{shown(event.path)}: an encoder for --encoder {shown(event.path)}"
                result({"encoder": str(event.path), "losses": losses}, [line], json)
