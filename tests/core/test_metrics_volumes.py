"""Measures of volumes: similarity, fidelity, tissues, sharpness, nearest neighbours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chests import HELD_OUT, OTHERS, TRAINING, chest, chests
from recorded import load

from prdit_core.errors import InputRejected
from prdit_core.metrics.confidence import half_samples, measured
from prdit_core.metrics.diversity import Pair, mean_similarity, similar_pairs, viewing_order
from prdit_core.metrics.fidelity import fidelity
from prdit_core.metrics.nearest import Neighbour, Scale, moved_distance, nearest, thumbnail
from prdit_core.metrics.projection import principal_plane
from prdit_core.metrics.similarity import ms_ssim, scales_of, ssim
from prdit_core.metrics.spectrum import octaves
from prdit_core.metrics.tissues import TISSUES, histogram, histogram_edges, tissue_shares
from prdit_core.noise import Draw

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = (-1000.0, 400.0)


@pytest.fixture(scope="module")
def training() -> list[NDArray[np.float32]]:
    return chests(TRAINING, 20)


@pytest.fixture(scope="module")
def held_out() -> list[NDArray[np.float32]]:
    return chests(HELD_OUT, 12)


# --- similarity ---------------------------------------------------------------------------------


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def naive_ssim(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float]:
    """Window by window, as the formula says, in float64."""
    line = np.exp(-0.5 * ((np.arange(7) - 3) / 1.5) ** 2)
    window = np.einsum("i,j,k->ijk", line, line, line)
    window /= window.sum()
    whole, structure = [], []
    for z, y, x in np.ndindex(*(n - 6 for n in a.shape)):
        u, v = (w[z : z + 7, y : y + 7, x : x + 7].astype(float) for w in (a, b))
        mu, nu = (window * u).sum(), (window * v).sum()
        both = (window * (u - mu) * (v - nu)).sum()
        spread = (window * (u - mu) ** 2).sum() + (window * (v - nu) ** 2).sum()
        structure.append((2 * both + 0.03**2) / (spread + 0.03**2))
        whole.append(structure[-1] * (2 * mu * nu + 0.01**2) / (mu**2 + nu**2 + 0.01**2))
    return float(np.mean(whole)), float(np.mean(structure))


def test_ssim_is_the_formula() -> None:
    a, b = noise((9, 10, 8)), noise((9, 10, 8), 1)
    assert ssim(a, 0.5 * a + 0.5 * b, 1.0) == pytest.approx(naive_ssim(a, 0.5 * a + 0.5 * b)[0])


def test_ms_ssim_is_the_formula_over_scales() -> None:
    a = noise((15, 14, 16))
    b = 0.7 * a + 0.3 * noise(a.shape, 1)
    halves = [x[:14, :14, :].reshape(7, 2, 7, 2, 8, 2).mean((1, 3, 5)) for x in (a, b)]
    # Of five scales 0.0448, 0.2856, 0.3001, 0.2363, 0.1333 (Wang et al., 2003); these two share 1.
    first, second = 0.0448 / 0.3304, 0.2856 / 0.3304
    expected = naive_ssim(a, b)[1] ** first * naive_ssim(*halves)[0] ** second
    assert ms_ssim(a, b, 1.0) == pytest.approx(expected, rel=1e-5)


def test_the_peak_is_the_unit() -> None:
    a, b = noise((16,) * 3), noise((16,) * 3, 1)
    assert ms_ssim(1400 * a, 1400 * b, 1400.0) == pytest.approx(ms_ssim(a, b, 1.0), rel=1e-4)


@pytest.mark.parametrize(("edge", "scales"), [(6, 0), (7, 1), (16, 2), (32, 3), (64, 4), (128, 5)])
def test_as_many_scales_as_the_edge_allows(edge: int, scales: int) -> None:
    assert scales_of((edge, 200, 200)) == scales


def test_equal_volumes_are_alike_and_others_less(held_out: list[NDArray[np.float32]]) -> None:
    volume = held_out[0] + 1000
    assert ms_ssim(volume, volume, 1400.0) == pytest.approx(1, abs=1e-6)
    blurred = (volume + np.roll(volume, 1, 0)) / 2
    other = held_out[1] + 1000
    similar = [ms_ssim(volume, x, 1400.0) for x in (volume, blurred, other)]
    assert similar == sorted(similar, reverse=True)


# --- diversity ----------------------------------------------------------------------------------


def diversity(volumes: list[NDArray[np.float32]]) -> Any:
    order = viewing_order(len(volumes), 0)
    pairs = list(similar_pairs(((i, volumes[i] + 1000) for i in order), 2, 1400.0))
    return mean_similarity(pairs, len(volumes), 2, 0)


def test_a_model_that_repeats_itself_is_less_diverse(held_out: list[NDArray[np.float32]]) -> None:
    rng = np.random.default_rng(0)
    repeated = [held_out[0] + rng.normal(0, 5, held_out[0].shape).astype("f4") for _ in range(12)]
    diverse, dull = diversity(held_out), diversity(repeated)
    assert diverse.high < dull.low
    assert dull.value > 0.95


def test_only_few_volumes_are_held_at_once(held_out: list[NDArray[np.float32]]) -> None:
    seen: list[int] = []

    def watched() -> Any:
        for i, volume in enumerate(held_out):
            seen.append(i)
            yield i, volume + 1000

    pairs = similar_pairs(watched(), 2, 1400.0)
    next(pairs)
    assert seen == [0, 1]
    found = [next(pairs), *pairs]
    assert all(pair.second - pair.first <= 2 for pair in found)
    assert len(found) + 1 == 2 * 12 - 3


def test_a_half_has_the_pairs_of_which_it_has_both_volumes() -> None:
    """With similarities that are sums over volumes, a half's mean is twice that of its own."""
    own = np.random.default_rng(0).random(20)
    pairs = [Pair(i, j, own[i] + own[j]) for i in range(20) for j in range(i)]
    halves = [2 * float(own[half].mean()) for (half,) in half_samples(Draw.SIMILARITY, 3, 20)]
    found, expected = mean_similarity(pairs, 20, 2, seed=3), measured(2 * own.mean(), halves, 20)
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_files_beside_each_other_are_no_pairs() -> None:
    order = viewing_order(50, 0)
    assert sorted(order) == list(range(50))
    assert np.mean(np.abs(np.diff(order)) > 3) > 0.7


