"""What the manifest promises is there, and scans pass through napari's plugin engine unharmed."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import npe2
import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest

from napari_prdit.layers import layer_volume
from napari_prdit.reader import get_reader
from napari_prdit.sample_data import phantom
from prdit_core.data.io import read_volume, write_volume
from prdit_core.errors import InputRejected
from prdit_core.provenance import SYNTHETIC
from prdit_core.verbs.export import export_dicom
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "src/napari_prdit/napari.yaml"
COMMANDS = PluginManifest.from_file(MANIFEST).contributions.commands or []


def marked_volume(*, oblique: bool = False) -> Volume:
    """A small volume without symmetry, of unequal spacing, somewhere in space."""
    voxels = np.random.default_rng(0).integers(-1000, 400, (5, 6, 7), dtype=np.int16)
    affine = axial_affine((3.0, 2.0, 1.5), voxels.shape, centre_mm=(10.0, -20.0, 30.0))
    if oblique:
        cos, sin = np.cos(0.2), np.sin(0.2)
        turn = np.array([[1, 0, 0, 0], [0, cos, -sin, 0], [0, sin, cos, 0], [0, 0, 0, 1]])
        affine = turn @ affine
    return Volume(voxels, affine)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginManager]:
    """A plugin manager of its own that knows our manifest alone."""
    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    monkeypatch.setattr(PluginManager, "instance", classmethod(lambda _: manager))
    yield manager
    manager.deactivate("napari-prdit")


def opened(path: Path) -> tuple[Any, dict[str, Any]]:
    (layer,) = npe2.read([str(path)], stack=False)
    data, attributes, kind = layer  # type: ignore[misc]
    assert kind == "image"
    return data, dict(attributes)


# --- the manifest ------------------------------------------------------------------------------


def test_the_top_level_manifest_is_the_packaged_one() -> None:
    top = ROOT / "napari.yaml"
    assert top.read_bytes() == MANIFEST.read_bytes()
    assert not top.is_symlink() or not top.readlink().is_absolute()


def test_the_engine_finds_the_installed_manifest() -> None:
    assert PluginManifest.from_distribution("napari-prdit").name == "napari-prdit"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.id)
def test_every_command_is_a_function(command: Any) -> None:
    module, _, function = command.python_name.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_every_contribution_names_a_command() -> None:
    contributions = PluginManifest.from_file(MANIFEST).contributions
    named = {
        item.command
        for group in ("readers", "writers", "sample_data", "widgets")
        for item in getattr(contributions, group) or []
    }
    assert named == {command.id for command in COMMANDS}


@pytest.mark.slow
def test_npe2_finds_nothing_wrong() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "npe2", "validate", "--imports", "napari-prdit"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid" in done.stdout


def test_there_is_no_menus_block() -> None:
    """With one, napari would append the plugin's name to the titles of widgets."""
    assert not PluginManifest.from_file(MANIFEST).contributions.menus


# --- reader and writer -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("oblique", [False, True], ids=["axial", "oblique"])
def test_a_scan_survives_napari(
    engine: PluginManager, tmp_path: Path, suffix: str, oblique: bool
) -> None:
    volume = marked_volume(oblique=oblique)
    source = write_volume(volume, tmp_path / "scan.nii.gz")
    written = npe2.write(
        str(tmp_path / f"saved{suffix}"), [(*opened(source), "image")], plugin_name="napari-prdit"
    )
    saved = read_volume(written[0])
    np.testing.assert_array_equal(saved.voxels_hu, volume.voxels_hu)
    np.testing.assert_allclose(saved.affine, volume.affine, atol=1e-4)


@pytest.mark.parametrize("oblique", [False, True], ids=["axial", "oblique"])
def test_an_exported_series_opens_as_the_same_layer(
    engine: PluginManager, tmp_path: Path, oblique: bool
) -> None:
    volume = marked_volume(oblique=oblique)
    volume = Volume(volume.voxels_hu, volume.affine, {"notice": SYNTHETIC})
    export_dicom(volume, tmp_path / "series")
    data, attributes = opened(tmp_path / "series")
    back = layer_volume(data, attributes)
    np.testing.assert_array_equal(back.voxels_hu, volume.voxels_hu)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-6)
    assert back.metadata["notice"] == SYNTHETIC


def test_a_layer_lies_where_the_patient_does(engine: PluginManager, tmp_path: Path) -> None:
    """World coordinates are superior, posterior and left in mm, whatever the file's axes."""
    volume = marked_volume()
    data, attributes = opened(write_volume(volume, tmp_path / "scan.nii"))
    index = np.array([4, 1, 2])
    right, front, up, _ = volume.affine @ [*index[::-1], 1]
    world = np.array(attributes["translate"]) + index * attributes["scale"]
    np.testing.assert_allclose(world, [up, -front, -right], atol=1e-4)
    assert data[tuple(index)] == volume.voxels_hu[tuple(index)]
    assert attributes["units"] == ("mm", "mm", "mm")
    assert attributes["axis_labels"] == ("z", "y", "x")


def test_a_layer_that_was_moved_is_saved_where_it_is_shown() -> None:
    data, attributes, _ = phantom()[0]
    up, back, left = attributes["translate"]
    attributes["translate"] = (up + 5.0, back, left)
    assert layer_volume(data, attributes).origin_mm == pytest.approx((-left, -back, up + 5.0))


@pytest.mark.parametrize(
    ("data", "attributes", "reason"),
    [
        (np.zeros((4, 4)), {}, "no single grey 3D volume"),
        (np.zeros((4, 4, 3)), {"rgb": True}, "no single grey 3D volume"),
        ([np.zeros((4, 4, 4))] * 2, {"multiscale": True}, "no single grey 3D volume"),
        (np.zeros((4, 4, 4)), {"rotate": np.eye(3)[::-1]}, "rotated or sheared"),
        (np.zeros((4, 4, 4)), {"units": ("micrometer",) * 3}, "is in micrometer"),
    ],
)
def test_a_layer_that_is_no_ct_volume_is_not_saved(
    data: Any, attributes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputRejected, match=reason):
        layer_volume(data, {"name": "layer", **attributes})


def test_a_folder_is_ours_only_if_it_holds_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no scan")
    (tmp_path / "0.0.0").write_bytes(bytes(256))  # a chunk of an array store
    assert get_reader(str(tmp_path)) is None
    assert get_reader([str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]) is None


@pytest.mark.parametrize("name", ["lidc-idri-0001-slab", "abdomen-20-slices-dicom"])
def test_a_dicom_folder_becomes_a_layer(
    engine: PluginManager, real_data: Path, tmp_path: Path, name: str
) -> None:
    """The slices of the second do not name their series."""
    source = shutil.copytree(real_data / "ct" / name, tmp_path / "series")
    data, attributes = opened(source)
    expected = read_volume(source)
    np.testing.assert_array_equal(data, expected.voxels_hu)
    assert attributes["scale"] == pytest.approx(expected.spacing_mm)
    assert set(attributes["metadata"]["prdit"]) == {"affine", "notes", "source_format"}


# --- sample data -------------------------------------------------------------------------------


def test_the_sample_is_a_labelled_chest() -> None:
    (hu, shown, image), (labels, beside, kind) = phantom()
    assert (image, kind) == ("image", "labels")
    assert hu.shape == labels.shape
    assert beside["scale"] == shown["scale"]
    assert beside["translate"] == shown["translate"]
    assert "synthetic" in shown["metadata"]["prdit"]["description"]
