"""Words everybody uses: windows, schedules, files."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from prdit_core.errors import OutputError
from prdit_core.files import shown, write_atomically, write_json
from prdit_core.intensity import Intensity
from prdit_core.schedule import (
    AnySchedule,
    CosineSchedule,
    LinearSchedule,
    Schedule,
    T,
    TableSchedule,
    VPCosineSchedule,
    VPLinearSchedule,
)

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


CONTINUOUS = [CosineSchedule(), LinearSchedule()]
TABLES = [VPLinearSchedule(), VPCosineSchedule(), VPCosineSchedule(entries=8)]
SCHEDULES = [*CONTINUOUS, *TABLES]


def integral(schedule: Schedule, t: float, t_to: float, power: int) -> list[float]:
    """Integral of (s - t)^power times the drift by the midpoint rule, finer near the data."""
    count = 800
    edges = [t + (t_to - t) * i / count for i in range(count + 1)]
    if isinstance(schedule, TableSchedule):  # whose sigma rises there as a square root does
        edges = [
            (math.sqrt(t) + (math.sqrt(t_to) - math.sqrt(t)) * i / count) ** 2
            for i in range(count + 1)
        ]
    total = [0.0, 0.0]
    for begin, end in itertools.pairwise(edges):
        s = 0.5 * (begin + end)
        for share, rate in enumerate(schedule.drift(s)):
            total[share] += (s - t) ** power * rate * (end - begin)
    return total


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@settings(max_examples=40, deadline=None)
@given(t=st.floats(0, T), t_to=st.floats(0, T))
def test_increments_and_slopes_are_the_integrals_they_claim(
    schedule: Schedule, t: float, t_to: float
) -> None:
    for power, claimed in ((0, schedule.increments(t, t_to)), (1, schedule.slopes(t, t_to))):
        scale = max(abs(t_to - t) ** power, 1.0)
        expected = integral(schedule, t, t_to, power)
        assert np.allclose(claimed, expected, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@given(t=st.floats(1e-3, T - 1e-3))
def test_a_time_is_found_by_its_log_snr(schedule: Schedule, t: float) -> None:
    assert schedule.time_at(schedule.log_snr(t)) == pytest.approx(t, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_signal_falls_and_noise_rises(schedule: Schedule) -> None:
    times = np.linspace(0, T, 1501)
    assert np.all(np.diff([schedule.alpha(t) for t in times]) < 0)
    assert np.all(np.diff([schedule.sigma(t) for t in times]) > 0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_comes_back_from_a_header(schedule: Schedule) -> None:
    schedule.alpha(500.0)  # a table that was used is the same schedule
    back = TypeAdapter(AnySchedule).validate_json(schedule.model_dump_json())
    assert back == schedule and type(back) is type(schedule)


def test_the_ends_of_the_process_are_exact() -> None:
    for schedule in SCHEDULES:
        assert (schedule.alpha(0), schedule.sigma(0)) == (1.0, 0.0)
    for schedule in CONTINUOUS:
        assert (schedule.alpha(T), schedule.sigma(T)) == (0.0, 1.0)
    for schedule in (CosineSchedule(), *TABLES):
        for t in (1.0, 250.0, 333.3, 999.0):
            norm = math.hypot(schedule.alpha(t), schedule.sigma(t))
            assert norm == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("schedule", TABLES, ids=repr)
def test_a_table_is_the_product_of_its_betas(schedule: TableSchedule) -> None:
    signal, share = 1.0, T / schedule.entries
    for entry, beta in enumerate(schedule.betas):
        signal *= 1 - beta
        assert schedule.alpha((entry + 1) * share) ** 2 == pytest.approx(signal, rel=1e-9)
        assert schedule.network_time((entry + 1) * share) == pytest.approx(entry)
    assert schedule.network_time(0.0) == 0.0


def test_linear_betas_are_those_of_the_paper() -> None:
    betas = VPLinearSchedule().betas
    assert (betas[0], betas[-1]) == (1e-4, 0.02) and len(betas) == 1000
    assert VPLinearSchedule().alpha(T) ** 2 == pytest.approx(4.0358e-5, rel=1e-4)


def test_cosine_betas_are_those_of_the_release(parity: Path) -> None:
    with np.load(parity / "med_diffusion.npz") as numbers:
        np.testing.assert_allclose(VPCosineSchedule().betas, numbers["f64/betas"], rtol=1e-11)
        of_8 = VPCosineSchedule(entries=8)
        np.testing.assert_allclose(of_8.betas, numbers["T8/betas"], rtol=1e-11)
        signal = [of_8.alpha((i + 1) * T / 8) ** 2 for i in range(8)]
        np.testing.assert_allclose(signal, numbers["T8/alphas_cumprod"], rtol=1e-9)


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
