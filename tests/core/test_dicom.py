"""DICOM series: stacked when they are a volume, refused with the reason when they are not."""

from __future__ import annotations

import io
import shutil
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from scans import PATIENT, chest_hu, compressed, write_series

from prdit_core.data.io import ReadOptions, find_cases, read_volume
from prdit_core.errors import InputRejected

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

HU = chest_hu()


def refused(path: Path, reason: str, options: ReadOptions | None = None) -> str:
    with pytest.raises(InputRejected, match=reason) as caught:
        read_volume(path, options or ReadOptions())
    message = str(caught.value)
    assert "SECRET" not in message
    assert "; " in message
    assert message.isprintable()
    return message


def at(index: int, **values: object):
    """An edit that sets tags of one slice; None deletes."""

    def edit(dataset: Dataset, place: int) -> None:
        if place == index:
            everywhere(**values)(dataset, place)

    return edit


def everywhere(**values: object):
    def edit(dataset: Dataset, _: int) -> None:
        for tag, value in values.items():
            if value is None:
                del dataset[tag]
            else:
                setattr(dataset, tag, value)

    return edit


def notes_of(path: Path, **options: object) -> list[str]:
    volume = read_volume(path, ReadOptions(**options))
    np.testing.assert_array_equal(volume.voxels_hu, HU)
    return volume.metadata["notes"]


def test_a_series_is_a_volume(tmp_path):
    write_series(tmp_path / "deep" / "er")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels_hu, HU)
    assert volume.spacing_mm == (2.0, 1.5, 1.25)
    assert volume.origin_mm == (15.0, 20.0, 100.0)
    assert volume.metadata["source_format"] == "dicom" and volume.metadata["notes"] == []
    assert len(volume.metadata["patient_key"]) == 16  # a hash; the ID itself stays behind


def test_order_of_files_does_not_matter(tmp_path):
    for index, file in enumerate(write_series(tmp_path)):
        file.rename(tmp_path / f"{(index * 7) % 10}.dcm")
    assert notes_of(tmp_path) == []


@pytest.mark.parametrize(
    "orientation", [[1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, -1, 0], [1, 0, 0, 0, -1, 0]]
)
def test_orientation_of_the_patient(tmp_path, orientation):
    write_series(tmp_path, edit=everywhere(ImageOrientationPatient=orientation))
    volume = read_volume(tmp_path)
    row, column = orientation[0], orientation[4]
    expected = HU[:, :: column or 1, :: row or 1]
    np.testing.assert_array_equal(volume.voxels_hu, expected)
    assert np.all(np.diag(volume.affine)[:3] * [-1, -1, 1] > 0)


def test_a_coronal_series(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [0, 2.0 * index, 0]

    write_series(tmp_path, edit=edit)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels_hu, HU.transpose(1, 0, 2)[::-1])
    assert volume.spacing_mm == (1.5, 2.0, 1.25)


def test_other_files_are_ignored_and_counted(tmp_path):
    write_series(tmp_path)
    for name in ("DICOMDIR", ".DS_Store", "notes.txt", "README"):
        (tmp_path / name).write_bytes(b"x" * 128 + b"DICM" if name == "DICOMDIR" else b"text")
    report = pydicom.dcmread(next(tmp_path.glob("*.dcm")))
    for tag in ("Rows", "Columns", "PixelData"):
        del report[tag]
    report.Modality = "SR"
    report.save_as(tmp_path / "report.dcm")
    assert notes_of(tmp_path) == ["5 files that are no DICOM image were ignored"]


def test_files_without_suffix(tmp_path):
    for index, file in enumerate(write_series(tmp_path)):
        file.rename(tmp_path / f"1.2.840.{index}")
    assert notes_of(tmp_path) == []
    (tmp_path / "1.2.840.9").write_bytes(b"")
    refused(tmp_path, r"1\.2\.840\.9: it is empty")


