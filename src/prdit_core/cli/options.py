"""Options that several commands share: one by one, and groups out of what settings say of them."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_type_hints

import typer

from prdit_core.config import SamplingConfig, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic import BaseModel

    Command = Callable[..., None]

Checkpoint = Annotated[
    str,
    typer.Option(help="Bundled name (demo), checkpoint folder, or run folder of `train`."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps; see `devices`.")]
Size = Annotated[
    int | None,
    typer.Option(
        help="Voxels along each edge: one of the resolutions of the model, see `info`. "
        "[the highest]"
    ),
]
Shape = Annotated[
    str | None,
    typer.Option(
        metavar="D,H,W",
        help="Voxels along z, y, x instead of --size: a grid that the model knows, see `info`.",
    ),
]
Class = Annotated[
    str | None,
    typer.Option(
        "--class", help="What to make: a class of the model, see `info`. [the model's first]"
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        help="CPU threads; part of the seed. Default: $PRDIT_THREADS, else all cores.",
    ),
]


@dataclass(frozen=True)
class Group:
    """Options that a command takes as one argument.

    Attributes
    ----------
    options : as typer learns them
    gather : makes the argument of their values, by name
    """

    options: tuple[inspect.Parameter, ...]
    gather: Callable[..., Any]


def takes(argument: str, group: Group) -> Callable[[Command], Command]:
    """Give a command all options of a group where it has one parameter, `argument`.

    typer learns them from the signature, so what the command is called with and what it says of
    itself are made here, once.
    """

    def with_options(command: Command) -> Command:
        names = [option.name for option in group.options]

        @functools.wraps(command)
        def grouped(**given: Any) -> None:
            own = {name: given.pop(name) for name in names}
            command(**given, **{argument: group.gather(**own)})

        parameters: list[inspect.Parameter] = []
        for name, parameter in parameters_of(command).items():
            parameters += group.options if name == argument else [parameter]
        described: Any = grouped
        described.__signature__ = inspect.Signature(parameters)
        described.__annotations__ = {one.name: one.annotation for one in parameters}
        return grouped

    return with_options


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """By name, with types for their names; all by keyword, as typer calls a command."""
    untyped = {"ReadOptions": object, "RawOptions": object}
    types = get_type_hints(function, localns=untyped, include_extras=True)
    return {
        name: one.replace(annotation=types[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in inspect.signature(function).parameters.items()
    }


def option_of(
    settings: type[BaseModel],
    name: str,
    *flags: str,
    words: str | None = None,
    kind: Any = None,
    metavar: str | None = None,
    least: float | None = None,
    usual: Any = None,
) -> inspect.Parameter:
    """The option of a setting.

    Parameters
    ----------
    flags : in place of the one that its name makes
    words : in place of its description
    kind : in place of its type
    least : that typer allows, for numbers whose range the help should show
    usual : where it is not given
    """
    field = settings.model_fields[name]
    text = words_of(settings, name) if words is None else words
    option = typer.Option(*flags, help=text, metavar=metavar, min=least)
    bare = get_type_hints(SimpleNamespace(__annotations__={name: kind or field.annotation}))[name]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=usual,
        annotation=Annotated[Optional[bare], option],  # noqa: UP045  # `|` needs a type
    )


def those_given(**values: Any) -> dict[str, Any]:
    """By name, without those that are not given."""
    return {name: value for name, value in values.items() if value is not None}


def walk_options(names: Iterable[str], words: Mapping[str, str]) -> Group:
    """Settings of a walk; the command takes a dictionary of those that are given.

    Parameters
    ----------
    names : of fields of `SamplingConfig`
    words : in place of a setting's description
    """
    options = (option_of(SamplingConfig, name, words=words.get(name)) for name in names)
    return Group(tuple(options), those_given)
