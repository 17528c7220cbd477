"""Named network sizes: the paper's family and the small one for two cores."""

from __future__ import annotations

import re

from pydantic import ValidationError

from prdit_core.errors import UsageError
from prdit_core.prdit_config import ModelConfig, Norm, Output, RefinerConfig

# size: (width, heads), Table 10 and the release
SIZES = {"XS": (192, 6), "S": (384, 6), "B": (768, 12), "L": (1024, 16), "XL": (1152, 16)}
STRIDE = 8
SMALL = ModelConfig(patch=6, stride=4, padding=1, width=192, depth=4, heads=6)

_NUMBERS = re.compile(r"(\d+)/(\d+)/(\d+)/(\d+)")
_NAME = re.compile(r"(?:PRDiT|DiT)-(XS|S|B|L|XL)/(\d+)/(\d+)")


def model_config(
    name: str, *, norm: Norm = "layer", output: Output = "image-and-noise", channels: int = 1
) -> ModelConfig:
    """Configuration behind a name.

    Parameters
    ----------
    name
        ``small``, or size/patch/depth as in ``PRDiT-B/12/4`` (stride 8, padding (patch - 8) / 2).

    Raises
    ------
    UsageError
        If the name is unknown or the combination impossible (size L with a global part).
    """
    if name == "small":
        sizes = SMALL.model_dump()
        return ModelConfig(**{**sizes, "norm": norm, "output": output, "channels": channels})
    match = _NAME.fullmatch(name)
    if match is None:
        raise UsageError(
            f"model {name!r} is not known; say small, or size/patch/depth such as PRDiT-B/12/4 "
            f"with a size of {', '.join(SIZES)}"
        )
    size, patch, depth = match.group(1), int(match.group(2)), int(match.group(3))
    width, heads = SIZES[size]
    try:
        return ModelConfig(
            patch=patch,
            stride=STRIDE,
            padding=max(patch - STRIDE, 0) // 2,
            channels=channels,
            width=width,
            depth=depth,
            heads=heads,
            norm=norm,
            output=output,
        )
    except ValidationError as error:
        raise UsageError(f"model {name}: {error.errors()[0]['msg']}") from error


def refiner_config(name: str) -> RefinerConfig:
    """Patches and width of a refiner: those of a named network, or numbers.

    Parameters
    ----------
    name
        As `model_config` takes it, or patch/stride/padding/width as in ``8/4/2/192``.

    Raises
    ------
    UsageError
        If the name is unknown or the patches do not tile.
    """
    match = _NUMBERS.fullmatch(name)
    if match is None:
        own = model_config(name)
        return RefinerConfig(
            patch=own.patch, stride=own.stride, padding=own.padding, width=own.width
        )
    patch, stride, padding, width = map(int, match.groups())
    try:
        return RefinerConfig(patch=patch, stride=stride, padding=padding, width=width)
    except ValidationError as error:
        raise UsageError(f"model {name}: {error.errors()[0]['msg']}") from error
