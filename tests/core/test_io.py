"""Reading and writing scans whose content and geometry are as they should be."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scans import as_nifti, chest, chest_hu, reoriented, write_series

from prdit_core.data import writing
from prdit_core.data.checks import little_lung
from prdit_core.data.io import ReadOptions, find_cases, read_volume, write_volume
from prdit_core.data.sources import find_sources
from prdit_core.errors import InputRejected, NumericalError, OutputError, UsageError
from prdit_core.volume import Volume, axial_affine

ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "SI"))
    for codes in itertools.product(*axes)
]
WRITTEN = [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"]


def itk(volume: Volume) -> sitk.Image:
    """The volume as SimpleITK sees it, by its own conventions."""
    image = sitk.GetImageFromArray(volume.voxels_hu)
    to_lps = np.diag([-1.0, -1.0, 1.0])
    lengths = np.linalg.norm(volume.affine[:3, :3], axis=0)
    image.SetSpacing(lengths.tolist())
    image.SetDirection((to_lps @ volume.affine[:3, :3] / lengths).ravel().tolist())
    image.SetOrigin((to_lps @ volume.affine[:3, 3]).tolist())
    return image


def oblique() -> Volume:
    turn = sitk.VersorTransform((0.2, -0.5, 0.6), 0.3).GetMatrix()
    affine = chest().affine.copy()
    affine[:3, :3] = np.reshape(turn, (3, 3)) @ affine[:3, :3]
    return Volume(chest_hu(), affine)


def same(read: Volume, expected: Volume) -> None:
    np.testing.assert_array_equal(read.voxels_hu, expected.voxels_hu)
    np.testing.assert_allclose(read.affine, expected.affine, atol=2e-5)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.slow
@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_every_orientation_reads_the_same(tmp_path, codes):
    stored = reoriented(chest(), codes)
    nib.save(as_nifti(stored), tmp_path / "a.nii")
    sitk.WriteImage(itk(stored), str(tmp_path / "a.nrrd"))
    sitk.WriteImage(itk(stored), str(tmp_path / "a.mha"), True)
    for suffix in ("nii", "nrrd", "mha"):
        same(read_volume(tmp_path / f"a.{suffix}"), chest())


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("make", [chest, oblique, lambda: reoriented(chest(), "SRA")])
def test_other_libraries_see_what_was_written(tmp_path, suffix, make):
    volume = make()
    path = write_volume(volume, tmp_path / f"out{suffix}")
    seen = sitk.ReadImage(str(path))
    expected = itk(volume)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(seen), volume.voxels_hu)
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(seen, name)(), getattr(expected, name)(), atol=1e-4)
    if suffix.startswith(".nii"):
        image = nib.load(path)
        assert image.get_data_dtype() == np.int16
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume.voxels_hu)
        np.testing.assert_allclose(image.affine, volume.affine, atol=1e-4)


@pytest.mark.parametrize("suffix", WRITTEN)
def test_round_trip(tmp_path, suffix):
    read = read_volume(write_volume(chest(), tmp_path / f"out{suffix}"))
    same(read, chest())
    assert read.voxels_hu.dtype == np.int16
    assert read.metadata["notes"] == []
    json.dumps(read.metadata)


def test_oblique_keeps_its_rotation(tmp_path):
    read = read_volume(write_volume(oblique(), tmp_path / "a.mha"))
    same(read, oblique())
    assert any("oblique" in note for note in read.metadata["notes"])


@pytest.mark.parametrize("suffix", WRITTEN)
def test_equal_volumes_give_equal_bytes(tmp_path, suffix):
    written = [write_volume(chest(), tmp_path / name / f"a{suffix}") for name in ("one", "two")]
    assert written[0].read_bytes() == written[1].read_bytes()


def test_gzip_has_no_time_and_no_name(tmp_path):
    start = write_volume(chest(), tmp_path / "patient name.nii.gz").read_bytes()[:10]
    assert start[3] == 0  # no flags, hence no file name
    assert start[4:8] == bytes(4)  # no time


@pytest.mark.parametrize("suffix", [".nii", ".mha"])
def test_overflow_saturates_with_a_warning(tmp_path, suffix):
    voxels = chest_hu().astype(np.float32)
    voxels[0, 0, 0], voxels[0, 0, 1], voxels[0, 0, 2] = 40000.0, -40000.0, 10.6
    with pytest.warns(UserWarning, match="2 voxels outside int16"):
        path = write_volume(Volume(voxels, chest().affine), tmp_path / f"a{suffix}")
    seen = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert seen[0, 0, :3].tolist() == [32767, -32768, 11]


def test_description_goes_into_the_header(tmp_path):
    text = "synthetic, not for diagnosis"
    volume = Volume(chest_hu(), chest().affine, {"description": text})
    nifti = nib.load(write_volume(volume, tmp_path / "a.nii"))
    assert nifti.header["descrip"].item().decode() == text
    for suffix in (".mha", ".nrrd"):
        assert text.encode() in write_volume(volume, tmp_path / f"a{suffix}").read_bytes()[:500]


def test_nothing_is_written_in_place_of_nan_or_an_unknown_format(tmp_path):
    voxels = chest_hu().astype(np.float32)
    voxels[1, 2, 3] = np.nan
    with pytest.raises(NumericalError):
        write_volume(Volume(voxels, chest().affine), tmp_path / "a.nii")
    with pytest.raises(UsageError, match=r"\.nii\.gz"):
        write_volume(chest(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OutputError, match="No space left"):
        write_volume(chest(), tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_loses_bytes_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: path.open("wb").write(data[:-100]))
    with pytest.raises(OutputError, match="read back"):
        write_volume(chest(), tmp_path / "a.mha")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "part"), [(".mha", 3), (".mhd", 3), (".nii", 0), (".mhd", 0), (".nrrd", 0)]
)
def test_a_header_that_does_not_read_back_is_noticed(tmp_path, monkeypatch, suffix, part):
    name = {".nii": "write_nifti", ".nrrd": "nrrd_header"}.get(suffix, "metaimage_header")
    right = getattr(writing, name)

    def elsewhere(volume, *place, **options):
        affine = volume.affine.copy()
        affine[:3, part] += affine[:3, part] * 0.01 + 0.001
        return right(Volume(volume.voxels_hu, affine), *place, **options)

    monkeypatch.setattr(writing, name, elsewhere)
    with pytest.raises(OutputError, match="read back"):
        write_volume(chest(), tmp_path / f"a{suffix}")
    assert not (tmp_path / f"a{suffix}").exists()


def test_the_raw_file_of_another_header_is_not_replaced(tmp_path):
    path, raw = tmp_path / "a.mhd", tmp_path / "a.raw"
    raw.write_bytes(b"a camera's picture")
    for header in (None, "ElementDataFile = b.raw\n", "no header"):
        if header is not None:
            path.write_text(header)
        with pytest.raises(OutputError, match=r"a\.raw is there and is not of a\.mhd"):
            write_volume(chest(), path)
        assert raw.read_bytes() == b"a camera's picture"
    raw.unlink()
    for _ in range(2):
        same(read_volume(write_volume(chest(), path)), chest())


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", ">f4", "<f8"])
def test_number_types_and_byte_orders(tmp_path, dtype):
    volume = chest()
    image = nib.Nifti1Image(volume.voxels_hu.T.astype(dtype), volume.affine)
    nib.save(image, tmp_path / "a.nii.gz")
    endian = nib.Nifti1Image(
        volume.voxels_hu.T.astype(dtype), volume.affine, image.header.as_byteswapped(">")
    )
    nib.save(endian, tmp_path / "big.nii")
    for name in ("a.nii.gz", "big.nii"):
        same(read_volume(tmp_path / name), volume)


def test_scale_and_offset_are_applied_once(tmp_path):
    volume = chest()
    image = as_nifti(Volume(((volume.voxels_hu + 1024) // 2).astype(np.int16), volume.affine))
    image.header.set_slope_inter(2, -1024)
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([2, -1024], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    read = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(read.voxels_hu, volume.voxels_hu, atol=1)


@pytest.mark.parametrize(("unit", "per_mm"), [("meter", 1e-3), ("micron", 1e3), ("unknown", 1.0)])
def test_units_are_converted_to_mm(tmp_path, unit, per_mm):
    scale = np.diag([per_mm, per_mm, per_mm, 1.0])
    image = as_nifti(Volume(chest_hu(), scale @ chest().affine))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    read = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(read.affine, chest().affine, rtol=1e-5)
    assert any("mm" in note for note in read.metadata["notes"]) == (per_mm != 1)


def test_a_last_axis_of_one_is_dropped_and_noted(tmp_path):
    nib.save(nib.Nifti1Image(chest_hu().T[..., None], chest().affine), tmp_path / "a.nii")
    read = read_volume(tmp_path / "a.nii")
    same(read, chest())
    assert "4 axes" in read.metadata["notes"][0]


def test_a_frame_is_chosen(tmp_path):
    frames = np.stack([chest_hu().T, chest_hu().T - 10, chest_hu().T - 20], axis=-1)
    nib.save(nib.Nifti1Image(frames, chest().affine), tmp_path / "a.nii")
    read = read_volume(tmp_path / "a.nii", ReadOptions(frame=1))
    assert read.voxels_hu.max() == chest_hu().max() - 10
    with pytest.raises(InputRejected, match="no frame 3"):
        read_volume(tmp_path / "a.nii", ReadOptions(frame=3))


def test_an_orientation_is_assumed_only_on_request(tmp_path):
    image = nib.Nifti1Image(chest_hu().T, None)
    image.header.set_zooms((1.25, 1.5, 2.0))
    nib.save(image, tmp_path / "a.nii")
    read = read_volume(tmp_path / "a.nii", ReadOptions(assume_orientation="LPS"))
    np.testing.assert_array_equal(read.voxels_hu, chest_hu())
    assert read.spacing_mm == (2.0, 1.5, 1.25)
    turned = read_volume(tmp_path / "a.nii", ReadOptions(assume_orientation="RPS"))
    np.testing.assert_array_equal(turned.voxels_hu, chest_hu()[:, :, ::-1])
    with pytest.raises(ValueError, match="LPS"):
        ReadOptions(assume_orientation="LLS")


def test_hu_offset_and_nan_fill(tmp_path):
    shifted = chest_hu().astype(np.int32) + 1024
    nib.save(nib.Nifti1Image(shifted.T.astype(np.uint16), chest().affine), tmp_path / "a.nii")
    same(read_volume(tmp_path / "a.nii", ReadOptions(hu_offset=-1024)), chest())
    holes = chest_hu().astype(np.float32)
    holes[0, 0, :2] = np.nan, np.inf
    nib.save(nib.Nifti1Image(holes.T, chest().affine), tmp_path / "b.nii")
    read = read_volume(tmp_path / "b.nii", ReadOptions(nan_fill=-1000))
    assert read.voxels_hu[0, 0, :2].tolist() == [-1000, -1000]
    assert read.metadata["notes"][0].startswith("2 voxels")


@pytest.mark.parametrize("padding", [-2000, -3024, -2048, -32768])
def test_padding_is_raised_to_1024_and_counted(tmp_path, padding):
    voxels = chest_hu()
    voxels[0, :2] = padding
    write_volume(Volume(voxels, chest().affine), tmp_path / "a.nii")
    read = read_volume(tmp_path / "a.nii")
    assert read.voxels_hu.min() == -1024
    assert read.metadata["notes"] == [
        f"{voxels[0, :2].size} voxels below -1024 HU were set to -1024"
    ]


def test_rad_chestct_defaults_and_options(tmp_path):
    head_first = chest_hu()[::-1].copy()
    head_first[0, 0, 0] = 1500
    np.savez_compressed(tmp_path / "trn.npz", ct=head_first)
    read = read_volume(tmp_path / "trn.npz")
    assert read.spacing_mm == (0.8, 0.8, 0.8)
    assert read.voxels_hu.dtype == np.int16
    assert read.voxels_hu.max() == 1000
    np.testing.assert_array_equal(read.voxels_hu[:-1], chest_hu()[:-1])
    options = ReadOptions(
        npz_spacing_mm=(2, 1, 1), npz_clip_hu=(-1000, 2000), assume_orientation="LPS"
    )
    other = read_volume(tmp_path / "trn.npz", options)
    assert other.spacing_mm == (2, 1, 1)
    np.testing.assert_array_equal(other.voxels_hu, np.maximum(head_first, -1000))


def test_rad_chestct_with_an_offset_is_clipped_in_hu(tmp_path):
    hu = chest_hu()[::-1].copy()
    hu[0, 0, :2] = 800, 1500
    for offset, stored in ((-1024, (hu + 1024).astype(np.uint16)), (0.5, hu - np.float32(0.5))):
        np.savez(tmp_path / "a.npz", ct=stored)
        read = read_volume(tmp_path / "a.npz", ReadOptions(hu_offset=offset))
        np.testing.assert_array_equal(read.voxels_hu[::-1], np.clip(hu, -1000, 1000))


@pytest.mark.parametrize("codes", ["lps", "LPS"])
def test_an_orientation_may_be_spelled_small(codes):
    assert ReadOptions(assume_orientation=codes).assume_orientation == "LPS"


def test_a_series_uid_is_not_kept():
    options = ReadOptions(series="1.2.840.1")
    assert "1.2.840" not in options.model_dump_json()
    assert ReadOptions(series=options.series.upper()) == options


def test_detached_files(tmp_path):
    sitk.WriteImage(itk(chest()), str(tmp_path / "a.mhd"))
    sitk.WriteImage(itk(chest()), str(tmp_path / "b.nhdr"))
    same(read_volume(tmp_path / "a.mhd"), chest())
    same(read_volume(tmp_path / "b.nhdr"), chest())


def test_difficult_paths(tmp_path):
    folder = tmp_path / "dir with späce" / "体\nline"
    write_volume(chest(), folder / "a.nii.gz")
    write_series(folder / "séries")
    assert find_cases(tmp_path) == [folder / "a.nii.gz", folder / "séries"]
    for case in find_cases(tmp_path):
        np.testing.assert_array_equal(read_volume(case).voxels_hu, chest_hu())


def test_find_cases(tmp_path):
    write_series(tmp_path / "patient" / "study" / "series")
    write_volume(chest(), tmp_path / "b.nii.gz")
    write_volume(chest(), tmp_path / "c.mhd")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._b.nii.gz").write_text("x")
    expected = [tmp_path / "b.nii.gz", tmp_path / "c.mhd", tmp_path / "patient/study/series"]
    assert find_cases(tmp_path) == expected
    assert find_cases(tmp_path / "b.nii.gz") == [tmp_path / "b.nii.gz"]
    assert find_cases(tmp_path / "patient") == expected[2:]
    with pytest.raises(InputRejected, match="no such"):
        find_cases(tmp_path / "absent")


def test_a_series_spread_over_folders_is_one_case_and_a_copy_another(tmp_path):
    files = write_series(tmp_path / "p" / "1")
    (tmp_path / "p" / "2").mkdir()
    for file in files[5:]:
        file.rename(tmp_path / "p" / "2" / file.name)
    assert find_cases(tmp_path) == [tmp_path / "p"]
    np.testing.assert_array_equal(read_volume(tmp_path / "p").voxels_hu, chest_hu())
    copy = tmp_path / "q"
    copy.mkdir()
    for file in (tmp_path / "p").rglob("*.dcm"):
        (copy / file.name).write_bytes(file.read_bytes())
    assert tmp_path not in find_cases(tmp_path)


def test_links_neither_loop_nor_count_twice(tmp_path):
    root = tmp_path / "root"
    path = write_volume(chest(), root / "a.nii")
    (root / "again.nii").symlink_to(path)
    (root / "loop").symlink_to(root)
    (root / "gone.nii").symlink_to(root / "nowhere.nii")
    assert find_cases(root) == [path, root / "gone.nii"]
    with pytest.raises(InputRejected, match=r"gone\.nii"):
        read_volume(root / "gone.nii")


def test_a_link_with_a_suffix_leads_to_a_scan_without_one(tmp_path):
    blob = tmp_path / "blobs" / "0a1b"
    blob.parent.mkdir()
    write_volume(chest(), tmp_path / "a.nii.gz").rename(blob)
    (tmp_path / "scans").mkdir()
    link = tmp_path / "scans" / "scan.nii.gz"
    link.symlink_to(blob)
    assert find_cases(tmp_path) == [link]
    (source,) = find_sources([tmp_path, link])
    assert source.path == link
    same(read_volume(source.path), chest())


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    write_volume(chest(), tmp_path / "a.nii")
    closed = tmp_path / "closed\n"
    closed.mkdir()
    scandir = os.scandir

    def refusing(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputRejected, match=r"closed\\n: the folder cannot be listed \(Perm"):
        find_cases(tmp_path)


def test_little_lung():
    without = chest_hu()
    without[(without > -900) & (without < -700)] = 40
    affine = axial_affine((4.0, 4.0, 4.0), without.shape)
    assert little_lung(Volume(without, affine))
    assert not little_lung(Volume(chest_hu(), affine))


GOOD = {
    "elastix-right-lung.mha": ((64, 78, 57), False),
    "cip-64.nrrd": ((79, 64, 64), False),
    "abdomen-no-lungs.nii.gz": ((112, 101, 122), True),
    "lidc-idri-0314": ((138, 512, 512), False),
    "lidc-idri-0001-slab": ((16, 512, 512), False),
    "abdomen-20-slices-dicom": ((20, 512, 512), True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_public_scans(real_data, name):
    path = real_data / "ct" / name
    volume = read_volume(path)
    shape, few = GOOD[name]
    assert volume.shape == shape
    assert volume.voxels_hu.dtype == np.int16
    assert volume.voxels_hu.min() >= -1024
    assert np.all(np.diag(volume.affine)[:3] * [-1, -1, 1] > 0)
    assert ("little lung in the field of view" in volume.metadata["notes"]) == few
    seen = _with_itk(path)
    np.testing.assert_array_equal(np.maximum(sitk.GetArrayFromImage(seen), -1024), volume.voxels_hu)
    np.testing.assert_allclose(seen.GetSpacing()[::-1], volume.spacing_mm, atol=1e-3)
    expected = np.array(volume.origin_mm) * [-1, -1, 1]
    np.testing.assert_allclose(seen.GetOrigin(), expected, atol=1e-3)


def _with_itk(path: Path) -> sitk.Image:
    """The scan in canonical orientation by ITK, which calls ours LPS."""
    if path.is_file():
        return sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
    return sitk.DICOMOrient(sitk.ReadImage(names), "LPS")
