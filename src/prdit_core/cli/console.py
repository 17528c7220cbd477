"""What all commands share: one-line errors with exit codes, progress, stopping, JSON."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TextIO, TypeVar

import typer
from pydantic import ValidationError

from prdit_core.errors import PrditError, UsageError, first_fault
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.progress import Progress

P = ParamSpec("P")
R = TypeVar("R")
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
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
        except OSError as error:
            raise _fail(f"{error.strerror or error}: {shown(error.filename or '')}", 6) from None
        except typer.Exit:
            raise
        except Exception as error:
            raise _unexpected(error) from None

    return guarded


def _unexpected(error: Exception) -> typer.Exit:
    """Out of memory is a RuntimeError in torch; anything else is a fault of ours."""
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return _fail("out of memory; use a smaller size or another --device", 7)
    kind = type(error).__name__
    return _fail(f"unexpected {kind}: {text}; add --debug and report what it shows", 1)


def _fail(message: str, code: int) -> typer.Exit:
    if os.environ.get(DEBUG_VARIABLE):
        say(traceback.format_exc())
    say(f"prdit-core: {' '.join(message.split())}")
    return typer.Exit(code)


def refuse_unheeded(
    choice: str, given: Mapping[str, object], heeded: Mapping[str, Sequence[str]]
) -> None:
    """Raise `UsageError` for an option that a choice would not heed; None is not given.

    Parameters
    ----------
    heeded : which choices each option is for
    """
    for name, value in given.items():
        if value is not None and choice not in heeded[name]:
            raise UsageError(f"--{name} is for {', '.join(heeded[name])}, not for {choice}")


def say(line: str) -> None:
    """One line for people, on stderr, so that stdout stays for results."""
    _write(sys.stderr, line)


def result(content: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """The outcome of a command on stdout: JSON for machines or lines for people."""
    _write(sys.stdout, json.dumps(content) if as_json else "\n".join(map(shown, lines)))


def _write(stream: TextIO, text: str) -> None:
    """Print; where the reader has gone (... | head) the work goes on unheard."""
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(OSError):  # past the stream, in which another line may be half written
            os.write(2, b"stopping after this step; press Ctrl-C again to stop at once\n")

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
