"""Files that must be refused, in one line that names the file and the reason."""

from __future__ import annotations

import gzip
import math
import shutil
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scans import as_nifti, chest, chest_hu

from prdit_core.data.io import ReadOptions, read_volume, write_volume
from prdit_core.errors import InputRejected
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

# How a file tells that its end is missing.
SHORT = "declares .* bytes of voxels, found|cut short|damaged|header|empty|not an NRRD"


def refused(path: Path, reason: str, options: ReadOptions | None = None) -> str:
    """The message, after checking that it is one line with file, reason and remedy."""
    with pytest.raises(InputRejected, match=reason) as caught:
        read_volume(path, options or ReadOptions())
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(path.name.encode("unicode_escape").decode())
    assert ": " in message
    assert "; " in message
    assert str(path.parent) not in message
    assert caught.value.exit_code == 3
    return message


def noisy() -> Volume:
    """A chest that does not compress to next to nothing."""
    noise = np.random.default_rng(0).integers(0, 90, chest_hu().shape, dtype=np.int16)
    return Volume(chest_hu() + noise, chest().affine)


def nifti(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    voxels = chest_hu() if voxels is None else voxels
    nib.save(nib.Nifti1Image(voxels.T, chest().affine if affine is None else affine), path)
    return path


def patched(path: Path, offset: int, value: np.ndarray) -> Path:
    """A NIfTI whose header bytes were changed."""
    content = bytearray(as_nifti(chest()).to_bytes())
    content[offset : offset + value.nbytes] = value.tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".npz", ".nrrd"])
def test_truncated(tmp_path, suffix, keep):
    path = compressed_file(tmp_path / f"a{suffix}", chest())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path, SHORT)


def compressed_file(path: Path, volume: Volume) -> Path:
    """A sound scan, compressed where the format can be."""
    if path.suffix == ".npz":
        np.savez_compressed(path, ct=volume.voxels_hu[::-1])
    elif path.suffix == ".nrrd":
        sitk.WriteImage(sitk.GetImageFromArray(volume.voxels_hu), str(path), True)
    else:
        write_volume(volume, path)
    np.testing.assert_array_equal(read_volume(path).voxels_hu, volume.voxels_hu)
    return path


def test_truncation_states_both_sizes(tmp_path):
    for suffix in (".nii", ".nii.gz", ".mha"):
        path = write_volume(noisy(), tmp_path / f"a{suffix}")
        path.write_bytes(path.read_bytes()[:-200])
        refused(path, f"declares {chest_hu().nbytes} bytes of voxels, found ")


def test_surplus_bytes(tmp_path):
    path = write_volume(chest(), tmp_path / "a.mha")
    path.write_bytes(path.read_bytes() + b"0")
    refused(path, "found more")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".npz"])
def test_every_flipped_byte_of_a_compressed_stream_is_noticed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".mha":
        sitk.WriteImage(sitk.GetImageFromArray(noisy().voxels_hu), str(path), True)
        np.testing.assert_array_equal(read_volume(path).voxels_hu, noisy().voxels_hu)
    else:
        compressed_file(path, noisy())
    good = path.read_bytes()
    start = 700 if suffix in (".nrrd", ".mha") else 60
    end = len(good) - (200 if suffix == ".npz" else 8)
    for place in np.linspace(start, end, 40, dtype=int):
        content = bytearray(good)
        content[place] ^= 0x10
        path.write_bytes(content)
        refused(path, "damaged|cut short|declares|header|no array")


