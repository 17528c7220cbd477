"""How long OpenMP's threads spin when they wait, set before torch loads (docs/decisions/0016).

By default they spin for milliseconds. With any other busy process on the machine they then take the
cores from the very threads they wait for, and an evaluation takes ten times as long.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# GNU's runtime counts turns; Intel's and LLVM's (torch on Windows and macOS) take milliseconds.
SHORT_WAIT = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
# Who sets one of these has thought about it.
USERS_CHOICE = (*SHORT_WAIT, "OMP_WAIT_POLICY")


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep soon, unless the user chose how they wait.

    It counts in a process that has not loaded torch yet, and in its children. Which thread computes
    what stays as it is, and so do all results.
    """
    if not any(name in environment for name in USERS_CHOICE):
        environment.update(SHORT_WAIT)