@pytest.mark.parametrize("lost", [1, 5, 8])
def test_missing_slice(tmp_path, lost):
    write_series(tmp_path)[lost].unlink()
    place = 100 + 2.0 * (lost - 1)
    refused(tmp_path, f"expected 2 mm, found 4 mm between {place:.2f} and {place + 4:.2f}")


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [0.06, 0.1, 0.2, 0.625, 5.0])
def test_a_missing_slice_of_a_long_series_is_noticed_at_any_spacing(tmp_path, spacing):
    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient = [-15, -20, 100 + spacing * index]

    files = write_series(tmp_path, chest_hu((40, 24, 28)), edit=edit)
    assert read_volume(tmp_path).spacing_mm[0] == pytest.approx(spacing)
    files[20].unlink()
    refused(tmp_path, r"uneven slice distance.*1 slices missing")


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        dataset.ImagePositionPatient = [-15, -20, round(100 + 1.25 * index, 1)]

    write_series(tmp_path, edit=edit)
    assert read_volume(tmp_path).spacing_mm[0] == pytest.approx(1.25, abs=0.02)


def test_links_to_folders_are_counted_and_not_followed(tmp_path):
    write_series(tmp_path / "series")
    (tmp_path / "series" / "SECRET").symlink_to(tmp_path)
    assert notes_of(tmp_path / "series") == ["1 links to folders were not followed"]


@pytest.mark.parametrize("size", [0, 100, 600, 1500, -2])
def test_a_damaged_slice_is_named(tmp_path, size):
    file = write_series(tmp_path)[3]
    file.write_bytes(file.read_bytes()[:size])
    refused(tmp_path, "^slice 003.dcm")


def test_identical_duplicates_are_left_out_and_others_refused(tmp_path):
    file = write_series(tmp_path)[4]
    copy = pydicom.dcmread(file)
    copy.SOPInstanceUID = generate_uid()
    copy.save_as(tmp_path / "again.dcm")
    assert notes_of(tmp_path) == ["1 repeated slices were left out"]
    copy.PixelData = bytes(len(copy.PixelData))
    copy.save_as(tmp_path / "again.dcm")
    refused(tmp_path, "lies where another slice lies")