def test_gzip_checksum(tmp_path):
    path = write_volume(chest(), tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    refused(path, "CRC")


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd", "npz", "dcm"])
def test_empty_and_foreign_files(tmp_path, suffix):
    empty, text = tmp_path / f"empty.{suffix}", tmp_path / f"text.{suffix}"
    empty.write_bytes(b"")
    text.write_text("this is a note about a patient, and nothing else\n" * 20)
    reason = "empty|not start|not an NRRD|not a complete MetaImage|zip archive|not readable|damaged"
    for path in (empty, text):
        assert "patient" not in refused(path, reason)


def test_unknown_formats_and_missing_files(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    refused(tmp_path / "a.png", "format is unknown")
    refused(tmp_path / "absent.nii", "no such file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "no DICOM images")


@pytest.mark.parametrize("sizes", [(32767, 32767, 32767), (4096, 4096, 4096)])
def test_absurd_sizes_are_refused_without_memory(tmp_path, sizes):
    path = patched(tmp_path / "a.nii", 40, np.array([3, *sizes, 1, 1, 1, 1], "<i2"))
    refused(path, "GiB")
    (tmp_path / "a.mha").write_bytes(
        write_volume(chest(), tmp_path / "b.mha")
        .read_bytes()
        .replace(b"DimSize = 28 24 10", b"DimSize = %d %d %d" % sizes)
    )
    refused(tmp_path / "a.mha", "GiB")


@pytest.mark.slow
def test_gzip_bomb_takes_neither_time_nor_memory(tmp_path):
    header = as_nifti(chest()).header
    header.set_data_shape((1200, 1200, 1100))
    zeros = bytes(2**20)
    pack = zlib.compressobj(9, wbits=31)
    with (tmp_path / "bomb.nii.gz").open("wb") as file:
        file.write(pack.compress(header.binaryblock + bytes(4)))
        for _ in range(64):
            file.write(pack.compress(zeros))
        file.write(pack.flush())
    program = (
        "import resource, sys\n"
        "from prdit_core.data.io import read_volume\n"
        "from prdit_core.errors import InputRejected\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    read_volume(sys.argv[1])\n"
        "except InputRejected as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    bomb = str(tmp_path / "bomb.nii.gz")
    out = subprocess.run(
        [sys.executable, "-c", program, bomb], capture_output=True, text=True, check=True
    )
    message, grown = out.stdout.splitlines()
    assert "GiB" in message
    assert int(grown) < 50 * 1024


def test_a_stream_longer_than_declared_is_not_inflated(tmp_path):
    content = as_nifti(chest()).to_bytes() + bytes(2**26)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content, 1))
    refused(tmp_path / "a.nii.gz", "found more")


@pytest.mark.parametrize("axes", [(3, 28, -24, 10), (3, 28, 0, 10), (2, 28, 24, 1), (9, 1, 1, 1)])
def test_impossible_dimensions(tmp_path, axes):
    refused(patched(tmp_path / "a.nii", 40, np.array(axes, "<i2")), "states the size")


@pytest.mark.parametrize("spacing", [0.0, -2.0, math.nan, math.inf])
def test_impossible_spacing(tmp_path, spacing):
    refused(patched(tmp_path / "a.nii", 88, np.array([spacing], "<f4")), "spacing")


@pytest.mark.parametrize("factor", [0.001, 40.0])
def test_absurd_spacing(tmp_path, factor):
    affine = np.diag([factor, factor, factor, 1]) @ chest().affine
    refused(nifti(tmp_path / "a.nii", affine=affine), r"outside 0\.05 to 20\.0 mm")


def test_absurd_extent(tmp_path):
    long = np.tile(chest_hu(), (20, 1, 1))
    refused(nifti(tmp_path / "a.nii", long, np.diag([1, 1, 19.0, 1])), "spans 3800 mm")


def test_few_slices(tmp_path):
    refused(nifti(tmp_path / "a.nii", chest_hu()[:2]), "28 x 24 x 2 voxels are no volume")


def test_vectors_colours_and_labels(tmp_path):
    colours = np.zeros(chest_hu().T.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, chest().affine), tmp_path / "rgb.nii")
    refused(tmp_path / "rgb.nii", "colours")
    vectors = np.zeros((*chest_hu().T.shape, 1, 3), np.float32)
    nib.save(nib.Nifti1Image(vectors, chest().affine), tmp_path / "vector.nii")
    refused(tmp_path / "vector.nii", "vectors")
    refused(nifti(tmp_path / "label.nii", (chest_hu() > 0).astype(np.uint8)), "label map")
    channels = np.stack([chest_hu()] * 3, axis=-1)
    for suffix in ("mha", "nrrd"):
        path = tmp_path / f"rgb.{suffix}"
        sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(path))
        refused(path, "vectors")


def test_several_frames_need_a_choice(tmp_path):
    frames = np.stack([chest_hu().T] * 3, axis=-1)
    nib.save(nib.Nifti1Image(frames, chest().affine), tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "holds 3 volumes; choose one with --frame")


def test_not_finite_voxels_are_counted(tmp_path):
    voxels = chest_hu().astype(np.float32)
    voxels.flat[:7], voxels.flat[7:10] = np.nan, -np.inf
    refused(nifti(tmp_path / "a.nii", voxels), "10 voxels are NaN")


@pytest.mark.parametrize("value", [0, -1024])
def test_constant(tmp_path, value):
    refused(nifti(tmp_path / "a.nii", np.full_like(chest_hu(), value)), f"every voxel is {value}")


def test_sheared(tmp_path):
    shear = np.eye(4)
    shear[0, 1] = 0.3
    message = refused(nifti(tmp_path / "a.nii", affine=shear @ chest().affine), "sheared by")
    assert "16.7 degrees" in message


def test_contradictory_geometry(tmp_path):
    image = as_nifti(chest())
    larger = chest().affine @ np.diag([2, 2, 2, 1])
    image.set_qform(larger, 1)
    nib.save(image, tmp_path / "a.nii")
    message = refused(tmp_path / "a.nii", "disagree")
    assert "sform [1.25, 1.5, 2.0]" in message
    assert "qform [2.5, 3.0, 4.0]" in message
    flipped = as_nifti(chest())
    flipped.set_qform(np.diag([-1, 1, 1, 1]) @ chest().affine, 1)
    nib.save(flipped, tmp_path / "b.nii")
    refused(tmp_path / "b.nii", "disagree")


@pytest.mark.parametrize("offset", [256, 268])
def test_nan_in_one_of_two_geometries(tmp_path, offset):
    path = patched(tmp_path / "a.nii", offset, np.array([math.nan], "<f4"))
    refused(path, "disagree|qform or sform is invalid")


