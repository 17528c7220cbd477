"""Files as other programs leave them: read as they are meant, or refused with the true reason."""

from __future__ import annotations

import gzip
import io
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)
from scans import as_nifti, chest, chest_hu, compressed, write_series

from prdit_core.data.io import ReadOptions, find_cases, read_volume, write_volume
from prdit_core.data.presets import PRESETS
from prdit_core.errors import InputRejected, PartialFailure
from prdit_core.verbs.preprocess import preprocess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom.dataset import Dataset

HU = chest_hu()
CORNER = np.zeros(HU.shape, bool)
CORNER[:, :2, :12] = True
SPACING = np.array([1.25, 1.5, 2.0])
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def reason(path: Path, options: ReadOptions | None = None) -> str:
    with pytest.raises(InputRejected) as caught:
        read_volume(path, options or ReadOptions())
    message = str(caught.value)
    assert message.isprintable() and "; " in message
    return message


# Padding that a DICOM header declares.


def padded(value: int, *, signed: bool = True, bits: int = 16, **tags: object) -> Callable:
    """An edit that fills a corner of each slice with a stored value, and sets tags."""

    def edit(dataset: Dataset, index: int) -> None:
        pixels = HU[index].astype(np.int64) + 1024
        pixels[CORNER[index]] = value
        dataset.PixelRepresentation = int(signed)
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.PixelData = pixels.astype("<i2" if signed else "<u2").tobytes()
        for tag, content in tags.items():
            dataset.add_new(tag, *content)

    return edit


VALUE, LIMIT = "PixelPaddingValue", "PixelPaddingRangeLimit"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "signed", "bits", "tags"),
    [
        (-2000, True, 16, {VALUE: ("SS", -2000)}),
        (-2000, True, 16, {VALUE: ("US", 63536)}),  # as in LIDC-IDRI
        (63536, False, 16, {VALUE: ("US", 63536)}),
        (63536, False, 16, {VALUE: ("SS", -2000)}),
        (63536, False, 12, {VALUE: ("US", 63536)}),  # more than the bits that are stored
        (63536, False, 16, {}),  # not declared, but nothing else can be so dense
        (4095, True, 16, {VALUE: ("SS", 4095)}),
        (4095, False, 12, {VALUE: ("US", 4095)}),
        (1064, True, 16, {VALUE: ("SS", 1064)}),  # as muscle is, of which some stays
        (4090, True, 16, {VALUE: ("SS", 4095), LIMIT: ("SS", 4080)}),
        (-1995, True, 16, {VALUE: ("SS", -2000), LIMIT: ("US", 63550)}),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_declared_padding_becomes_air_and_is_counted(tmp_path, value, signed, bits, tags, syntax):
    for path in write_series(tmp_path, edit=padded(value, signed=signed, bits=bits, **tags)):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels_hu, np.where(CORNER, -1024, HU))
    assert volume.metadata["notes"] == [f"{CORNER.sum()} voxels of padding became air (-1024 HU)"]


def test_a_range_that_ends_before_the_pixels_takes_nothing(tmp_path):
    write_series(tmp_path, edit=padded(4090, **{VALUE: ("SS", 4095), LIMIT: ("SS", 4092)}))
    np.testing.assert_array_equal(read_volume(tmp_path).voxels_hu, np.where(CORNER, 3066, HU))


def test_padding_is_applied_before_a_fractional_rescale(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        padded(8190, **{VALUE: ("SS", 8190)})(dataset, index)
        pixels = np.frombuffer(dataset.PixelData, "<i2").reshape(HU[index].shape)
        dataset.PixelData = np.where(CORNER[index], 8190, pixels * 2).astype("<i2").tobytes()
        dataset.RescaleSlope = 0.5

    write_series(tmp_path, edit=edit)
    np.testing.assert_array_equal(read_volume(tmp_path).voxels_hu, np.where(CORNER, -1024, HU))


# Padding that is no longer one value.


def ringing(pixels: np.ndarray, index: int) -> np.ndarray:
    noise = np.random.default_rng(index).normal(0, 30, pixels.shape)
    return np.where(pixels == -2000, np.rint(pixels + noise), pixels)


def smooth(pixels: np.ndarray, _: int) -> np.ndarray:
    return np.rint((pixels + np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1)) / 3)


