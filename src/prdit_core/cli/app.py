"""All commands under one name."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from prdit_core.cli import runs
from prdit_core.cli.augmenting import augment
from prdit_core.cli.benching import bench
from prdit_core.cli.calibrating import calibrate
from prdit_core.cli.console import DEBUG_VARIABLE
from prdit_core.cli.encoding import train_encoder
from prdit_core.cli.evaluating import evaluate
from prdit_core.cli.exporting import export
from prdit_core.cli.generating import decompose, generate
from prdit_core.cli.importing import import_
from prdit_core.cli.knowing import devices, info
from prdit_core.cli.latents import latents
from prdit_core.cli.measuring import simulate
from prdit_core.cli.preparing import phantoms, preprocess, remove_cases
from prdit_core.cli.reconstructing import reconstruct
from prdit_core.cli.training import train
from prdit_core.cli.tuning import tune_tv
from prdit_core.presets import presets_text

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=(
        "Synthesise 3D CT volumes with PRDiT (pixel-level residual diffusion transformer).\n\n"
        "Start with:  prdit-core generate --checkpoint demo --out my-volume\n\n"
        "Exit codes: 0 ok, 2 usage, 3 input rejected, 4 some cases failed, 5 checkpoint, "
        "6 output, 7 memory, 8 numerical, 9 run folder busy, 130/143 stopped.\n\n"
        "All generated volumes are synthetic and not for diagnosis."
    ),
)


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def _as_it_stands(text: str) -> str:
    """A paragraph whose lines are not run together."""
    return f"\b\n{text}"


app.command(epilog=_as_it_stands(presets_text()))(generate)
app.command()(augment)
app.command()(decompose)
app.command()(export)
app.command()(preprocess)
app.command()(phantoms)
app.command()(remove_cases)
app.command()(latents)
app.command()(train)
app.command()(simulate)
app.command()(calibrate)
app.command()(tune_tv)
app.command()(reconstruct)
app.command()(evaluate)
app.command()(train_encoder)
app.add_typer(runs.app, name="runs")
app.command("import")(import_)
app.command()(info)
app.command()(devices)
app.command()(bench)
