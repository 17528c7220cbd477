"""Moving pictures of the plugin at work, for the README and docs/images/plugin.

Needs a display; `make gallery` brings its own. Names of pictures as arguments, else all.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import ndimage
from screenshots import OUT, PLUGIN, nobodys_settings, opened, painting, settle, wait, window

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer

WIDTH = 1200  # of a frame, in pixels
EDGE = 64  # voxels, however quick this machine is
FRAME_MS, LONG_MS = 250, 1500
LARGEST_BYTES = 3 * 2**20
GROWN = 5  # voxels of 2.5 mm, by which a painted heart becomes larger
QUALITIES = (90, 80, 70, 60, 50, 40, 30)  # the first that is small enough


class Film:
    """Frames of a window, each with how long it stays."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._frames: list[Image.Image] = []
        self._stay_ms: list[int] = []

    def take(self, stay_ms: int = FRAME_MS) -> None:
        """Picture the window as it is now; if nothing has changed, the last frame stays longer."""
        shot = Image.fromarray(self._viewer.screenshot(canvas_only=False, flash=False)[..., :3])
        frame = shot.resize((WIDTH, round(WIDTH * shot.height / shot.width)), Image.Resampling.BOX)
        if self._frames and frame == self._frames[-1]:
            self._stay_ms[-1] = max(self._stay_ms[-1], stay_ms)
            return
        self._frames.append(frame)
        self._stay_ms.append(stay_ms)

    def save(self, name: str) -> None:
        """Write it as WebP that plays without end."""
        file = OUT / f"{name}.webp"
        first, *others = self._frames
        for quality in QUALITIES:
            first.save(
                file,
                save_all=True,
                append_images=others,
                duration=self._stay_ms,
                loop=0,
                quality=quality,
                method=5,
            )
            if file.stat().st_size < LARGEST_BYTES:
                break
        else:
            raise ValueError(f"{file} has {len(self._frames)} frames, which are too many")
        print(f"{file}: {len(self._frames)} frames, {file.stat().st_size / 2**20:.1f} MB")


def generate_dock(viewer: Viewer) -> Any:
    """The dock, once the side views have opened below the axial one."""
    dock = opened(viewer, "Generate CT volume")
    dock.model.size_choice.choose(EDGE)
    settle(3)
    return dock


def emerging(viewer: Viewer, film: Film) -> None:
    """A volume from noise to its end, in three planes."""
    dock = generate_dock(viewer)
    film.take()
    dock.generate()
    while dock.panel.job.running:
        settle(0.1)
        if viewer.layers:  # not while the model is loaded, when only the progress bar moves
            film.take()
    settle(2)
    film.take(2 * LONG_MS)


def time_travel(viewer: Viewer, film: Film) -> None:
    """Back to an early step of a finished volume, and on from there to another ending."""
    dock = generate_dock(viewer)
    dock.generate()
    wait(lambda: not dock.panel.job.running)
    settle(3)
    film.take(LONG_MS)
    slider = dock.panel.travel.slider
    middle = slider.maximum() // 3
    for place in range(slider.maximum(), middle - 1, -1):
        slider.setValue(place)
        settle(0.3)
        film.take()
    film.take(LONG_MS)
    dock.panel.branch(dock.panel.travel.step, seed=1)
    while dock.panel.job.running:
        settle(0.1)
        film.take()
    settle(2)
    film.take(2 * LONG_MS)


def inspector(viewer: Viewer, film: Film) -> None:
    """A scan under noise, and the parts of what the model predicts for it."""
    viewer.open_sample(PLUGIN, "phantom")
    viewer.layers.selection.active = viewer.layers["phantom"]
    dock = opened(viewer, "Inspect local and global part")
    settle(2)
    film.take(LONG_MS)
    for act in (dock.split_levels, dock.split):
        act()
        wait(lambda: not dock.job.running)
    for flip in dock.parts.flips.values():
        if flip.isEnabled() and flip.isVisible():
            flip.click()
            settle(0.5)
            film.take(LONG_MS)


def painted(viewer: Viewer, film: Film) -> None:
    """A chest for painted organs; the heart is painted larger, and the chest follows."""
    from prdit_core.data.phantoms import LABELS

    dock, organs = painting(viewer)
    heart = organs.data == LABELS["heart"]
    viewer.dims.point = viewer.layers["phantom"].data_to_world(ndimage.center_of_mass(heart))
    settle(3)
    film.take(2 * LONG_MS)
    _follow(dock, film, organs)
    air = np.isin(organs.data, [LABELS["lung_right"], LABELS["lung_left"]])
    for grown in range(1, GROWN + 1):  # as a brush does it, rim by rim
        rim = ndimage.binary_dilation(heart, iterations=grown) & air
        organs.data = np.where(rim, LABELS["heart"], organs.data).astype(organs.data.dtype)
        settle(0.3)
        film.take()
    film.take(LONG_MS)
    _follow(dock, film, organs)


def _follow(dock: Any, film: Film, organs: Any) -> None:
    """Generate, and look at the end without the labels that lie above it."""
    dock.generate()
    while dock.panel.job.running:
        settle(0.1)
        film.take()
    organs.opacity = 0.0
    settle(1)
    film.take(2 * LONG_MS)
    organs.opacity = 0.7
    settle(0.3)
    film.take(LONG_MS)


FILMS: dict[str, Callable[[Viewer, Film], None]] = {
    "emerging": emerging,
    "time-travel": time_travel,
    "inspector": inspector,
    "painted": painted,
}


def main(names: list[str]) -> None:
    """Make some of the pictures."""
    OUT.mkdir(parents=True, exist_ok=True)
    with nobodys_settings():
        for name in names or FILMS:
            viewer = window()
            film = Film(viewer)
            FILMS[name](viewer, film)
            film.save(name)
            viewer.close()
            settle()


if __name__ == "__main__":
    main(sys.argv[1:])