# --- fidelity -----------------------------------------------------------------------------------


def test_errors_in_hu_are_those_of_the_release(parity: Any) -> None:
    numbers = load(parity / "tf_metrics.npz")
    scan, found = (2500 * numbers[name][0].astype(float) - 1000 for name in ("real", "fake"))
    errors = fidelity(scan, found, peak_hu=4095.0)
    assert errors.psnr == pytest.approx(float(numbers["psnr"]), rel=1e-5)
    assert errors.mae_hu == pytest.approx(float(numbers["band/mae_global_hu"]), rel=1e-6)
    theirs = dict(
        zip(TISSUES, ("air", "lung_parenchyma", "fat", "soft_tissue", "bone"), strict=True)
    )
    for name, error in errors.tissues.items():
        assert error.share == pytest.approx(float(numbers[f"band/frac_{theirs[name]}"]))
        assert error.mae_hu == pytest.approx(float(numbers[f"band/mae_{theirs[name]}"]), rel=1e-6)
        assert error.rmse_hu == pytest.approx(float(numbers[f"band/rmse_{theirs[name]}"]), rel=1e-6)


def test_a_constant_error_has_its_size() -> None:
    scan = chest(0, 0)
    errors = fidelity(scan, scan + 10, peak_hu=1000.0)
    assert errors.mae_hu == pytest.approx(10) and errors.rmse_hu == pytest.approx(10)
    assert errors.psnr == pytest.approx(40)
    assert errors.peak_hu == 1000.0
    assert all(t.mae_hu is None or t.mae_hu == pytest.approx(10) for t in errors.tissues.values())


def test_no_error_is_infinitely_good() -> None:
    errors = fidelity(chest(0, 0), chest(0, 0))
    assert errors.psnr == math.inf and errors.mae_hu == 0
    assert errors.ssim == pytest.approx(1)


def test_a_tissue_that_is_not_there_has_no_error() -> None:
    errors = fidelity(np.full((4, 4, 4), -1000.0), np.zeros((4, 4, 4)))
    assert errors.tissues["bone"].mae_hu is None
    assert errors.tissues["air"].mae_hu == 1000
    assert errors.ssim is None


def test_volumes_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputRejected, match="does not lie on a scan"):
        fidelity(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)))
    with pytest.raises(InputRejected, match="NaN"):
        fidelity(np.zeros((4, 4, 4)), np.full((4, 4, 4), np.nan))


# --- tissues and sharpness ----------------------------------------------------------------------


def test_tissue_shares_are_counts_and_sum_to_one() -> None:
    voxels = np.array([-1000, -900, -501, -500, -150, -51, -50, 99, 100, 300], float)
    shares = tissue_shares(voxels.reshape(1, 2, 5))
    assert shares == pytest.approx(
        {"air": 0.1, "lung": 0.2, "fat": 0.2, "soft tissue": 0.2, "bone": 0.1, "other": 0.2}
    )


def test_a_histogram_counts_every_voxel() -> None:
    voxels = np.array([-2000.0, -1000.0, 0.0, 400.0, 3000.0]).reshape(1, 1, 5)
    shares = histogram(voxels, WINDOW)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == shares[-1] == pytest.approx(0.4)
    assert histogram_edges(WINDOW)[[0, -1]].tolist() == [-1000, 400]


def test_a_blurred_volume_has_less_gradient_in_fine_details() -> None:
    sharp = chest(0, 0, 32)
    blurred = sum(np.roll(sharp, i, axis) for axis in range(3) for i in (-1, 0, 1)) / 9
    spacing = (10.0, 10.0, 10.0)
    bands = octaves(sharp.shape, spacing)
    left = bands.gradient_energies(blurred, spacing) / bands.gradient_energies(sharp, spacing)
    assert np.all(np.diff(left) < 0)
    assert left[0] > 0.8 and left[-1] < 0.4


