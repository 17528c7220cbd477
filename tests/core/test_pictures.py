"""Pictures show the patient as radiologists expect, and signs in their colours."""

from __future__ import annotations

import numpy as np
import pytest

from prdit_core.pictures import Panel, planes

BLUE, BLACK, RED = (0, 89, 255), (0, 0, 0), (255, 89, 0)


def panel(voxels: np.ndarray, palette: str = "grey") -> Panel:
    return Panel(voxels.astype(np.float32), (1.0, 1.0, 1.0), (-100.0, 100.0), "", palette)


@pytest.mark.parametrize(("hu", "colour"), [(-100, BLUE), (0, BLACK), (100, RED)])
def test_differences_are_blue_below_zero_and_red_above(hu: int, colour: tuple[int, ...]) -> None:
    for plane in planes(panel(np.full((4, 4, 4), hu), "signed")):
        assert plane.getpixel((10, 10)) == colour


# One bright corner of the body, (z, y, x) rising to superior, posterior, left, and the corner of
# the axial, coronal and sagittal picture where it must be: (right, bottom) of each.
CORNERS = {
    "right, front, feet": ((0, 0, 0), (False, False), (False, True), (False, True)),
    "left, front, feet": ((0, 0, 1), (True, False), (True, True), (False, True)),
    "right, back, feet": ((0, 1, 0), (False, True), (False, True), (True, True)),
    "right, front, head": ((1, 0, 0), (False, False), (False, False), (False, False)),
}


@pytest.mark.parametrize("name", CORNERS)
def test_the_patients_right_is_on_the_left_and_superior_is_up(name: str) -> None:
    (z, y, x), *expected = CORNERS[name]
    voxels = np.full((2, 2, 2), -100.0)
    voxels[z, y, x] = 100.0
    # Each plane is the middle one, so it is filled along its own axis.
    for axis, (plane, (right, bottom)) in enumerate(zip(range(3), expected, strict=True)):
        filled = np.repeat(voxels.max(axis=axis, keepdims=True), 2, axis=axis)
        picture = np.asarray(planes(panel(filled))[plane].convert("L"), dtype=float)
        rows, columns = (half.mean() for half in np.nonzero(picture > 128))
        assert (columns > picture.shape[1] / 2, rows > picture.shape[0] / 2) == (right, bottom)
