"""Words everybody uses: windows, schedules, files."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prdit_core.errors import OutputError
from prdit_core.files import shown, write_atomically, write_json
from prdit_core.intensity import Intensity
from prdit_core.schedule import CosineSchedule, LinearSchedule, T

if TYPE_CHECKING:
    from pathlib import Path

WINDOWS = [
    Intensity(),
    Intensity(window_hu=(-1000, 1000)),
    Intensity(window_hu=(-1000, 1500), model_range=(-1.0068, 3.977)),
]


@pytest.mark.parametrize("intensity", WINDOWS)
def test_hu_inside_the_window_come_back(intensity: Intensity) -> None:
    low, high = intensity.window_hu
    hu = np.arange(low, high + 1, dtype=np.int16)
    x = intensity.to_model(hu)
    assert x.min() == pytest.approx(intensity.model_range[0])
    assert x.max() == pytest.approx(intensity.model_range[1])
    np.testing.assert_array_equal(intensity.to_hu(x).round().astype(np.int16), hu)
    outside = np.array([low - 500, high + 500])
    np.testing.assert_allclose(intensity.to_hu(intensity.to_model(outside)), (low, high), atol=1e-3)


def test_a_window_upside_down_is_refused() -> None:
    with pytest.raises(ValidationError):
        Intensity(window_hu=(400, -1000))


@pytest.mark.parametrize("schedule", [CosineSchedule(), LinearSchedule()])
@given(t=st.floats(0, T), t_to=st.floats(0, T))
def test_increments_and_slopes_are_the_integrals_they_claim(
    schedule: CosineSchedule | LinearSchedule, t: float, t_to: float
) -> None:
    """Integrate (s - t)^n times the drift over the step by the midpoint rule."""
    count = 400
    step = (t_to - t) / count
    for power, claimed in ((0, schedule.increments(t, t_to)), (1, schedule.slopes(t, t_to))):
        found = [0.0, 0.0]
        for i in range(count):
            s = t + (i + 0.5) * step
            for share, rate in enumerate(schedule.drift(s)):
                found[share] += (s - t) ** power * rate * step
        scale = abs(t_to - t) ** power
        assert np.allclose(found, claimed, rtol=1e-4, atol=1e-5 * max(scale, 1.0))


def test_the_ends_of_the_process_are_exact() -> None:
    for schedule in (CosineSchedule(), LinearSchedule()):
        assert (schedule.alpha(0), schedule.sigma(0)) == (1.0, 0.0)
        assert (schedule.alpha(T), schedule.sigma(T)) == (0.0, 1.0)
    circle = CosineSchedule()
    for t in (1.0, 250.0, 999.0):
        assert math.hypot(circle.alpha(t), circle.sigma(t)) == pytest.approx(1.0, abs=1e-15)


def test_names_cannot_write_to_the_terminal() -> None:
    assert shown("a\x1b]0;owned\x07\nb") == "a\\x1b]0;owned\\x07\\nb"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = write_json(tmp_path / "kept.json", {"a": 1})
    before = file.read_bytes()

    def fails(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write_atomically(file, fails)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("length", [1, 120, 250])
def test_long_and_odd_names_can_be_written(tmp_path: Path, length: int) -> None:
    for letter, suffix in itertools.product("aö", (".json", ".nii.gz")):
        name = letter * ((length - len(suffix)) // len(letter.encode())) + suffix
        if not name.startswith("."):
            assert write_json(tmp_path / name, {}).is_file()


def test_a_path_below_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        write_json(tmp_path / "file" / "below.json", {})
