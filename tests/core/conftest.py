"""Training data and a finished run, made once for all tests of a process that only read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from trainings import content, drawn_set, settings, train

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantoms of 8^3, one of them held out."""
    return drawn_set(tmp_path_factory.mktemp("phantoms"), 8)


@pytest.fixture(scope="session")
def once(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished stage 1: six iterations, of which 2, 4 and 6 were saved."""
    run = tmp_path_factory.mktemp("once")
    train(settings(data, run))
    return run


@pytest.fixture(scope="session")
def expected(once: Path) -> dict[str, bytes]:
    """What it left."""
    return content(once)
