"""Voxels that are no HU, behind whatever background: told by the body, with right advice."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scans import write_series

from prdit_core.data.hounsfield import Levels, check_hu
from prdit_core.data.io import ReadOptions, read_volume
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import InputRejected

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from prdit_core.volume import Volume

OFFSETS = (1000, 1024)


@cache
def phantom() -> Volume:
    """A chest of 40^3 voxels: read-only HU."""
    volume = make_phantom(0, 0, spacing_mm=8.0).volume
    volume.voxels_hu.setflags(write=False)
    return volume


@cache
def mr() -> NDArray[np.float64]:
    """The chest as MR has it: no signal outside and in lungs, fat bright, muscle grey."""
    labels = make_phantom(0, 0, spacing_mm=8.0).labels
    signal = np.array([0, 0, 900, 400, 30, 30, 700, 300, 0, *[450, 500, 520, 400, 380, 300, 420]])
    signal = np.append(signal, [600, 100, 500, 650, 600, 300])
    noise = np.random.default_rng(0).standard_normal((2, *labels.shape))
    return np.hypot(signal[labels] * (1 + 0.12 * noise[0]) + 12 * noise[0], 12 * noise[1])


def outside(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """What lies outside the round field of view."""
    y, x = np.indices(shape[1:]) - (shape[1] - 1) / 2
    return np.broadcast_to(np.hypot(x, y) > 0.48 * shape[1], shape)


def lifted(offset: int, fill: int) -> NDArray[np.int16]:
    return np.where(outside(phantom().shape), np.int16(fill), phantom().voxels_hu + offset)


def blurred(voxels: NDArray[np.int16]) -> NDArray[np.int16]:
    """As after resampling halfway between the voxels."""
    x = voxels.astype(np.float64)
    for axis in (1, 2):
        x = (x + np.roll(x, 1, axis)) / 2
    return np.rint(x).astype(np.int16)


def save(voxels: NDArray[np.generic], path: Path) -> Path:
    """The voxels in the format of the suffix; a folder without suffix gets a DICOM series."""
    if path.suffix == "":
        write_series(path, voxels - 1024, edit=_without_rescale(voxels))
    elif path.suffix == ".npz":
        np.savez(path, ct=voxels[::-1])
    elif path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(voxels.T, phantom().affine), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def _without_rescale(voxels):
    def edit(dataset, index):
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
        dataset.RescaleIntercept = 0
        dataset.PixelData = voxels[index].astype("<i2").tobytes()

    return edit


def reason(path: Path, **options: object) -> str:
    with pytest.raises(InputRejected) as caught:
        read_volume(path, ReadOptions(**options))
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [-2000, -1024, -1000, -500, 0, 3071])
@pytest.mark.parametrize("offset", OFFSETS)
def test_an_offset_is_noticed_whatever_fills_the_background(tmp_path, offset, fill):
    path = save(lifted(offset, fill), tmp_path / "a.nii")
    assert f"state --hu-offset -{offset}" in reason(path)
    read = read_volume(path, ReadOptions(hu_offset=-offset))
    inside = ~outside(read.shape)
    np.testing.assert_array_equal(read.voxels_hu[inside], phantom().voxels_hu[inside])
    assert "--hu-offset" in reason(save(blurred(lifted(offset, fill)), tmp_path / "b.nii"))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.npz", "dicom"])
def test_an_offset_is_noticed_in_every_format(tmp_path, name):
    path = save(lifted(1024, -1000), tmp_path / name)
    assert "state --hu-offset -1024" in reason(path)
    read = read_volume(path, ReadOptions(hu_offset=-1024, npz_clip_hu=(-1024, 3071)))
    inside = ~outside(read.shape)
    np.testing.assert_array_equal(read.voxels_hu[inside], phantom().voxels_hu[inside])


@pytest.mark.slow
def test_sound_scans_stay_whatever_fills_their_background(tmp_path):
    for fill in (-3024, -1024, -1000, 0, 3071):
        voxels = np.where(outside(phantom().shape), np.int16(fill), phantom().voxels_hu)
        for number, stored in enumerate((voxels, blurred(voxels))):
            read = read_volume(save(stored, tmp_path / f"{number}.nii"))
            np.testing.assert_array_equal(read.voxels_hu, np.maximum(stored, -1024))


@pytest.mark.parametrize("offset", OFFSETS)
def test_an_offset_taken_off_once_too_often_is_noticed(tmp_path, offset):
    for number, fill in enumerate((None, -3024, -1000)):
        voxels = phantom().voxels_hu - np.int16(offset)
        if fill is not None:
            voxels = np.where(outside(voxels.shape), np.int16(fill), voxels)
        path = save(voxels, tmp_path / f"{number}.nii")
        assert f"state --hu-offset {offset}" in reason(path)
        read = read_volume(path, ReadOptions(hu_offset=offset)).voxels_hu
        inside = ~outside(read.shape)
        np.testing.assert_array_equal(read[inside], phantom().voxels_hu[inside])


def test_a_background_of_water_is_said(tmp_path):
    """As padding with 0 is, which a NIfTI cannot declare."""
    share = np.mean(outside(phantom().shape))
    voxels = np.where(outside(phantom().shape), np.int16(0), phantom().voxels_hu)
    notes = read_volume(save(voxels, tmp_path / "a.nii")).metadata["notes"]
    assert f"{share:.0%} of the voxels are 0 HU" in notes[0]
    assert "HU" not in str(read_volume(save(phantom().voxels_hu, tmp_path / "b.nii")).metadata)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [None, -1000, -1024, -2000])
def test_mr_is_never_let_in_by_our_own_advice(tmp_path, fill):
    """Whatever it is multiplied by, as scanners scale it at will."""
    for factor in np.geomspace(0.1, 8, 25):
        voxels = np.rint(mr() * factor).astype(np.int16)
        if fill is not None:
            voxels = np.where(outside(voxels.shape), np.int16(fill), voxels)
        path = save(voxels, tmp_path / "a.nii")
        assert "--hu-offset" not in reason(path), factor
        for offset in OFFSETS:
            reason(path, hu_offset=-offset)


def test_both_offsets_are_named_where_air_does_not_tell(tmp_path):
    for added, named in ((1000, "as if 1000 had"), (1012, "or 10"), (1024, "as if 1024 had")):
        path = save(phantom().voxels_hu + np.int16(added), tmp_path / "a.nii")
        assert named in reason(path)


def test_an_offset_too_many_is_refused(tmp_path):
    for offset, stated in ((0, -300), (0, -1024), (1024, -2048), (1024, 1024), (1000, -400)):
        path = save(phantom().voxels_hu + np.int16(offset), tmp_path / "a.nii")
        reason(path, hu_offset=stated)


def test_advice_on_an_offset_counts_the_one_that_was_stated(tmp_path):
    path = save(phantom().voxels_hu + np.int16(1424), tmp_path / "a.nii")
    assert "state --hu-offset -1424" in reason(path, hu_offset=-400)
    np.testing.assert_array_equal(
        read_volume(path, ReadOptions(hu_offset=-1424)).voxels_hu, phantom().voxels_hu
    )


def test_an_assumed_rescale_is_judged_too(tmp_path):
    """Pixels that are HU already, read with the rescale that the refusal gives as an example."""

    def edit(dataset, index):
        _without_rescale(phantom().voxels_hu)(dataset, index)
        del dataset.RescaleSlope, dataset.RescaleIntercept

    write_series(tmp_path / "a", phantom().voxels_hu, edit=edit)
    assert "--assume-rescale" in reason(tmp_path / "a")
    for intercept in (-1024, -300):
        reason(tmp_path / "a", assume_rescale=(1, intercept))
    read = read_volume(tmp_path / "a", ReadOptions(assume_rescale=(1, 0)))
    np.testing.assert_array_equal(read.voxels_hu, phantom().voxels_hu)


def test_an_offset_is_added_before_anything_saturates(tmp_path):
    voxels = (phantom().voxels_hu.astype(np.int32) + 32768).astype(np.uint16)
    for name in ("a.nii", "a.npz"):
        options = ReadOptions(hu_offset=-32768, npz_clip_hu=(-1024, 3071))
        read = read_volume(save(voxels, tmp_path / name), options)
        np.testing.assert_array_equal(read.voxels_hu, phantom().voxels_hu)


def test_padding_that_lost_its_sign_is_air(tmp_path):
    """-2000 in an unsigned file is 63536, which would be the densest metal."""
    padded = np.where(outside(phantom().shape), -2000, phantom().voxels_hu)
    bare = np.where(outside(phantom().shape), -2000, phantom().voxels_hu.astype(np.int32) + 1024)
    for voxels, offset in ((padded, 0), (bare, -1024)):
        unsigned = np.where(voxels == -2000, 63536, np.maximum(voxels, 0)).astype(np.uint16)
        if offset:
            read = read_volume(save(unsigned, tmp_path / "a.nrrd"), ReadOptions(hu_offset=offset))
            np.testing.assert_array_equal(read.voxels_hu, np.maximum(padded, -1024))
        else:  # what was below water is lost: no air is left
            reason(save(unsigned, tmp_path / "a.nrrd"))


def test_levels_count_whole_hu_from_minus_1024():
    levels = Levels.of(np.array([[[-3000.0, -1024.0, -0.5]], [[0.5, 40.0, 1e9]]], np.float32))
    assert levels.present.tolist() == [-1024, -1, 0, 40, 32767]
    assert levels.number(-1024) == 5
    assert levels.share(0, 40) == 2 / 5
    with pytest.raises(InputRejected, match="above 4096"):
        check_hu(levels, "a", 0.0)
