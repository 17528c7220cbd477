"""FID and MMD: as recorded, as in closed form, sure of themselves by the right amount."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recorded import load

from prdit_core.errors import InputRejected
from prdit_core.metrics import mmd as mmd_module
from prdit_core.metrics.confidence import half_samples, measured_mean
from prdit_core.metrics.floor import floor_of
from prdit_core.metrics.frechet import frechet, frechet_distance
from prdit_core.metrics.mmd import kernel_width, mmd, mmd_squared, weights_on
from prdit_core.noise import Draw

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Features = NDArray[np.float64]

SEED = 0


def cloud(seed: int, count: int, features: int = 8, shift: float = 0.0, scale: float = 1.0) -> Any:
    return np.random.default_rng(seed).normal(shift, scale, (count, features))


def with_moments(mean: Features, root: Features, count: int = 400) -> Features:
    """Features whose sample mean and covariance are exactly `mean` and root^T root."""
    z = cloud(0, count, len(mean))
    z = z - z.mean(0)
    white = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T
    return np.asarray(white @ root + mean)


# --- as recorded from the release ---------------------------------------------------------------


@pytest.mark.parametrize("case", ["a", "b"])
def test_fid_and_mmd_are_those_of_the_release(parity: Any, case: str) -> None:
    numbers = load(parity / "eval_features.npz")
    real, fake = numbers[f"{case}/real"], numbers[f"{case}/fake"]
    assert frechet_distance(real, fake) == pytest.approx(float(numbers[f"{case}/fid"]), rel=1e-6)
    gamma = kernel_width(real)
    assert gamma == pytest.approx(float(numbers[f"{case}/gamma"]), rel=1e-12)
    found = mmd(real, fake, gamma, SEED).biased.value
    assert found == pytest.approx(float(numbers[f"{case}/mmd"]), rel=1e-9)


def test_reported_numbers_are_the_plain_ones(parity: Any) -> None:
    numbers = load(parity / "eval_features.npz")
    real, fake = numbers["a/real"], numbers["a/fake"]
    assert frechet(real, fake, SEED).biased.value == frechet_distance(real, fake)


# --- Frechet distance ---------------------------------------------------------------------------


def test_two_gaussians_have_the_distance_of_their_moments() -> None:
    """Covariances that commute: |mu1 - mu2|^2 + sum (s1 - s2)^2."""
    mean, other = np.zeros(4), np.array([1.0, 0.0, -2.0, 0.5])
    s1, s2 = np.array([1.0, 2.0, 0.5, 3.0]), np.array([1.5, 0.2, 0.5, 2.0])
    turn = np.linalg.qr(cloud(3, 4, 4))[0]
    found = frechet_distance(
        with_moments(mean, np.diag(s1) @ turn), with_moments(other, np.diag(s2) @ turn)
    )
    expected = np.square(mean - other).sum() + np.square(s1 - s2).sum()
    assert found == pytest.approx(expected, rel=1e-9)


def test_covariances_that_do_not_commute_have_the_trace_of_a_root() -> None:
    """In two dimensions tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))."""
    first, second = np.array([[2.0, 0.3], [0.0, 1.0]]), np.array([[0.5, -0.7], [0.2, 1.5]])
    a, b = with_moments(np.zeros(2), first), with_moments(np.zeros(2), second)
    one, two = first.T @ first, second.T @ second
    product = one @ two
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert frechet_distance(a, b) == pytest.approx(np.trace(one + two) - 2 * root, rel=1e-9)


def test_as_many_rows_as_features_give_the_same_number_either_way() -> None:
    """Features that are never used change nothing, but make them more than the volumes."""
    a, b = cloud(1, 30, 20), cloud(2, 25, 20, shift=0.3)
    wide = [np.pad(x, ((0, 0), (0, 40))) for x in (a, b)]
    assert frechet_distance(*wide) == pytest.approx(frechet_distance(a, b), rel=1e-10)


@pytest.mark.parametrize("count", [2, 5, 8, 60])
def test_identical_sets_have_no_distance(count: int) -> None:
    x = cloud(0, count)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert mmd_squared(x, x, 0.1, *[weights_on(count, [np.arange(count)])] * 2)[0] == pytest.approx(
        0, abs=1e-12
    )
    assert frechet(x, x, SEED).biased.value == pytest.approx(0, abs=1e-10)


def corrected_fid(real: Features, fake: Features) -> float:
    found = frechet(real, fake, SEED).unbiased
    assert found is not None
    return found.value


MEASURES: dict[str, Callable[[Features, Features], float]] = {
    "fid": lambda real, fake: frechet(real, fake, SEED).biased.value,
    "fid_unbiased": corrected_fid,
    "mmd": lambda real, fake: mmd(real, fake, kernel_width(real), SEED).biased.value,
    "mmd_unbiased": lambda real, fake: mmd(real, fake, kernel_width(real), SEED).unbiased.value,
}


@pytest.mark.parametrize("name", MEASURES)
def test_sets_shifted_further_are_further_away(name: str) -> None:
    real = cloud(0, 60)
    found = [MEASURES[name](real, cloud(1, 60, shift=shift)) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert found == sorted(found) and len(set(found)) == 4


@pytest.mark.parametrize("name", MEASURES)
def test_the_order_of_volumes_and_of_features_does_not_matter(name: str) -> None:
    real, fake = cloud(0, 40), cloud(1, 30, shift=0.5)
    turned = MEASURES[name](real[:, ::-1], fake[:, ::-1])
    assert turned == pytest.approx(MEASURES[name](real, fake), rel=1e-9)


def test_the_correction_takes_off_what_few_volumes_add() -> None:
    """Known distance, 64 volumes, 8 features: the biased number is too large, the other is not."""
    truth = 8 * 0.5**2
    runs = [frechet(cloud(i, 64), cloud(1000 + i, 64, shift=0.5), SEED) for i in range(12)]
    biased = np.mean([run.biased.value for run in runs])
    corrected = np.mean([run.unbiased.value for run in runs if run.unbiased])
    assert abs(corrected - truth) < 0.4 * abs(biased - truth)


@pytest.mark.slow
def test_intervals_are_as_wide_as_numbers_of_other_volumes_vary() -> None:
    runs = [frechet(cloud(i, 100), cloud(1000 + i, 100, shift=0.5), SEED) for i in range(25)]
    for numbers in ([run.biased for run in runs], [run.unbiased for run in runs]):
        vary = np.std([number.value for number in numbers if number])
        stated = np.mean([(number.high - number.low) / 2 / 1.96 for number in numbers if number])
        assert 0.6 < stated / vary < 1.7


def test_an_interval_holds_its_number_and_tells_far_sets_apart() -> None:
    real = cloud(0, 60)
    near, far = (frechet(real, cloud(1, 60, shift=shift), SEED) for shift in (0.0, 1.0))
    for number in (near.biased, near.unbiased, far.biased, far.unbiased):
        assert number and number.low <= number.value <= number.high
    assert near.biased.high < far.biased.low
    assert near.unbiased.high < far.unbiased.low


# --- MMD ----------------------------------------------------------------------------------------


def test_mmd_of_two_points_each_is_that_of_the_formula() -> None:
    real, fake, gamma = np.array([[0.0], [1.0]]), np.array([[0.0], [3.0]]), 0.5
    k = lambda u, v: np.exp(-gamma * (u - v) ** 2)  # noqa: E731
    both = weights_on(2, [np.arange(2)])
    biased, unbiased = mmd_squared(real, fake, gamma, both, both)
    across = (k(0, 0) + k(0, 3) + k(1, 0) + k(1, 3)) / 4
    assert biased[0] == pytest.approx((2 + 2 * k(0, 1)) / 4 + (2 + 2 * k(0, 3)) / 4 - 2 * across)
    assert unbiased[0] == pytest.approx(k(0, 1) + k(0, 3) - 2 * across)


def test_the_unbiased_mmd_of_alike_sets_is_zero_on_average() -> None:
    values = []
    for i in range(60):
        real, fake = cloud(i, 20), cloud(1000 + i, 20)
        both = weights_on(20, [np.arange(20)])
        values.append(float(mmd_squared(real, fake, 0.05, both, both)[1][0]))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)


def test_tiles_and_bins_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = cloud(0, 45), cloud(1, 37, shift=0.4)
    whole = kernel_width(real), mmd(real, fake, 0.1, SEED)
    monkeypatch.setattr(mmd_module, "TILE", 8)
    monkeypatch.setattr(mmd_module, "KEPT", 20)
    monkeypatch.setattr(mmd_module, "BINS", 16)
    assert kernel_width(real) == pytest.approx(whole[0], rel=1e-12)
    assert mmd(real, fake, 0.1, SEED).biased.value == pytest.approx(
        whole[1].biased.value, rel=1e-12
    )


@pytest.mark.parametrize("count", [3, 4, 9, 40])
def test_the_kernel_takes_the_lower_median_of_all_distances(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cloud(count, count, 3)
    distances = np.square(real[:, None] - real).sum(-1).ravel()
    lower = np.sort(distances)[(distances.size - 1) // 2]
    for kept in (mmd_module.KEPT, 2):
        monkeypatch.setattr(mmd_module, "KEPT", kept)
        assert kernel_width(real) == pytest.approx(1 / (2 * lower), rel=1e-9)


def test_real_features_without_a_scale_are_refused() -> None:
    with pytest.raises(InputRejected, match="at least three volumes that differ"):
        kernel_width(cloud(0, 2))
    with pytest.raises(InputRejected, match="median distance 0"):
        kernel_width(np.ones((9, 4)))


# --- floor and halves ---------------------------------------------------------------------------


def test_the_floor_is_that_of_two_draws_of_one_distribution() -> None:
    real = cloud(0, 120)
    floor = floor_of(real, kernel_width(real), SEED)
    assert floor.fid is not None and floor.fid_unbiased is not None and floor.mmd is not None
    assert floor.fid_unbiased.low < 0 < floor.fid_unbiased.high
    other = frechet_distance(cloud(1, 60), cloud(2, 60))
    assert floor.fid.low < other < floor.fid.high
    assert frechet_distance(real[:60], cloud(3, 60, shift=0.5)) > floor.fid.high


def test_a_set_too_small_to_split_has_no_floor() -> None:
    floor = floor_of(cloud(0, 3), 0.1, SEED)
    assert floor.fid is None and floor.mmd is None
    assert floor_of(cloud(0, 8), 0.1, SEED).fid_unbiased is None


@pytest.mark.parametrize("count", [2, 3])
def test_few_volumes_have_numbers_without_interval(count: int) -> None:
    found = frechet(cloud(0, 9), cloud(1, count), SEED)
    assert found.biased.low is None and "too few" in found.biased.how
    assert found.unbiased is None
    assert mmd(cloud(0, 9), cloud(1, count), 0.1, SEED).biased.high is None


def test_halves_are_halves_and_come_with_their_complement() -> None:
    draws = list(half_samples(Draw.HALVES, SEED, 10, 7))
    for (i, j), (other, rest) in zip(draws[::2], draws[1::2], strict=True):
        assert sorted([*i, *other]) == list(range(10))
        assert sorted([*j, *rest]) == list(range(7))
    assert draws[0][0].tolist() == next(half_samples(Draw.HALVES, SEED, 10, 7))[0].tolist()


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = cloud(0, 400, 1)[:, 0]
    found = measured_mean(values)
    assert found.low is not None and found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 / 20 * values.std(ddof=1), rel=1e-3)
