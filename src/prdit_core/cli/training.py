"""`prdit-core train`."""

from __future__ import annotations

import difflib
import inspect
import re
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.console import door, progress, result, say, stoppable
from prdit_core.cli.options import Group, option_of, takes, those_given
from prdit_core.config import TrainingConfig, words_of
from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.machine import processes
from prdit_core.models.families import FAMILIES
from prdit_core.training.stages import STAGES, stage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prdit_core.training.board import Board
    from prdit_core.training.claim import Begin
    from prdit_core.training.events import Event

CONFIG_LIMIT = 1 << 20


def _options() -> Iterator[inspect.Parameter]:
    """Every setting once: those of all families first, then what only some have."""
    kinds = _kinds()
    common = TrainingConfig.model_fields
    names = dict.fromkeys([*common, *(n for kind in kinds.values() for n in kind.model_fields)])
    for name in names:
        having = {title: kind for title, kind in kinds.items() if name in kind.model_fields}
        first = next(iter(having.values()))
        texts = {title: _text(kind, name) for title, kind in having.items()}
        of_all = len(having) == len(kinds) and len(set(texts.values())) == 1
        text = (
            _text(first, name)
            if of_all
            else " ".join(f"{t}: {words}" for t, words in texts.items())
        )
        flag = "--from" if name == "start" else f"--{name.replace('_', '-')}"
        yield option_of(first, name, flag, words=text, kind=str if name == "stage" else None)


def _kinds() -> dict[str, type[TrainingConfig]]:
    """Kinds of settings by what has them: a family, or a stage of one whose stages differ."""
    named: dict[str, type[TrainingConfig]] = {}
    for stage in STAGES.values():
        title = FAMILIES[stage.family].title
        taken = named.setdefault(title, stage.settings)
        if taken is not stage.settings:
            named[f"stage {stage.name}"] = stage.settings
    return named


def _text(settings: type[TrainingConfig], name: str) -> str:
    """What a setting says of itself, and its default unless it says that too."""
    words, field = words_of(settings, name), settings.model_fields[name]
    complete = field.default is None or field.is_required() or words.endswith("]")
    return words if complete else f"{words} [{field.default}]"


@door
@takes("given", Group(tuple(_options()), those_given))
def train(
    *,
    given: dict[str, Any],
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
    settings = _config(config, given)
    begin: Begin = "change" if allow_change else "resume" if resume else "new"
    board = _open_board(settings.run) if tensorboard and processes().rank == 0 else None
    with board or nullcontext():
        _follow(settings, begin, json, [board.take] if board else [])


def _config(file: Path | None, given: dict[str, Any]) -> TrainingConfig:
    settings = ({} if file is None else _read_toml(file)) | given
    of_any = {name for stage in STAGES.values() for name in stage.settings.model_fields}
    for name in settings:
        if name not in of_any:
            near = difflib.get_close_matches(name, sorted(of_any), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"{shown(file or '')}: setting {shown(name)!r} is not known{hint}")
    for name in ("stage", "data", "run"):
        if name not in settings:
            raise UsageError(f"--{name} is needed")
    stage = stage_of(str(settings["stage"]))
    for name in settings:
        if name not in stage.settings.model_fields:
            raise UsageError(f"stage {stage.name} has no --{name.replace('_', '-')}; leave it out")
    return stage.settings.model_validate(settings)


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
    config: TrainingConfig, begin: Begin, as_json: bool, others: list[Callable[[Event], None]]
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
        encodes = FAMILIES[stage_of(config.stage).family].codec is not None
        use = "encode data: latents --codec" if encodes else "generate with --checkpoint"
        result({}, [f"{ended}; {use} {shown(config.run)}"], as_json=False)


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