def test_no_orientation(tmp_path):
    nib.save(nib.Nifti1Image(chest_hu().T, None), tmp_path / "a.nii")
    refused(tmp_path / "a.nii", "left and right are unknown; state it with --assume-orientation")
    mha = write_volume(chest(), tmp_path / "a.mha").read_bytes()
    start = mha.index(b"TransformMatrix")
    (tmp_path / "b.mha").write_bytes(mha[:start] + mha[mha.index(b"\n", start) + 1 :])
    refused(tmp_path / "b.mha", "--assume-orientation")
    assumed = read_volume(tmp_path / "b.mha", ReadOptions(assume_orientation="LPS"))
    np.testing.assert_array_equal(assumed.voxels_hu, chest_hu())
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 28 24 10\nspacings: 1.25 1.5 2\n"
    content = header + b"endian: little\nencoding: raw\n\n" + chest_hu().tobytes()
    (tmp_path / "a.nrrd").write_bytes(content)
    refused(tmp_path / "a.nrrd", "--assume-orientation")
    assumed = read_volume(tmp_path / "a.nrrd", ReadOptions(assume_orientation="LPS"))
    assert assumed.spacing_mm == (2.0, 1.5, 1.25)


def test_hounsfield_offsets(tmp_path):
    shifted = chest_hu().astype(np.int32) + 1024
    path = nifti(tmp_path / "a.nii", shifted.astype(np.uint16))
    message = refused(path, "air lies at about 0")
    assert "--hu-offset" in message
    twice = chest_hu() - 1024
    refused(nifti(tmp_path / "b.nii", twice), "soft tissue")
    refused(nifti(tmp_path / "c.nii", chest_hu() / 1000), "not CT")
    unsigned = chest_hu().astype(np.uint16)
    refused(nifti(tmp_path / "d.nii", unsigned), "above 4096 HU")


@pytest.mark.parametrize("padding", [-2000, -3024])
def test_padding_is_no_air(tmp_path, padding):
    """As in CT stored with 1024 added whose corners outside the field of view are padded."""
    shifted = chest_hu() + 1024
    shifted[:, :, :3] = padding
    refused(nifti(tmp_path / "a.nii", shifted), "air lies at about 0")
    nothing = np.full_like(chest_hu(), padding)
    nothing[0, 0, 0] += 5
    refused(nifti(tmp_path / "b.nii", nothing), "no voxel reaches -1024")


def test_detached_data(tmp_path):
    path = write_volume(chest(), tmp_path / "a.mhd")
    raw = tmp_path / "a.raw"
    good = raw.read_bytes()
    raw.write_bytes(good[:-100])
    refused(path, "found")
    raw.unlink()
    refused(path, "missing")
    shutil.copy(path, tmp_path / "b.mhd")
    (tmp_path.parent / "outside.raw").write_bytes(good)
    for name in ("../outside.raw", str(tmp_path.parent / "outside.raw"), "LIST", "a%03d.raw 1 9 1"):
        path.write_text((tmp_path / "b.mhd").read_text().replace("a.raw", name))
        refused(path, "not in one file beside")


def test_archives_with_objects_or_lies(tmp_path):
    objects = tmp_path / "a.npz"
    np.savez(objects, ct=np.array([{"a": 1}, None], dtype=object))
    refused(objects, "type O")
    np.savez(objects, other=chest_hu())
    refused(objects, "no array `ct`")
    np.savez(objects, ct=chest_hu()[0])
    refused(objects, "2D")
    small = chest_hu().astype(np.int16)
    np.savez(objects, ct=small)
    bomb = objects.read_bytes().replace(b"(10, 24, 28), }    ", b"(99999, 9999, 9999)}")
    assert bomb != objects.read_bytes()
    objects.write_bytes(bomb)
    refused(objects, "GiB|damaged")


def test_names_are_escaped(tmp_path):
    path = tmp_path / "a\x1b]0;owned\x07\n.nii"
    path.write_bytes(b"")
    with pytest.raises(InputRejected) as caught:
        read_volume(path)
    assert str(caught.value).isprintable()


def test_inputs_are_never_changed(tmp_path):
    path = nifti(tmp_path / "a.nii", chest_hu() - 60)
    before = path.read_bytes()
    path.chmod(0o444)
    read = read_volume(path)
    read.voxels_hu[:] = 0
    assert path.read_bytes() == before


def test_mr_is_refused(real_data):
    refused(real_data / "ct" / "not-ct-mr.nii.gz", "not CT")


@pytest.mark.parametrize(
    "name", ["elastix-right-lung.mha", "cip-64.nrrd", "abdomen-no-lungs.nii.gz"]
)
def test_halves_of_public_scans(real_data, tmp_path, name):
    content = (real_data / "ct" / name).read_bytes()
    for part in (0.1, 0.5, 0.9):
        (tmp_path / name).write_bytes(content[: int(len(content) * part)])
        refused(tmp_path / name, SHORT)


def test_a_volume_without_right_angles_is_not_written(tmp_path):
    shear = np.eye(4)
    shear[0, 1] = 0.3
    with pytest.raises(InputRejected, match="sheared"):
        write_volume(Volume(chest_hu(), shear @ chest().affine), tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []
