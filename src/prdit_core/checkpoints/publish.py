"""Make a small checkpoint for distribution out of a run: averaged weights in half precision.

python -m prdit_core.checkpoints.publish RUN_OR_CHECKPOINT OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from prdit_core.checkpoints.catalog import find
from prdit_core.checkpoints.controls import record_of_base, save_control
from prdit_core.checkpoints.store import (
    read_codec,
    read_control,
    read_header,
    read_weights,
    save_checkpoint,
)
from prdit_core.models.tensor_files import check_finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def publish(source: str | Path, out: str | Path) -> Path:
    """Write the averaged weights of `source` as float16 to the checkpoint folder `out`.

    A control names its base as it is then; of a base that was published before, nothing changes.
    """
    path = find(source)
    header = read_header(path)
    weights, codec = _halved(read_weights(path, header)), read_codec(path, header)
    halved = None if codec is None else _halved(codec)
    control = read_control(path, header)
    if header.control is None or control is None:
        return save_checkpoint(Path(out), header, weights, codec=halved)
    with TemporaryDirectory() as place:
        alone = header.model_copy(update={"control": None, "record": record_of_base(header)})
        base = save_checkpoint(Path(place) / "base", alone, weights, codec=halved)
        return save_control(Path(out), base, header.control.config, _halved(control), header.record)


def _halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    halved = {name: weight.half() for name, weight in weights.items()}
    check_finite(halved, "in half precision")
    return halved


if __name__ == "__main__":
    print(publish(sys.argv[1], sys.argv[2]))
