"""Energies by size of detail, and what local part and global residual contribute to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from toys import TINY, TINY_CHAIN, tiny_checkpoint

import prdit_core
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import UsageError
from prdit_core.metrics.spectrum import octaves
from prdit_core.verbs.preview import preview
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.verbs.decompose import Decomposed

EDGES = st.integers(2, 12)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, 1.0, shape)


def mean_square(voxels: np.ndarray) -> float:
    return float(np.square(voxels.astype(np.float64)).mean())


@pytest.fixture(scope="module")
def phantom() -> Volume:
    return make_phantom(0, 0, spacing_mm=5.0).volume


@pytest.fixture(scope="module")
def demo() -> prdit_core.Prior:
    return prdit_core.load("demo").at_size(32)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> prdit_core.Prior:
    """8^3 refined to 16^3."""
    folder = tmp_path_factory.mktemp("chain") / "tiny"
    return prdit_core.load(tiny_checkpoint(folder, size=16, model=TINY_CHAIN))


@pytest.fixture(scope="module")
def refined(chain: prdit_core.Prior, phantom: Volume) -> Decomposed:
    return prdit_core.decompose(chain, phantom, 400, seed=3)


@pytest.fixture(scope="module")
def found(demo: prdit_core.Prior, phantom: Volume) -> Decomposed:
    return prdit_core.decompose(demo, phantom, 400, seed=3)


# --- bands ------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(shape=st.tuples(EDGES, EDGES, EDGES), spacing=st.tuples(*[st.floats(0.3, 9.0)] * 3))
def test_the_bands_sum_to_the_whole_energy(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    voxels = noise(shape)
    assert octaves(shape, spacing).energies(voxels).sum() == pytest.approx(mean_square(voxels))


def test_bands_are_octaves_of_a_voxel() -> None:
    bands = octaves((32, 32, 32), (10.0, 10.0, 10.0))
    assert bands.limits_mm == (np.inf, 80.0, 40.0, 20.0, 0.0)
    assert octaves((4, 4, 4), (1.0, 1.0, 1.0)).limits_mm == (np.inf, 0.0)


@pytest.mark.parametrize(("period", "band"), [(32, 0), (16, 0), (8, 1), (4, 2), (2, 3)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_wave_lies_in_the_band_of_its_stripes(period: int, band: int, axis: int) -> None:
    """Stripes are half a period wide; at 2.5 mm a period of 8 voxels gives stripes of 10 mm."""
    bands = octaves((32, 32, 32), (2.5, 2.5, 2.5))
    phase = 2 * np.pi * np.arange(32) / period
    wave = np.broadcast_to(np.cos(phase), (32, 32, 32)).swapaxes(axis, 2)
    energies = bands.energies(wave)
    assert energies[band] == pytest.approx(mean_square(wave))
    width_mm = 2.5 * period / 2
    assert bands.limits_mm[band + 1] <= width_mm < bands.limits_mm[band]


def test_millimetres_count_not_voxels() -> None:
    """The same stripes of 16 mm, once over four voxels and once over two."""
    shape, spacing = (16, 32, 32), (8.0, 4.0, 4.0)
    bands = octaves(shape, spacing)
    along_z = np.cos(np.pi * np.arange(16) * 8.0 / 16)[:, None, None] * np.ones(shape)
    along_x = np.cos(np.pi * np.arange(32) * 4.0 / 16) * np.ones(shape)
    assert np.argmax(bands.energies(along_z)) == np.argmax(bands.energies(along_x))


def test_a_mean_is_the_coarsest_detail() -> None:
    energies = octaves((8, 8, 8), (1.0, 1.0, 1.0)).energies(np.full((8, 8, 8), 5.0))
    np.testing.assert_allclose(energies, [25.0, 0.0], atol=1e-12)


# --- shares -----------------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", ["x0", "eps"])
def test_energies_are_those_of_the_volumes(found: Decomposed, quantity: str) -> None:
    energies = getattr(prdit_core.energy_shares(found), quantity)
    local, residual, total, error = (
        found.parts[f"{quantity}-{part}"].voxels_hu.astype(float)
        for part in ("local", "global-residual", "total", "error")
    )
    whole = energies.summed()
    assert whole.local[0] == pytest.approx(local.var(), rel=1e-4)
    assert whole.global_residual[0] == pytest.approx(residual.var(), rel=1e-4)
    assert whole.total[0] == pytest.approx(total.var(), rel=1e-4)
    assert whole.error_total[0] == pytest.approx(mean_square(error), rel=1e-4)
    assert whole.error_local[0] == pytest.approx(mean_square(local - (total - error)), rel=1e-4)


def test_shares_say_what_became_of_the_parts(found: Decomposed) -> None:
    energies = prdit_core.energy_shares(found).x0
    parts = energies.local + energies.global_residual
    np.testing.assert_allclose(energies.residual_share * parts, energies.global_residual)
    np.testing.assert_allclose(energies.agreement * parts, energies.total)
    assert np.all((energies.residual_share > 0) & (energies.residual_share < 1))
    assert np.all((energies.agreement > 0) & (energies.agreement < 2))


def test_the_demo_knows_more_than_its_local_part(found: Decomposed) -> None:
    """What the global part is for: it mends fine details most, and the error falls."""
    energies = prdit_core.energy_shares(found).x0
    assert energies.residual_share[-1] > 10 * energies.residual_share[0]
    whole = energies.summed()
    assert whole.error_total[0] < 0.6 * whole.error_local[0]


def test_a_model_without_global_part_has_no_residual(tmp_path: Path, phantom: Volume) -> None:
    local_only = TINY.model_copy(update={"depth": 0})
    prior = prdit_core.load(tiny_checkpoint(tmp_path / "local", size=16, model=local_only))
    energies = prdit_core.energy_shares(prdit_core.decompose(prior, phantom, 400)).x0
    np.testing.assert_array_equal(energies.residual_share, 0)
    np.testing.assert_allclose(energies.agreement, 1)
    np.testing.assert_allclose(energies.error_local, energies.error_total)


# --- shares of a chain ------------------------------------------------------------------------


@pytest.mark.parametrize("quantity", ["x0", "eps"])
def test_the_parts_of_a_chain_sum_up_and_each_has_its_energy(
    refined: Decomposed, quantity: str
) -> None:
    local, residual, refiner, total, error = (
        refined.parts[f"{quantity}-{part}"].voxels_hu.astype(float)
        for part in ("local", "global-residual", "refiner", "total", "error")
    )
    np.testing.assert_allclose(local + residual + refiner, total, atol=0.01)
    truth = total - error
    whole = getattr(prdit_core.energy_shares(refined), quantity).summed()
    assert whole.refiner[0] == pytest.approx(refiner.var(), rel=1e-4)
    assert whole.error_local[0] == pytest.approx(mean_square(local - truth), rel=1e-4)
    assert whole.error_base[0] == pytest.approx(mean_square(local + residual - truth), rel=1e-4)
    assert whole.error_total[0] == pytest.approx(mean_square(error), rel=1e-4)


def test_shares_of_a_chain_are_shares_of_three_parts(refined: Decomposed) -> None:
    energies = prdit_core.energy_shares(refined).x0
    parts = energies.local + energies.global_residual + energies.refiner
    np.testing.assert_allclose(energies.residual_share * parts, energies.global_residual)
    np.testing.assert_allclose(energies.refiner_share * parts, energies.refiner)
    np.testing.assert_allclose(energies.agreement * parts, energies.total)


def test_a_model_that_is_no_chain_has_no_refiner(found: Decomposed) -> None:
    assert not any("refiner" in name for name in found.parts)
    energies = prdit_core.energy_shares(found).x0
    assert energies.refiner is None and energies.error_base is None
    np.testing.assert_array_equal(energies.refiner_share, 0)


def test_the_base_of_a_chain_is_split_as_a_plain_model(
    chain: prdit_core.Prior, phantom: Volume
) -> None:
    parts = prdit_core.decompose(chain.at_size(8), phantom, 400).parts
    assert "x0-refiner" not in parts and parts["x0-total"].shape == (8, 8, 8)
    assert parts["x0-total"].metadata["size"] == 8


def test_a_state_is_split_at_the_resolution_it_has(
    chain: prdit_core.Prior, refined: Decomposed
) -> None:
    window = chain.intensity.window_hu
    for prior in (chain, chain.at_size(8)):
        (state,) = (
            step.x_t[0, 0].numpy()
            for step in prdit_core.generate_steps(prior, prdit_core.SamplingConfig(steps=1))
        )
        found = prdit_core.decompose_state(chain, state, 1000)
        shown = (found.parts["noisy"].voxels_hu - window[0]) / chain.intensity.hu_per_unit - 1
        np.testing.assert_allclose(shown, state, atol=1e-4)
        assert ("x0-refiner" in found.parts) == (prior is chain)


def test_pictures_of_a_chain_show_what_its_refiner_adds(
    refined: Decomposed, found: Decomposed
) -> None:
    captions = [panel.caption for panel in refined.panels()]
    assert len(captions) == len(found.panels()) + 1 and captions[4].startswith("x0, refiner (blue")
    assert captions[-1] == "x0, local + global residual + refiner"
    assert found.panels()[-1].caption == "x0, local + global residual"


def test_the_preview_of_a_chain_has_a_row_for_its_base(
    chain: prdit_core.Prior, tmp_path: Path
) -> None:
    heights = []
    for prior in (chain.at_size(8), chain):
        example = np.zeros((1, *prior.geometry.shape), np.float32)
        file = preview(prior, example, "nothing", seed=0, path=tmp_path / f"{len(heights)}.png")
        with Image.open(file) as picture:
            heights.append(picture.height)
    assert heights[1] > 1.2 * heights[0]


# --- decompose and its relatives ---------------------------------------------------------------


def test_errors_are_distances_to_scan_and_noise(demo: prdit_core.Prior, found: Decomposed) -> None:
    """Truth is prediction minus error; scan and noise taken from there make the noisy scan."""
    x0, eps = (
        found.parts[f"{quantity}-total"].voxels_hu - found.parts[f"{quantity}-error"].voxels_hu
        for quantity in ("x0", "eps")
    )
    np.testing.assert_allclose(x0, found.scan.voxels_hu, atol=1e-2)
    units = demo.intensity
    noisy = demo.schedule.alpha(400) * units.to_model(found.scan.voxels_hu)
    noisy = noisy + demo.schedule.sigma(400) * eps / units.hu_per_unit
    shown = (found.parts["noisy"].voxels_hu - units.window_hu[0]) / units.hu_per_unit - 1
    np.testing.assert_allclose(noisy, shown, atol=1e-4)


def test_levels_are_the_splits_of_each_level(demo: prdit_core.Prior, phantom: Volume) -> None:
    levels = list(prdit_core.decompose_levels(demo, phantom, [200, 800], seed=3))
    assert [level.t for level in levels] == [200, 800]
    single = prdit_core.energy_shares(prdit_core.decompose(demo, phantom, 800, seed=3))
    np.testing.assert_array_equal(levels[1].x0.global_residual, single.x0.global_residual)
    np.testing.assert_array_equal(levels[1].eps.error_total, single.eps.error_total)


def test_levels_come_one_by_one(
    demo: prdit_core.Prior, phantom: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever listens can stop."""
    times: list[float] = []
    split = type(demo).decompose

    def watched(prior: prdit_core.Prior, x_t: Any, t: float) -> prdit_core.Decomposition:
        times.append(t)
        return split(prior, x_t, t)

    monkeypatch.setattr(type(demo), "decompose", watched)
    levels = prdit_core.decompose_levels(demo, phantom, [100, 200, 300])
    assert next(levels).t == 100
    assert times == [100]