def test_several_series_are_listed_and_chosen(tmp_path):
    write_series(tmp_path / "a")
    other = generate_uid()
    write_series(tmp_path / "b", HU[:6] - 5, edit=everywhere(SeriesInstanceUID=other))
    message = refused(tmp_path, "holds 2 series")
    assert "(10 slices, CT)" in message
    assert other not in message
    short = next(word for word in message.split() if f" {word} (6 slices" in message)
    for name in (other, short):
        volume = read_volume(tmp_path, ReadOptions(series=name))
        np.testing.assert_array_equal(volume.voxels_hu, np.maximum(HU[:6] - 5, -1024))
    assert "10 slices of other series" in volume.metadata["notes"][0]
    refused(tmp_path, "does not hold", ReadOptions(series="1.2.3"))
    assert find_cases(tmp_path) == [tmp_path / "a", tmp_path / "b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (at(3, PatientID="OTHER^SECRET"), "several patients"),
        (at(3, FrameOfReferenceUID=generate_uid()), "several frames of reference"),
        (everywhere(Modality="MR"), r"not CT \(Modality MR\)"),
        (at(2, Modality="PT"), r"not CT \(Modality PT\)"),
        (everywhere(PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
        (everywhere(NumberOfFrames=4, Rows=6), "multi-frame"),
        (at(3, RescaleIntercept=None), "missing in 1 of 10"),
        (everywhere(RescaleSlope=None, RescaleIntercept=None), "missing in 10 of 10"),
        (at(3, RescaleIntercept=0), r"slice 003.dcm: its rescale values place it \+10"),
        (at(3, ImagePositionPatient=None), "missing in 1 of 10"),
        (everywhere(ImageOrientationPatient=None), "missing in 10 of 10"),
        (at(0, PixelSpacing=None), "missing in 1 of 10"),
        (at(3, PixelSpacing=[1.5, 1.2]), "PixelSpacing differs"),
        (at(3, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), "two orientations"),
        (everywhere(ImageOrientationPatient=[1, 0, 0, 0.3, 1, 0]), "right angles"),
        (at(3, ImagePositionPatient=[-15, -20, 106.7]), "uneven slice distance"),
        (at(3, ImagePositionPatient=[-15, -12, 106.0]), "sideways"),
        (everywhere(ImagePositionPatient=[0, 0, 0]), "all 10 slices lie at one position"),
        (everywhere(PixelSpacing=[100, 100]), "outside"),
        (everywhere(BitsStored=10, HighBit=9), "10 unsigned bits cannot hold"),
        (everywhere(PixelRepresentation=1, BitsStored=11, HighBit=10), "signed bits cannot hold"),
        (everywhere(RescaleIntercept=0), "air lies at about 0"),
        (everywhere(RescaleIntercept=-2048), "which is no padding"),
        (at(3, Rows=23), "slice 003.dcm|rows or columns"),
    ],
)
def test_what_a_header_can_spoil(tmp_path, edit, reason):
    write_series(tmp_path, edit=edit)
    refused(tmp_path, reason)


def test_signed_pixels_read_as_unsigned(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.RescaleIntercept = 16, 15, 0
        dataset.PixelData = HU[index].astype("<i2").tobytes()

    write_series(tmp_path, edit=edit)
    refused(tmp_path, "above 4096 HU")


def test_gantry_tilt_is_stated_in_degrees(tmp_path):
    tilt = np.radians(10)

    def edit(dataset: Dataset, _: int) -> None:
        dataset.ImageOrientationPatient = [1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)]

    write_series(tmp_path, edit=edit)
    refused(tmp_path, "tilted by 10 degrees")


def test_geometry_is_judged_before_content(tmp_path):
    files = write_series(tmp_path, np.zeros_like(HU))
    files[5].unlink()
    refused(tmp_path, "uneven")


def test_fewer_than_three_slices(tmp_path):
    files = write_series(tmp_path, HU[:2])
    refused(tmp_path, r"fewer than 3 slices \(2\)")
    refused(files[0], "one slice is no volume")


def test_a_rescale_is_assumed_on_request(tmp_path):
    write_series(tmp_path, edit=everywhere(RescaleSlope=None, RescaleIntercept=None))
    notes = notes_of(tmp_path, assume_rescale=(1, -1024))
    assert notes == ["10 slices had their rescale assumed"]


def test_an_honest_intercept_of_its_own_is_applied(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        if index == 4:
            dataset.RescaleIntercept = -1000
            dataset.PixelData = (HU[index].astype(np.int32) + 1000).astype("<u2").tobytes()

    write_series(tmp_path, edit=edit)
    assert notes_of(tmp_path)[0].startswith("1 of 10 slices have a rescale of their own")


def test_a_fractional_slope(tmp_path):
    def edit(dataset: Dataset, index: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5, -1024
        dataset.PixelData = ((HU[index].astype(np.int32) + 1024) * 2).astype("<u2").tobytes()

    write_series(tmp_path, edit=edit)
    volume = read_volume(tmp_path)
    assert volume.voxels_hu.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels_hu, HU)


def _jpeg2000(dataset: Dataset) -> bytes:
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG2000", irreversible=False, no_jp2=True)
    return out.getvalue()


def test_compressed_pixels(tmp_path):
    write_series(tmp_path / "j2k")
    compressed(tmp_path / "j2k", JPEG2000Lossless, _jpeg2000)
    assert notes_of(tmp_path / "j2k") == []
    for syntax in (RLELossless, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        folder = tmp_path / syntax.name
        for file in write_series(folder):
            dataset = pydicom.dcmread(file)
            if syntax == RLELossless:
                dataset.compress(RLELossless)
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            dataset.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(
                file,
                dataset,
                little_endian=syntax != ExplicitVRBigEndian,
                implicit_vr=False,
                force_encoding=True,
            )
        assert notes_of(folder) == []


def test_a_wrong_sign_in_compressed_pixels(tmp_path):
    hu = HU.copy()
    hu[3:6, 5:12, 10:18] = np.arange(1100, 1100 + 168 * 4, 4).reshape(3, 7, 8)
    write_series(tmp_path, hu)
    compressed(tmp_path, JPEG2000Lossless, _jpeg2000)
    np.testing.assert_array_equal(read_volume(tmp_path).voxels_hu, hu)
    _flip_sign(list(tmp_path.glob("*.dcm")))
    refused(tmp_path, "values below -1500 HU")


def test_a_few_streaks_of_metal_are_padded_over(tmp_path):
    hu = chest_hu((60, 24, 28))
    hu[30, 12, 4:21] = np.arange(-2000, -1983)

    def edit(dataset: Dataset, index: int) -> None:
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 1, 16, 15
        dataset.RescaleIntercept = 0
        dataset.PixelData = hu[index].astype("<i2").tobytes()

    write_series(tmp_path, hu, edit=edit)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels_hu, np.maximum(hu, -1024))
    assert volume.metadata["notes"] == ["17 voxels below -1024 HU were set to -1024"]


def test_pixels_that_cannot_be_decoded(tmp_path):
    write_series(tmp_path)
    compressed(tmp_path, JPEGLSLossless, lambda _: b"\xff\xd8 this is no JPEG-LS")
    refused(tmp_path, "slice 000.dcm: its pixels cannot be decoded .JPEG-LS Lossless")


def test_no_patient_data_in_results_or_warnings(tmp_path):
    write_series(tmp_path, edit=at(2, RescaleIntercept=-1024, NumberOfFrames="1"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        volume = read_volume(tmp_path)
    assert PATIENT not in repr(volume.metadata) + repr([str(w.message) for w in caught])
    assert str(tmp_path) not in repr(volume.metadata)


BAD = {
    "gantrytilting": "tilted by 14 degrees",
    "sliceincrement/001": "uneven slice distance: expected 5 mm, found 10 mm",
    "sliceincrement/002": "tilted by 15.5 degrees, and uneven slice distance",
    "sliceorientation": "not CT .Modality MR., and two orientations in one folder",
    "slicecount": r"not CT .Modality MR., and fewer than 3 slices \(2\)",
    "notavolume": "all 4 slices lie at one position",
    "CT_small.dcm": "one slice is no volume",
    "MR_truncated.dcm": "not CT .Modality MR.",
    "badVR.dcm": "not CT .Modality RTDOSE.",
    "CR-MONO1-10-chest.dcm": "not CT .Modality CR.",
    "no_meta.dcm": "not readable",
}


@pytest.mark.parametrize("name", BAD)
def test_public_faults(real_data, name):
    refused(real_data / "dicom_bad" / name, BAD[name])


def test_cases_among_public_faults(real_data):
    root = real_data / "dicom_bad"
    single = {root / name for name in BAD if name.endswith(".dcm")}
    series = {root / name / "001" for name in BAD if "/" not in name} - {f / "001" for f in single}
    increments = {root / "sliceincrement" / "001", root / "sliceincrement" / "002"}
    assert set(find_cases(root)) == single | series | increments


@pytest.mark.slow
def test_faults_in_a_public_series(real_data, tmp_path):
    for name in ("lidc-idri-0001-slab", "abdomen-20-slices-dicom"):
        shutil.copytree(real_data / "ct" / name, tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        content = files[7].read_bytes()
        files[7].write_bytes(content[: len(content) // 2])
        refused(tmp_path / name, files[7].name)
        files[7].write_bytes(content)
        whole = read_volume(tmp_path / name).voxels_hu
        _flip_sign(files)
        if name == "lidc-idri-0001-slab":  # only padding is negative, and known without its sign
            np.testing.assert_array_equal(read_volume(tmp_path / name).voxels_hu, whole)
        else:
            refused(tmp_path / name, "PixelRepresentation")
        files[7].unlink()
        refused(tmp_path / name, "uneven slice distance")


def _flip_sign(files: list[Path]) -> None:
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.PixelRepresentation = 1 - dataset.PixelRepresentation
        dataset.save_as(file)
