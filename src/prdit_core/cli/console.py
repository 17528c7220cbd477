"""What all commands share: one-line errors with exit codes, progress, stopping, JSON."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer
from pydantic import ValidationError

from prdit_core.errors import PrditError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress

P = ParamSpec("P")
R = TypeVar("R")
DEBUG_VARIABLE = "PRDIT_DEBUG"


def door(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every expected error of a command into one line on stderr and its exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except PrditError as error:
            raise _fail(str(error), error.exit_code) from None
        except ValidationError as error:
            raise _fail(first_fault(error), 2) from None
        except KeyboardInterrupt:
            raise _fail("stopped", 130) from None
        except MemoryError:
            raise _fail("out of memory; use a smaller size or close other programs", 7) from None
        except BrokenPipeError:
            # The reader has gone (prdit-core ... | head); what was written stays.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return guarded


def first_fault(error: ValidationError) -> str:
    """First complaint of a validation, in one line."""
    fault = error.errors()[0]
    where = " ".join(str(part) for part in fault["loc"]) or "settings"
    return f"{where}: {fault['msg']}, not {fault['input']!r}"


def _fail(message: str, code: int) -> typer.Exit:
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    print(f"prdit-core: {' '.join(message.split())}", file=sys.stderr)
    return typer.Exit(code)


def say(line: str) -> None:
    """One line for people, on stderr, so that stdout stays for results."""
    print(line, file=sys.stderr, flush=True)


def result(content: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """The outcome of a command on stdout: JSON for machines or lines for people."""
    print(json.dumps(content, ensure_ascii=False) if as_json else "\n".join(lines), flush=True)


class Stop:
    """Whether the user asked to stop, and the exit code for it."""

    def __init__(self) -> None:
        self.code: int | None = None

    def raise_if_asked(self) -> None:
        """Leave with 130 (Ctrl-C) or 143 (SIGTERM) if a stop was asked for."""
        if self.code is not None:
            raise typer.Exit(self.code)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let the first Ctrl-C or SIGTERM finish the step at hand; a second Ctrl-C stops at once."""
    stop = Stop()

    def ask(number: int, _: object) -> None:
        stop.code = 128 + number
        say("stopping after this step; press Ctrl-C again to stop at once")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def progress(shown: bool) -> Iterator[Progress]:
    """A progress bar with time left on stderr; silent where nobody looks or a machine listens."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not shown or not console.is_terminal,
        transient=True,
    )
    with bar:
        yield bar