@pytest.mark.parametrize("t", [0, -1, 1000.5, float("nan")])
def test_levels_outside_the_process_are_refused(
    demo: prdit_core.Prior, phantom: Volume, t: float
) -> None:
    with pytest.raises(UsageError, match="outside"):
        next(prdit_core.decompose_levels(demo, phantom, [500, t]))


def test_a_state_splits_as_the_scan_it_came_from(demo: prdit_core.Prior, found: Decomposed) -> None:
    noisy = (found.parts["noisy"].voxels_hu - demo.intensity.window_hu[0]) / 700 - 1
    state = prdit_core.decompose_state(demo, noisy, 400)
    assert set(found.parts) - set(state.parts) == {"x0-error", "eps-error"}
    for name, part in state.parts.items():
        np.testing.assert_allclose(part.voxels_hu, found.parts[name].voxels_hu, atol=0.05)
    shares = prdit_core.energy_shares(state)
    assert shares.x0.error_total is None and shares.x0.summed().error_local is None
    assert "synthetic" in state.parts["x0-total"].metadata["notice"]


def test_a_state_of_another_model_is_refused(demo: prdit_core.Prior) -> None:
    with pytest.raises(UsageError, match="the model it was generated with"):
        prdit_core.decompose_state(demo, np.zeros((8, 8, 8), np.float32), 400)
    with pytest.raises(UsageError, match="outside"):
        prdit_core.decompose_state(demo, np.zeros((32, 32, 32), np.float32), 0)


def test_notes_on_the_scan_stay_with_its_parts(demo: prdit_core.Prior) -> None:
    """A slab fills little of the field of view: whoever sees the parts should know."""
    slab = make_phantom(0, 0, spacing_mm=5.0).volume
    thin = Volume(slab.voxels_hu[20:26], slab.affine)
    parts = prdit_core.decompose(demo, thin, 400).parts
    assert any("air" in note for note in parts["x0-local"].metadata["notes"])
