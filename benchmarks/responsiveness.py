"""How long napari's event loop is kept waiting while a volume streams into three planes.

Needs a display; without one:
xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" python benchmarks/responsiveness.py
The model is the local part of `small` with random weights: what is measured is the window.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import napari
import torch
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.planes import show_planes
from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.store import save_checkpoint
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.prdit.network import PRDiT
from prdit_core.models.prdit.zoo import SMALL
from prdit_core.schedule import CosineSchedule

TICK_MS = 5
HEAD = "| volume | steps | s a step | pictures | tick, ms: median | 95 % | worst |"


def checkpoint(path: Path, size: int) -> Path:
    """The local part of `small` with random weights, none of them zero."""
    model = SMALL.model_copy(update={"depth": 0})
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: 0.05 * torch.randn(weight.shape, generator=generator)
        for name, weight in PRDiT(model).state_dict().items()
    }
    header = Header(
        model=model,
        schedule=CosineSchedule(noise_std=0.5),
        intensity=Intensity(),
        geometry=cubic(size, 320.0),
    )
    return save_checkpoint(path, header, weights)


def measure(size: int, steps: int) -> str:
    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    dock = GenerateDock(viewer)
    viewer.window.add_dock_widget(dock, area="right")
    show_planes(viewer)
    dock.walk.device.setCurrentText("cpu")
    dock.walk.steps.setValue(steps)
    pictures, ticks = [], []
    show = dock.panel.live.show
    dock.panel.live.show = lambda voxels: (show(voxels), pictures.append(1))[0]
    app = QApplication.instance()
    last = [0.0]

    def tick() -> None:
        now = time.perf_counter()
        ticks.append(1000 * (now - last[0]))
        last[0] = now

    timer = QTimer()
    timer.timeout.connect(tick)
    with tempfile.TemporaryDirectory() as folder:
        dock.choose_checkpoint(str(checkpoint(Path(folder) / "random", size)))
        dock.generate()
        bar = dock.panel.controls.progress
        while bar.value() < 2:  # loading, first layer, first paint are not streaming
            app.processEvents()
        begun, first = time.perf_counter(), bar.value()
        last[0] = begun
        timer.start(TICK_MS)
        while dock.panel.job.running:
            app.processEvents()
            time.sleep(0.001)
        spent = time.perf_counter() - begun
    timer.stop()
    dock.shut_down()
    viewer.close()
    ticks.sort()
    tail = ticks[int(0.95 * len(ticks))]
    pace = spent / (steps - first)
    return (
        f"| {size}^3 | {steps} | {pace:.2f} | {len(pictures)} | {statistics.median(ticks):.0f} "
        f"| {tail:.0f} | {ticks[-1]:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    steps = parser.parse_args().steps
    print(HEAD, "|---|---|---|---|---|---|---|", sep="\n")
    for size in (64, 128):
        print(measure(size, steps), flush=True)


if __name__ == "__main__":
    main()
