"""The network that a file of the authors' releases holds: what its shapes and its users say."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from prdit_core.checkpoints.releases.prdit.stated import agreed_of_base, agreed_of_chain, option
from prdit_core.errors import CheckpointError, UsageError
from prdit_core.files import shown
from prdit_core.prdit_config import ModelConfig, Output, RefinerConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from prdit_core.checkpoints.releases.prdit.stated import Stated

# Weights of a refiner, under our names, begin with this; the releases have one at most.
REFINER = "refiners.0."


class Shapes(NamedTuple):
    """What the shapes of a local part say: widths of time embedding, token (d) and tile (o)."""

    width: int
    token_width: int
    tile_width: int


class Cut(NamedTuple):
    """One reading of a local part's shapes."""

    patch: int
    stride: int
    padding: int
    channels: int
    output: Output


def geometry_of(
    stated: Stated, own: Mapping[str, Any], ours: Mapping[str, Tensor], source: Path
) -> tuple[Stated, ModelConfig]:
    """What is known about a file in the end, and the one network that fits it.

    Parameters
    ----------
    own : the file's own configuration, empty if it has none
    ours : its weights under our names

    Raises
    ------
    UsageError
        If something is missing, ambiguous, or stated otherwise than the file says.
    CheckpointError
        If the weights are those of no network that is known here.
    """
    if any(name.startswith(REFINER) for name in ours):
        agreed = agreed_of_chain(stated, own, source)
        return agreed, _model_config(agreed, ours, source, ["", REFINER])
    agreed = agreed_of_base(stated, own, source)
    return agreed, _model_config(agreed, ours, source, [""])


def _model_config(
    agreed: Stated, ours: Mapping[str, Tensor], source: Path, prefixes: list[str]
) -> ModelConfig:
    """Configuration that fits statement and shapes; exactly one must.

    Parameters
    ----------
    prefixes : of the names of each local part's weights: the base's, then a refiner's
    """
    parts = [_shapes(ours, prefix, source) for prefix in prefixes]
    depth = len({n.split(".")[2] for n in ours if n.startswith("global_residual.blocks.")})
    _check_agreed(agreed, depth, source)
    base, *above = _only_fit(agreed, parts, source)
    try:
        config = ModelConfig(
            **base._asdict(),
            width=parts[0].width,
            depth=depth,
            heads=agreed.heads or 1,
            norm=agreed.norm or "layer",
        )
        refiners = [
            RefinerConfig(patch=cut.patch, stride=cut.stride, padding=cut.padding, width=part.width)
            for cut, part in zip(above, parts[1:], strict=True)
        ]
        return config.refined_by(*refiners)
    except ValidationError as error:
        raise UsageError(f"{shown(source)}: {error.errors()[0]['msg']}") from error


def _shapes(ours: Mapping[str, Tensor], prefix: str, source: Path) -> Shapes:
    widths = []
    for name in ("time.shared.weight", "time.local_head.weight", "local.out.weight"):
        weight = ours.get(prefix + name)
        if weight is None or not weight.dim():
            raise CheckpointError(
                f"{shown(source)} holds no PRDiT network: {prefix}{name} is missing or no matrix"
            )
        widths.append(weight.shape[0])
    return Shapes(*widths)


def _check_agreed(agreed: Stated, depth: int, source: Path) -> None:
    needed = {"norm": agreed.norm, "size": agreed.size, "heads": agreed.heads if depth else 1}
    unsaid = [option(name) for name, value in needed.items() if value is None]
    if unsaid:
        raise UsageError(f"{shown(source)} does not say {', '.join(unsaid)}: give them")


def _only_fit(agreed: Stated, parts: list[Shapes], source: Path) -> tuple[Cut, ...]:
    """A cut for each local part, all of the same channels and output."""
    stated = [
        (agreed.patch, agreed.stride, agreed.padding),
        (agreed.refiner_patch, agreed.refiner_stride, agreed.refiner_padding),
    ]
    cuts = [
        _fitting(part, agreed.channels, *known) for part, known in zip(parts, stated, strict=False)
    ]
    fitting = [
        fit for fit in product(*cuts) if len({(cut.channels, cut.output) for cut in fit}) == 1
    ]
    if len(fitting) != 1:
        options = "; ".join(_options(*fit) for fit in fitting)
        raise UsageError(
            f"{shown(source)}: its shapes fit "
            + (f"several geometries, choose one: {options}" if fitting else "no such geometry")
        )
    if len(parts) > 1 and fitting[0][0].output == "velocity":
        raise CheckpointError(
            f"{shown(source)} is a velocity model under a refiner; only those that predict "
            "image-and-noise can be refined"
        )
    return fitting[0]


def _fitting(
    part: Shapes,
    channels: int | None,
    patch: int | None,
    stride: int | None,
    padding: int | None,
) -> list[Cut]:
    """All cuts with C p^3 = d and s^3 Cout = o that were not ruled out."""
    cuts: list[Cut] = []
    outputs: tuple[tuple[Output, int], ...] = (("image-and-noise", 2), ("velocity", 1))
    for c in (channels,) if channels else range(1, 65):
        for p in (patch,) if patch else range(1, 65):
            if c * p**3 != part.token_width:
                continue
            for s in (stride,) if stride else range(1, p + 1):
                border, odd = divmod(p - s, 2)
                if border < 0 or odd or padding not in (None, border):
                    continue
                cuts += [
                    Cut(p, s, border, c, output)
                    for output, share in outputs
                    if s**3 * c * share == part.tile_width
                ]
    return cuts


def _options(base: Cut, *above: Cut) -> str:
    """The words of the command that choose this geometry."""
    words = f"--patch {base.patch} --stride {base.stride} --padding {base.padding}"
    for cut in above:
        words += f" --refiner-patch {cut.patch} --refiner-stride {cut.stride}"
        words += f" --refiner-padding {cut.padding}"
    return f"{words} --channels {base.channels}"
