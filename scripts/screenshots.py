"""Screenshots of every dock at work, in light and dark, for docs/images/plugin.

Needs a display; `make screenshots` brings its own. Names of docks as arguments, else all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari import Viewer

OUT = Path(__file__).resolve().parents[1] / "docs/images/plugin"
PLUGIN = "napari-prdit"
SIZE = (1400, 900)
THEMES = ("dark", "light")
PATIENCE_S = 600
# A training that has something to show within a minute or two on two cores.
ROOM = Path(tempfile.gettempdir()) / "PRDiT"
TRAINING = "--iterations 400 --batch-size 4 --lr 1e-3 --save-every 50 --preview-every 50".split()


def generate(viewer: Viewer) -> None:
    """A volume of the bundled model, and what can be done with it."""
    dock = opened(viewer, "Generate CT volume")
    dock.model.size_choice.choose(64)
    dock.walk.seed.setValue(3)
    dock.generate()
    wait(lambda: not dock.panel.job.running)


def generate_series(viewer: Viewer) -> None:
    """Three volumes to pick from, and a step of the last one."""
    dock = opened(viewer, "Generate CT volume")
    dock.model.size_choice.choose(64)
    dock.walk.take_preset("fast")
    dock.walk.seed.setValue(3)
    dock.walk.count.setValue(3)
    dock.generate()
    wait(lambda: not dock.panel.job.running)
    dock.panel.travel.slider.setValue(3)


def generate_painted(viewer: Viewer) -> None:
    """A volume that belongs to the painted organs of a phantom, which lie over it."""
    dock, organs = painting(viewer)
    dock.generate()
    wait(lambda: not dock.panel.job.running)
    organs.opacity = 0.25
    settle(3)  # the side views open one by one


def painting(viewer: Viewer) -> tuple[Any, Any]:
    """The dock with the model that obeys labels, and a layer of organs that it shall obey."""
    viewer.open_sample(PLUGIN, "phantom")
    viewer.layers["phantom"].visible = False
    organs = viewer.layers["phantom: organs"]
    dock = opened(viewer, "Generate CT volume")
    dock.choose_checkpoint("demo-control")
    dock.condition.layers.choose(organs)
    organs.visible = True
    return dock, organs


def reconstruct(viewer: Viewer) -> None:
    """A painted part of a lung of a phantom, three proposals, and what was imagined."""
    viewer.open_sample(PLUGIN, "phantom")
    dock = opened(viewer, "Reconstruct and edit")
    dock.choose("region")
    dock.model.size_choice.choose(64)
    viewer.dims.point = (20.0, 15.0, 60.0)
    dock.region.paint()
    dock.region.form.region.chosen.data[46:66, 40:66, 72:98] = 1
    dock.region.regenerate()
    done(dock.region)
    settle(3)  # the side views open one by one


def few_views(viewer: Viewer) -> None:
    """A phantom from eight views, beside methods without a model; where the samples differ."""
    viewer.open_sample(PLUGIN, "phantom")
    dock = opened(viewer, "Reconstruct and edit")
    dock.model.size_choice.choose(64)
    dock.samples.reconstruct()
    done(dock.samples)
    for method in ("fbp", "sirt"):
        dock.samples.compare(method)
        done(dock.samples)
    dock.samples.table.choose("mean")
    settle(3)  # the side views open one by one


def planes(viewer: Viewer) -> None:
    """All three planes of a phantom, away from its middle."""
    viewer.open_sample(PLUGIN, "phantom")
    opened(viewer, "Coronal and sagittal planes")
    viewer.dims.point = (20.0, 15.0, 60.0)
    settle(3)  # the side views open one by one


def inspect(viewer: Viewer) -> None:
    """Both parts for a phantom under noise, and their shares at all noise levels."""
    viewer.open_sample(PLUGIN, "phantom")
    dock = opened(viewer, "Inspect local and global part")
    for act in (dock.split_levels, dock.split):
        act()
        wait(lambda: not dock.job.running)


def train(viewer: Viewer) -> None:
    """Two finished runs, and the newest picture of the second as a layer."""
    dock = opened(viewer, "Train on CT scans")
    dock.choose_runs_folder(trained())
    dock.tabs.setCurrentIndex(1)
    settle(3)
    dock.view.open_picture(max(trained().glob("chest-global/previews/*.png")))


def train_new(viewer: Viewer) -> None:
    """The form for a new run."""
    opened(viewer, "Train on CT scans").choose_runs_folder(trained())
    settle(3)


def evaluate(viewer: Viewer) -> None:
    """A finished evaluation of a small run, and its nearest pairs."""
    from qtpy.QtGui import QDesktopServices

    dock = opened(viewer, "Train on CT scans")
    dock.choose_runs_folder(trained())
    dock.tabs.setCurrentIndex(1)
    dock.runs.choose(str(trained() / "chest-global"))
    dock.view.evaluate_fold.open()
    box = dock.view.evaluating
    real = str(ROOM / "real")  # more than the few scans that the run held out
    command("phantoms", "--count", "12", "--size", "16", "--seed", "1", "--out", real)
    box.form.real.choose(real)
    box.form.count.setValue(12)
    with patch.object(QDesktopServices, "openUrl"):  # the page is no part of the picture
        box.evaluate()
        wait(lambda: box.idle)
    if box.message.kind == "error":
        raise RuntimeError(box.message.text())
    settle(3)
    dock.tabs.widget(1).ensureWidgetVisible(box.pairs)


@cache
def trained() -> Path:
    """A folder with a run of each stage, made anew."""
    shutil.rmtree(ROOM, ignore_errors=True)
    data, runs = str(ROOM / "data"), ROOM / "runs"
    local, whole = str(runs / "chest-local"), str(runs / "chest-global")
    command("phantoms", "--count", "24", "--size", "16", "--out", data)
    command("train", "--stage", "local", "--run", local, "--data", data, *TRAINING)
    command(
        "train", "--stage", "global", "--run", whole, "--from", local, "--data", data, *TRAINING
    )
    return runs


DOCKS: dict[str, Callable[[Viewer], None]] = {
    "generate": generate,
    "generate-series": generate_series,
    "generate-painted": generate_painted,
    "reconstruct": reconstruct,
    "few-views": few_views,
    "planes": planes,
    "inspect": inspect,
    "train": train,
    "train-new": train_new,
    "evaluate": evaluate,
}


def opened(viewer: Viewer, title: str) -> Any:
    """A dock of ours, as the menu opens it."""
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, title)
    return dock


def command(*words: str) -> None:
    """Run prdit-core, as the training dock does."""
    subprocess.run([sys.executable, "-m", "prdit_core.cli", *words], check=True)


def wait(finished: Callable[[], bool]) -> None:
    """Let the window live until something is done."""
    end = time.monotonic() + PATIENCE_S
    while not finished():
        if time.monotonic() > end:
            raise TimeoutError(f"not done within {PATIENCE_S} s")
        settle(0.1)


def done(panel: Any) -> None:
    """Wait for the work of a panel, which must not fail."""
    wait(lambda: not panel.job.running)
    if panel.message.kind == "error":
        raise RuntimeError(panel.message.text())


def settle(seconds: float = 1.0) -> None:
    """Let the window paint."""
    from qtpy.QtTest import QTest

    QTest.qWait(round(seconds * 1000))


@contextmanager
def nobodys_settings() -> Iterator[None]:
    """Let napari have its own settings, and nobody's; to be entered before it is imported."""
    with tempfile.TemporaryDirectory() as settings:
        os.environ["NAPARI_CONFIG"] = str(Path(settings) / "settings.yaml")
        os.environ["XDG_CACHE_HOME"] = settings  # times that other sessions measured
        yield


def window() -> Viewer:
    """An empty window, painted once."""
    from napari import Viewer

    viewer = Viewer(show_welcome_screen=False)
    viewer.window.resize(*SIZE)
    settle()
    return viewer


def shoot(name: str) -> None:
    """Picture one dock in both themes."""
    viewer = window()
    DOCKS[name](viewer)
    for theme in THEMES:
        viewer.theme = theme
        settle()
        picture = viewer.screenshot(canvas_only=False, flash=False)
        file = OUT / f"{name}-{theme}.png"
        colours = Image.fromarray(picture[..., :3]).quantize(256, Image.Quantize.FASTOCTREE)
        colours.save(file, optimize=True)
        print(file)
    viewer.close()
    settle()


def main(names: list[str]) -> None:
    """Picture some docks."""
    OUT.mkdir(parents=True, exist_ok=True)
    with nobodys_settings():
        for name in names or DOCKS:
            shoot(name)


if __name__ == "__main__":
    main(sys.argv[1:])
