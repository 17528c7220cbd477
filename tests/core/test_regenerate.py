"""A forgotten region of a scan: what stays, what comes, where it lies, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import prdit_core
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import InputRejected, UsageError
from prdit_core.verbs.reconstruct import WALK
from prdit_core.verbs.regenerate import forget, put_back, regenerate
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core import Prior

QUICK = WALK.model_copy(update={"steps": 3})


@pytest.fixture(scope="module")
def prior() -> Prior:
    return prdit_core.load("demo").at_size(32)


@pytest.fixture(scope="module")
def scan() -> Volume:
    return make_phantom(3, 1, spacing_mm=6.0).volume


@pytest.fixture(scope="module")
def region(scan: Volume) -> NDArray[np.bool_]:
    painted = np.zeros(scan.shape, bool)
    painted[20:30, 15:30, 12:25] = True
    return painted


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_all_but_the_region_keeps_its_bits(
    prior: Prior, scan: Volume, region: NDArray[np.bool_], dtype: type
) -> None:
    voxels = (scan.voxels_hu + (0.25 if dtype is np.float32 else 0)).astype(dtype)
    found = regenerate(prior, Volume(voxels, scan.affine), region, QUICK, seed=1)
    assert found.voxels_hu.dtype == dtype
    assert found.voxels_hu[~region].tobytes() == voxels[~region].tobytes()
    assert np.mean(found.voxels_hu[region] != voxels[region]) > 0.9
    np.testing.assert_array_equal(found.affine, scan.affine)


def test_what_was_in_the_region_has_no_part_in_what_comes(
    prior: Prior, scan: Volume, region: NDArray[np.bool_]
) -> None:
    """Whatever is below the paint, the result is the same: nothing leaks through the grids."""
    other = scan.voxels_hu.copy()
    other[region] = 250
    known = [
        forget(prior, Volume(voxels, scan.affine), region).known.values
        for voxels in (scan.voxels_hu, other)
    ]
    np.testing.assert_array_equal(*known)
    one, two = (
        regenerate(prior, Volume(voxels, scan.affine), region, QUICK).voxels_hu
        for voxels in (scan.voxels_hu, other)
    )
    np.testing.assert_array_equal(one, two)


def test_a_ramp_comes_back_to_its_place(prior: Prior, scan: Volume) -> None:
    """Millimetres as HU on the prior's grid, put back: the same millimetres on the scan's."""
    region = np.zeros(scan.shape, bool)
    region[22:28, 18:27, 15:22] = True
    forgotten = forget(prior, scan, region)
    affine = forgotten.known.affine
    assert affine is not None
    for axis in range(3):
        found = put_back(forgotten, Volume(millimetres((32, 32, 32), affine, axis), affine))
        expected = millimetres(scan.shape, scan.affine, axis)
        np.testing.assert_allclose(found.voxels_hu[region], expected[region], atol=0.51)


def millimetres(
    shape: tuple[int, ...], affine: NDArray[np.float64], axis: int
) -> NDArray[np.float32]:
    """Where each voxel lies along x, y or z."""
    z, y, x = np.indices(shape)
    ramp: NDArray[np.float32] = (
        np.tensordot(affine[axis, :3], np.stack([x, y, z]), 1) + affine[axis, 3]
    ).astype(np.float32)
    return ramp


def test_what_no_scan_covers_is_no_air(prior: Prior, scan: Volume) -> None:
    """A slab of a chest is not one in a vacuum: beyond it everything is open."""
    slab = Volume(scan.voxels_hu[22:30], scan.affine)
    region = np.zeros(slab.shape, bool)
    region[2:5, 20:25, 20:25] = True
    known = forget(prior, slab, region).known
    assert len(known.values) < 8 * 6 / 10 * 32 * 32


def test_faults_are_told_in_one_line(prior: Prior, scan: Volume, region: NDArray[np.bool_]) -> None:
    for wrong, message in (
        (np.zeros(scan.shape), "nothing is painted"),
        (np.ones(scan.shape), "the whole scan is painted"),
        (region[1:], "paint on a layer of the scan's own grid"),
    ):
        with pytest.raises(UsageError, match=message):
            forget(prior, scan, wrong)
    holes = scan.voxels_hu.astype(np.float32)
    holes[0, 0, 0] = np.nan
    with pytest.raises(InputRejected, match="NaN"):
        forget(prior, Volume(holes, scan.affine), region)
