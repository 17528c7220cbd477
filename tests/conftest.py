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


@pytest.fixture(autouse=True)
def _clean_themes() -> None:
    """Instead of napari's, which loads napari for every test of anything."""


@pytest.fixture(autouse=True)
def _disable_qt_warnings() -> None:
    """Instead of napari's, which loads its window for every test of anything."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Small public CT files."""
    return _folder("PRDIT_TEST_DATA", SHARED / "data")


class Recordings:
    """`parity / name` looks in tests/parity, where the smallest lie, then in ../shared."""

    def __truediv__(self, name: str) -> Path:
        here = Path(__file__).with_name("parity") / name
        return here if here.is_file() else _folder("PRDIT_PARITY", SHARED / "parity") / name


@pytest.fixture(scope="session")
def parity() -> Recordings:
    """Numbers recorded from the official release."""
    return Recordings()
