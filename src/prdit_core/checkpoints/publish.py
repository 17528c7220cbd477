"""Make a small checkpoint for distribution out of a run: averaged weights in half precision.

python -m prdit_core.checkpoints.publish RUN_OR_CHECKPOINT OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from prdit_core.checkpoints.catalog import find
from prdit_core.checkpoints.store import read_header, read_weights, save_checkpoint
from prdit_core.models.tensor_files import check_finite


def publish(source: str | Path, out: str | Path) -> Path:
    """Write the averaged weights of `source` as float16 to the checkpoint folder `out`."""
    path = find(source)
    header = read_header(path)
    weights = {name: weight.half() for name, weight in read_weights(path, header).items()}
    check_finite(weights, "in half precision")
    return save_checkpoint(Path(out), header, weights)


if __name__ == "__main__":
    print(publish(sys.argv[1], sys.argv[2]))