def test_a_slope_has_its_gradient_per_millimetre() -> None:
    """A triangle wave rises and falls by 3 HU for each mm; the other axes are flat."""
    wave = 12.0 * np.minimum(np.arange(16), 16 - np.arange(16))
    volume = np.broadcast_to(wave[:, None, None], (16, 16, 16))
    spacing = (4.0, 1.0, 2.0)
    energies = octaves(volume.shape, spacing).gradient_energies(volume, spacing)
    assert energies.sum() == pytest.approx(9.0)


# --- nearest training volumes -------------------------------------------------------------------


def neighbour_of(voxels: NDArray[Any], training: list[NDArray[np.float32]]) -> Neighbour:
    thumbnails = np.stack([thumbnail(volume) for volume in training])
    return nearest(voxels.astype(np.float32), thumbnails, training.__getitem__)


def usual(training: list[NDArray[np.float32]], held_out: list[NDArray[np.float32]]) -> Scale:
    return Scale.of([neighbour_of(volume, training) for volume in held_out])


COPIES = {
    "exact": lambda v: v,
    "noised": lambda v: v + np.random.default_rng(0).normal(0, 40, v.shape),
    "moved up": lambda v: np.roll(v, 1, 0),
    "moved back": lambda v: np.roll(v, -1, 1),
    "lightly blurred": lambda v: 0.6 * v + 0.2 * np.roll(v, 1, 2) + 0.2 * np.roll(v, -1, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", COPIES)
def test_a_copy_is_found_however_it_was_changed(
    change: str, training: list[NDArray[np.float32]], held_out: list[NDArray[np.float32]]
) -> None:
    scale = usual(training, held_out)
    for number in (0, 7, 19):
        found = neighbour_of(COPIES[change](training[number]), training)
        assert found.number == number
        assert scale.is_copy(found)


@pytest.mark.slow
def test_a_copy_moved_along_all_axes_is_found_among_many() -> None:
    """Its thumbnail alone is farther than those of other patients."""
    many = chests(TRAINING, 100)
    thumbnails = np.stack([thumbnail(volume) for volume in many])
    for number in range(0, 100, 12):
        moved = np.roll(many[number], (1, -1, 1), (0, 1, 2))
        found = nearest(moved, thumbnails, many.__getitem__)
        assert (found.number, found.distance_hu) == (number, 0)


def test_no_held_out_volume_is_taken_for_a_copy(
    training: list[NDArray[np.float32]], held_out: list[NDArray[np.float32]]
) -> None:
    scale = usual(training, held_out)
    others = chests(OTHERS, 8)
    assert not any(scale.is_copy(neighbour_of(other, training)) for other in others)


def test_the_nearest_volume_is_that_of_an_exhaustive_search(
    training: list[NDArray[np.float32]], held_out: list[NDArray[np.float32]]
) -> None:
    for volume in held_out[:4]:
        least = min(moved_distance(volume, other) for other in training)
        assert neighbour_of(volume, training).distance_hu <= 1.1 * least


def test_a_volume_need_not_be_its_own_neighbour(training: list[NDArray[np.float32]]) -> None:
    thumbnails = np.stack([thumbnail(volume) for volume in training])
    assert nearest(training[3], thumbnails, training.__getitem__).distance_hu == 0
    other = nearest(training[3], thumbnails, training.__getitem__, itself=3)
    assert other.number != 3 and other.distance_hu > 50


def test_a_move_costs_nothing_and_a_difference_its_size() -> None:
    volume = chest(0, 0)
    assert moved_distance(volume, volume) == 0
    assert moved_distance(volume, np.roll(volume, (1, -1, 1), (0, 1, 2))) == 0
    assert moved_distance(volume, volume + 25) == pytest.approx(25)


def test_thumbnails_are_means_of_blocks() -> None:
    volume = noise((64, 64, 64))
    expected = volume.reshape(16, 4, 16, 4, 16, 4).mean((1, 3, 5))
    np.testing.assert_allclose(thumbnail(volume), expected.ravel(), rtol=1e-5)
    assert thumbnail(noise((5, 33, 7))).size == 5 * 8 * 7
    assert thumbnail(np.full((19, 21, 23), 7.0)) == pytest.approx(7.0)


# --- projection ---------------------------------------------------------------------------------


def test_the_plane_shows_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([9.0, 3.0, 0.1, 0.1])
    sets = {
        "a": rng.normal(0, spread, (30, 4)),
        "b": rng.normal((30, 0, 0, 0), spread, (20, 4)),
    }
    plane = principal_plane(sets)
    assert plane.explained[0] > plane.explained[1] > 0
    assert sum(plane.explained) > 0.99
    assert [len(points) for points in plane.points.values()] == [30, 20]
    gap = plane.points["b"][:, 0].mean() - plane.points["a"][:, 0].mean()
    assert abs(gap) == pytest.approx(30, rel=0.2)


def test_equal_volumes_are_one_point() -> None:
    plane = principal_plane({"a": np.ones((3, 5)), "b": np.ones((2, 5))})
    assert plane.explained == (0.0, 0.0)
    assert not np.concatenate(list(plane.points.values())).any()