@pytest.mark.parametrize("tags", [{}, {VALUE: ("SS", -2000)}])
@pytest.mark.parametrize("change", [ringing, smooth])
def test_blurred_padding_is_air_and_that_is_said(tmp_path, change, tags):
    kept: list[np.ndarray] = []

    def edit(dataset: Dataset, index: int) -> None:
        padded(-2000, **tags)(dataset, index)
        pixels = np.frombuffer(dataset.PixelData, "<i2").reshape(wide[index].shape).astype(float)
        noisy = change(pixels + np.random.default_rng(index).normal(0, 9, pixels.shape), index)
        noisy = np.where(pixels == -2000, change(pixels, index), noisy)
        kept.append(np.maximum(np.rint(noisy) - 1024, -1024))
        dataset.PixelData = np.rint(noisy).astype("<i2").tobytes()

    wide = HU
    write_series(tmp_path, edit=edit)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels_hu, np.stack(kept))
    assert any("padding is not sharp" in note for note in volume.metadata["notes"])


def test_lossy_jpeg_2000_around_padding(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        padded(0, signed=False, **{VALUE: ("US", 0)})(dataset, index)
        dataset.RescaleIntercept = -3024
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(HU[index].shape)
        dataset.PixelData = np.where(CORNER[index], 0, pixels + 2000).astype("<u2").tobytes()

    def lossy(dataset: Dataset) -> bytes:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
        out = io.BytesIO()
        options = {"irreversible": True, "quality_layers": [5], "no_jp2": True}
        Image.fromarray(pixels).save(out, "JPEG2000", **options)
        return out.getvalue()

    write_series(tmp_path, edit=edit)
    compressed(tmp_path, JPEG2000, lossy)
    volume = read_volume(tmp_path)
    assert any("padding is not sharp" in note for note in volume.metadata["notes"])
    assert (volume.voxels_hu[:, 0, :9] == -1024).all()
    assert np.median(volume.voxels_hu[HU < -900]) < -900
    assert abs(np.median(volume.voxels_hu[(HU > 0) & (HU < 60)]) - 40) < 60


# Origins that stand beside axes which have to be assumed.


def origin_of(path: Path, codes: str) -> tuple[float, float, float]:
    """LPS mm of the voxel that is stored first."""
    volume = read_volume(path, ReadOptions(assume_orientation=codes))
    corner = np.argwhere(volume.voxels_hu == 2500)[0][::-1]
    x, y, z = (volume.affine @ [*corner, 1])[:3]
    return -x, -y, z


def marked() -> np.ndarray:
    voxels = HU.copy()
    voxels[0, 0, 0] = 2500
    return voxels


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAI"])
@pytest.mark.parametrize("word", ["Offset", "Position", "Origin"])
def test_a_metaimage_keeps_its_origin(tmp_path, word, codes):
    (tmp_path / "v.raw").write_bytes(marked().tobytes())
    (tmp_path / "a.mhd").write_text(
        f"ObjectType = Image\nNDims = 3\nDimSize = 28 24 10\n{word} = -11.5 -22.25 -33\n"
        "ElementSpacing = 1.25 1.5 2\nElementType = MET_SHORT\nElementDataFile = v.raw\n"
    )
    assert origin_of(tmp_path / "a.mhd", codes) == (-11.5, -22.25, -33)


def nrrd(path: Path, *lines: str) -> Path:
    fixed = "type: short", "dimension: 3", "sizes: 28 24 10", "endian: little", "encoding: raw"
    header = "\n".join(("NRRD0004", *fixed, "spacings: 1.25 1.5 2", *lines))
    path.write_bytes(header.encode() + b"\n\n" + marked().tobytes())
    return path


@pytest.mark.parametrize(
    ("lines", "codes", "lps_mm"),
    [
        (("axis mins: -11.5 -22.25 -33",), "LPS", (-11.5, -22.25, -33)),
        (("axismins: -11.5 -22.25 -33",), "LPS", (-11.5, -22.25, -33)),
        (("axis mins: 11.5 22.25 -33",), "RAS", (-11.5, -22.25, -33)),  # along its axes
        (("axis mins: 0 0 0", "centers: cell cell cell"), "LPS", (0.625, 0.75, 1)),
        (("space: RAS", "space origin: (11.5,22.25,-33)"), "LPS", (-11.5, -22.25, -33)),
        (("axis mins: 0 0 9", "centers: cell cell"), "LPS", (0, 0, 9)),
        (("axis mins: nan nan nan",), "LPS", (0, 0, 0)),
        ((), "LPS", (0, 0, 0)),
    ],
)
def test_an_nrrd_keeps_its_origin(tmp_path, lines, codes, lps_mm):
    assert origin_of(nrrd(tmp_path / "a.nrrd", *lines), codes) == pytest.approx(lps_mm)


# The directory of a medium, under any name.


def write_directory(path: Path) -> None:
    directory = pydicom.Dataset()
    directory.FileSetID = "ANON"
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    directory.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("name", ["DIRFILE", "index.dcm", "00000001"])
def test_a_directory_of_a_medium_is_no_slice_whatever_its_name(tmp_path, name):
    for root, slices in ((tmp_path / "cd", tmp_path / "cd" / "IMAGES"), (tmp_path / "flat",) * 2):
        write_series(slices)
        write_directory(root / name)
        volume = read_volume(root)
        np.testing.assert_array_equal(volume.voxels_hu, HU)
        assert volume.metadata["notes"] == ["1 files that are no DICOM image were ignored"]
        assert find_cases(root) == [slices]


# Detached data files.


@pytest.mark.parametrize("spelling", ["./v.raw", "././v.raw", ".\\v.raw", ".//v.raw"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_a_data_file_may_be_said_to_lie_here(tmp_path, suffix, spelling):
    sitk.WriteImage(sitk.GetImageFromArray(HU), str(tmp_path / f"a{suffix}"))
    header = (tmp_path / f"a{suffix}").read_bytes()
    (raw,) = set(tmp_path.iterdir()) - {tmp_path / f"a{suffix}"}
    (tmp_path / f"a{suffix}").write_bytes(header.replace(raw.name.encode(), spelling.encode()))
    content = raw.read_bytes()
    packed = content.startswith(b"\x1f\x8b")
    (tmp_path / "v.raw").write_bytes(content)
    raw.unlink()
    assert packed == (suffix == ".nhdr" and raw.suffix == ".gz")
    np.testing.assert_array_equal(read_volume(tmp_path / f"a{suffix}").voxels_hu, HU)
    for elsewhere in ("./../v.raw", "./sub/v.raw", "/./v.raw", "./"):
        text = header.replace(raw.name.encode(), elsewhere.encode())
        (tmp_path / f"a{suffix}").write_bytes(text)
        assert "not in one file beside the header" in reason(tmp_path / f"a{suffix}")


def test_a_header_that_says_here_is_still_the_owner_of_its_data_file(tmp_path):
    path = write_volume(chest(), tmp_path / "a.mhd")
    path.write_text(path.read_text().replace("= a.raw", "= ./a.raw"))
    write_volume(chest(), path)
    np.testing.assert_array_equal(read_volume(path).voxels_hu, HU)


# DICOM without its preamble.


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, None]
)
def test_slices_without_preamble_and_suffix(tmp_path, syntax):
    """None keeps the file meta, which then comes first."""
    for index, path in enumerate(write_series(tmp_path)):
        content = path.read_bytes()[132:]
        if syntax is not None:
            dataset = pydicom.dcmread(path)
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            dataset.file_meta, dataset.preamble = FileMetaDataset(), None
            buffer = io.BytesIO()
            pydicom.dcmwrite(
                buffer,
                dataset,
                implicit_vr=syntax.is_implicit_VR,
                little_endian=syntax.is_little_endian,
                force_encoding=True,
            )
            content = buffer.getvalue()
        path.unlink()
        (tmp_path / f"IM{index:03d}").write_bytes(content)
    assert content[128:132] != b"DICM"
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels_hu, HU)
    assert volume.metadata["notes"] == []
    assert find_cases(tmp_path) == [tmp_path]
    (tmp_path / "IM004").write_bytes((tmp_path / "IM004").read_bytes()[:-300])
    assert "IM004: " in reason(tmp_path)


