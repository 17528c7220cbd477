"""`python -m napari_prdit`, which `make napari` runs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# Closes the window when a layer of ours has a picture, and says what is there.
WATCHED = """
import runpy
import napari
from qtpy.QtCore import QTimer

def look():
    viewer = napari.current_viewer()
    if viewer is not None and len(viewer.layers) and viewer.layers[0].data.std() > 0:
        timer.stop()
        print(viewer.layers[0].name, *viewer.window.dock_widgets, sep="\\n")
        viewer.close()

def run():
    timer.start(100)
    begin()

timer = QTimer(napari.qt.get_qapp())
timer.timeout.connect(look)
begin, napari.run = napari.run, run
runpy.run_module("napari_prdit", run_name="__main__")
"""


@pytest.mark.slow
def test_a_volume_emerges_without_a_click(display: None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert shown.startswith("PRDiT")
    assert "Generate CT volume" in shown and "Coronal and sagittal planes" in shown


def test_without_napari_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "napari.py").write_text("raise ModuleNotFoundError('no', name='napari')")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import runpy; runpy.run_module('napari_prdit.__main__', run_name='__main__')",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == 'napari is not installed here; in the clone: pip install ".[all]"'
