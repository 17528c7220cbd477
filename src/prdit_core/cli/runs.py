"""`prdit-core runs`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from prdit_core.cli.console import door, result
from prdit_core.errors import UsageError
from prdit_core.files import check_new, shown

if TYPE_CHECKING:
    from prdit_core.runs.folder import RunFolder
    from prdit_core.runs.listing import Run

HEADINGS = ("run", "state", "stage", "iteration", "loss", "validation", "left", "message")

Folder = Annotated[Path, typer.Argument(help="Run folder of `train`.", metavar="RUN")]


class ListByDefault(TyperGroup):
    """`runs DIR` is short for `runs list DIR`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in `list` unless a command or --help is asked for."""
        named = not args or args[0] == "--help" or args[0] in self.commands
        return super().parse_args(ctx, args if named else ["list", *args])


app = typer.Typer(
    cls=ListByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    subcommand_metavar="DIR | COMMAND [ARGS]...",
    help="Tell how training runs are doing, plot one, or stop one.\n\n"
    "`runs DIR` lists the runs at or below a folder.",
)


@app.command("list")
@door
def list_(
    folder: Annotated[Path, typer.Argument(help="Folder of runs, or one run.", metavar="DIR")],
    json: Annotated[bool, typer.Option("--json", help="Print a list as JSON.")] = False,
) -> None:
    """List the runs at or below a folder, up to two levels deep.

    States: running, stopped (as asked), finished, failed, dead (killed, or the machine went down).
    Stopped, failed and dead runs go on with `train --resume`.
    """
    from prdit_core.runs.listing import list_runs

    runs = list_runs(folder)
    if json:
        lines = [json_format.dumps([_content(run) for run in runs])]
    elif runs:
        lines = _columns([HEADINGS, *map(_cells, runs)])
    else:
        lines = [f"no runs in {folder}"]
    result({}, lines, as_json=False)


@app.command()
@door
def plot(
    run: Folder,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write. [RUN/plot.png]", metavar="FILE.png")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace FILE.png; RUN/plot.png always is.")
    ] = False,
) -> None:
    """Draw losses by iteration and by noise level, gradient norm and learning rate."""
    from prdit_core.runs.plot import plot_run

    if out is not None:
        check_new(out, overwrite=overwrite)
    path = plot_run(_opened(run), run / "plot.png" if out is None else out)
    result({}, [str(path)], as_json=False)


@app.command()
@door
def stop(run: Folder) -> None:
    """Ask a run to save after the iteration at hand and end; `train --resume` goes on."""
    from prdit_core.runs.lock import is_held

    folder = _opened(run)
    if not is_held(folder):
        raise UsageError(f"nothing works in {shown(run)}, so there is nothing to stop")
    folder.ask_to_stop()
    result({}, [f"{run} saves after the iteration at hand and ends"], as_json=False)


def _opened(path: Path) -> RunFolder:
    from prdit_core.runs.folder import RunFolder

    folder = RunFolder(path)
    if not folder.exists:
        raise UsageError(f"{shown(path)} is no run folder; list runs with: prdit-core runs DIR")
    return folder


def _content(run: Run) -> dict[str, Any]:
    """What a run says of itself, null where it says nothing."""
    from prdit_core.runs.status import Status

    fields = dict.fromkeys(Status.model_fields) if run.status is None else run.status.model_dump()
    left = fields["seconds_left"] if run.state == "running" else None
    return {"run": str(run.folder.path), **fields, "state": run.state, "seconds_left": left}


def _cells(run: Run) -> tuple[str, ...]:
    from prdit_core.runs.status import duration

    status, running = run.status, run.state == "running"
    if status is None:
        return (str(run.folder.path), run.state, *("-" for _ in HEADINGS[2:-1]), "")
    return (
        str(run.folder.path),
        run.state,
        status.stage,
        f"{status.iteration}/{status.total}",
        _number(status.loss),
        _number(status.validation_loss),
        duration(status.seconds_left) if running and status.seconds_left is not None else "-",
        status.message if run.state == "failed" else "",
    )


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns."""
    printed = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*printed, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in printed]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