def test_what_only_begins_like_dicom_is_ignored(tmp_path):
    write_series(tmp_path)
    for name, start in (("a", b"\x08\x00\x05\x00"), ("b", b"\x02\x00\x00\x00")):
        (tmp_path / name).write_bytes(start + bytes(range(256)) * 8)
    notes = read_volume(tmp_path).metadata["notes"]
    assert notes == ["2 files that are no DICOM image were ignored"]


# Names that say something else.

KINDS = ("nii", "nii.gz", "nrrd", "mha", "npz", "dcm")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of one sound file of each kind."""
    folder = tmp_path_factory.mktemp("sound")
    for suffix in ("nii", "nii.gz", "mha"):
        write_volume(chest(), folder / f"a.{suffix}")
    sitk.WriteImage(sitk.GetImageFromArray(HU), str(folder / "a.nrrd"))
    np.savez(folder / "a.npz", ct=HU)
    write_series(folder / "series")[0].rename(folder / "a.dcm")
    return {kind: (folder / f"a.{kind}").read_bytes() for kind in KINDS}


WORDS = {"nii": "NIfTI", "nii.gz": "gzip", "nrrd": "NRRD", "mha": "MetaImage"}
WORDS |= {"npz": "zip", "dcm": "DICOM"}


@pytest.mark.parametrize("named", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz"])
def test_a_file_under_a_wrong_name_is_called_what_it_is(tmp_path, named, sound):
    own = {".nhdr": "nrrd", ".mhd": "mha"}.get(named, named[1:])
    for kind in set(KINDS) - {own}:
        path = tmp_path / f"{kind}{named}"
        path.write_bytes(sound[kind])
        message = reason(path)
        assert f"it is {WORDS[kind]}, not {WORDS[own]}" in message
        if (kind, named) == ("nii.gz", ".nii"):
            assert message.endswith("rename it to end in .nii.gz")
        elif kind in ("nii.gz", "npz"):
            assert message.endswith("unpack it")
        else:
            assert message.endswith(f"rename it to end in .{kind}")


@pytest.mark.parametrize("name", ["scan", "scan.img", "scan.dcm"])
def test_a_name_that_says_nothing_is_no_reason_to_call_a_format_unknown(tmp_path, name, sound):
    for kind in ("nii", "nrrd", "mha"):
        (tmp_path / name).write_bytes(sound[kind])
        message = reason(tmp_path / name)
        assert f"it is {WORDS[kind]} by another name; rename it to end in .{kind}" in message


def test_the_advice_on_a_name_is_right(tmp_path, sound):
    for stored, named, better in (("nii", "a.nii.gz", "a.nii"), ("nii.gz", "b.nii", "b.nii.gz")):
        (tmp_path / named).write_bytes(sound[stored])
        assert f"end in {better[1:]}" in reason(tmp_path / named)
        (tmp_path / named).rename(tmp_path / better)
        np.testing.assert_array_equal(read_volume(tmp_path / better).voxels_hu, HU)


@pytest.mark.parametrize(
    ("content", "why", "remedy"),
    [
        (LFS, "git-lfs pointer", "git lfs pull"),
        ("/annex/objects/SHA256E-s9--4d7a.nii.gz\n", "git-annex pointer", "git annex get"),
        ("<!DOCTYPE html>\n<html>Sign in</html>", "web page", "download the file itself"),
    ],
)
def test_a_pointer_is_told_from_damage_in_every_format(tmp_path, content, why, remedy):
    for suffix in (*KINDS, "nhdr", "mhd"):
        path = tmp_path / f"a.{suffix}"
        path.write_text(content)
        assert f"{path.name}: it is a {why}" in reason(path)
        assert remedy in reason(path)
        path.unlink()
    for file in write_series(tmp_path / "series")[2:5]:
        file.write_text(content)
    assert f"slice 002.dcm: it is a {why}" in reason(tmp_path / "series")
    for file in (tmp_path / "series").iterdir():
        file.rename(file.with_suffix(""))
    assert f"slice 002: it is a {why}" in reason(tmp_path / "series")
    header = write_volume(chest(), tmp_path / "a.mhd")
    (tmp_path / "a.raw").write_text(content)
    assert f"a.raw: it is a {why}" in reason(header)


def test_a_pointer_among_scans_is_reported(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii").write_bytes(as_nifti(chest()).to_bytes())
    (tmp_path / "in" / "b.nii.gz").write_text(LFS)
    with pytest.raises(PartialFailure):
        preprocess([tmp_path / "in"], preset=PRESETS["chest-320"], size=8, out=tmp_path / "out")
    assert "git lfs pull" in (tmp_path / "out" / "report.json").read_text()
    shutil.copy(tmp_path / "in" / "a.nii", tmp_path / "in" / "b.nii")
    (tmp_path / "in" / "b.nii.gz").write_bytes(gzip.compress(as_nifti(chest()).to_bytes()))
    preprocess([tmp_path / "in"], preset=PRESETS["chest-320"], size=8, out=tmp_path / "out")
    assert "git lfs pull" not in (tmp_path / "out" / "report.json").read_text()
