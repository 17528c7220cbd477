"""Where the shared material lies, and the rule that tests never change it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"needs {default.name} of ../shared (set {variable})")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Small public CT files."""
    return _folder("PRDIT_TEST_DATA", SHARED / "data")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Numbers recorded from the official release."""
    return _folder("PRDIT_PARITY", SHARED / "parity")
