"""Where the shared material lies, that tests never change it, and how tests are shared out."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# One thread in every process of the tests, set before torch loads: networks are tiny, and threads
# of two test processes would take the cores from each other.
os.environ |= {"OMP_NUM_THREADS": "1", "PRDIT_THREADS": "1"}


def pytest_configure(config: pytest.Config) -> None:
    """No test asserts a time, so neither do those that hypothesis repeats, where it is there."""
    if config.pluginmanager.hasplugin("hypothesispytest"):
        from hypothesis import settings

        settings.register_profile("no-deadline", deadline=None)
        settings.load_profile("no-deadline")


SHARED = Path(__file__).resolve().parents[2] / "shared"
CPU_SECONDS = "cpu_seconds"
SLOW = 1.0  # CPU seconds; what takes more is marked slow


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


@pytest.fixture(scope="session")
def gpu() -> str:
    """A graphics card; $PRDIT_TEST_GPU names another device to try its tests on, such as cpu."""
    if named := os.environ.get("PRDIT_TEST_GPU"):
        return named
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a GPU with CUDA (PRDIT_TEST_GPU=cpu tries these tests on the CPU)")
    return "cuda"


# ---------------------------------------------------------------------------------------------
# Sharing out among processes (pytest-xdist): a file goes to one process, for its fixtures. Groups
# would keep all windows together, but xdist 3.8 cannot name them to pytest 9.2. Files with windows
# go first, since they take longest, then those with most slow tests, so that no long file is left
# to one process at the end.


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: ("plugin" not in item.path.parts, -slow[item.path]))


# ---------------------------------------------------------------------------------------------
# Tests that are not marked slow, and are.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """CPU seconds of this process and of the children it waited for."""
    before = sum(os.times()[:4])
    try:
        return (yield)
    finally:
        spent = sum(os.times()[:4]) - before
        if item.get_closest_marker("slow") is None:
            item.user_properties.append((CPU_SECONDS, spent))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    spent = {
        report.nodeid: dict(report.user_properties).get(CPU_SECONDS, 0.0)
        for report in reports
        if report.when == "call"
    }
    slow = {name: seconds for name, seconds in spent.items() if seconds > SLOW}
    if slow:
        terminalreporter.section(f"fast tests above {SLOW:g} CPU seconds: mark them slow")
    for name, seconds in sorted(slow.items(), key=lambda entry: -entry[1]):
        terminalreporter.write_line(f"{seconds:6.1f} s  {name}")
