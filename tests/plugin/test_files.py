"""Scans and sessions as users open and save them, through napari's own functions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import npe2
import numpy as np
import pytest
import SimpleITK
from napari.components import ViewerModel
from napari.utils.colormaps import Colormap
from napari.utils.notifications import NotificationSeverity, notification_manager

from napari_prdit.layers import image_layer
from napari_prdit.sample_data import phantom
from prdit_core.data.io import read_volume, write_volume
from prdit_core.errors import InputRejected, OutputError
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

PLUGIN = "napari-prdit"
PROVENANCE = {"seed": 7, "steps": 50, "checkpoint": "demo", "notice": "synthetic"}


@pytest.fixture
def viewer() -> ViewerModel:
    """A viewer that finds the installed plugins as the application does."""
    npe2.PluginManager.instance().discover(include_npe1=False)
    return ViewerModel()


def made_volume() -> Volume:
    voxels = np.random.default_rng(0).integers(-1000, 400, (5, 6, 7), dtype=np.int16)
    affine = axial_affine((3.0, 2.0, 1.5), (5, 6, 7), centre_mm=(10.0, -20.0, 30.0))
    return Volume(voxels, affine, PROVENANCE)


def add(viewer: ViewerModel, volume: Volume) -> Image:
    data, attributes, _ = image_layer(volume, "made")
    return viewer.add_image(data, **attributes)


def only(viewer: ViewerModel) -> Any:
    (layer,) = viewer.layers
    return layer


def ours(layer: Any) -> dict[str, Any]:
    """What a layer carries of its making."""
    return {k: v for k, v in layer.metadata["prdit"].items() if k in PROVENANCE}


# --- opening -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["abdomen-no-lungs.nii.gz", "cip-64.nrrd", "elastix-right-lung.mha"]
)
def test_a_scan_opens_as_one_layer_in_hu_and_mm(
    viewer: ViewerModel, real_data: Path, name: str
) -> None:
    viewer.open(real_data / "ct" / name, plugin=PLUGIN)
    layer, expected = only(viewer), read_volume(real_data / "ct" / name)
    np.testing.assert_array_equal(layer.data, expected.voxels_hu)
    np.testing.assert_allclose(layer.scale, expected.spacing_mm)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert tuple(layer.axis_labels) == ("z", "y", "x")


def test_a_refused_scan_says_why_and_adds_nothing(viewer: ViewerModel, real_data: Path) -> None:
    with pytest.raises(InputRejected, match=r"not-ct-mr\.nii\.gz: .+; .+"):
        viewer.open(real_data / "ct/not-ct-mr.nii.gz", plugin=PLUGIN)
    assert not viewer.layers


def test_samples_open_from_the_menu_of_napari(viewer: ViewerModel) -> None:
    viewer.open_sample(PLUGIN, "phantom")
    assert [layer.name for layer in viewer.layers] == ["phantom", "phantom: organs"]


@pytest.mark.slow
def test_the_generated_sample_tells_how_it_was_made(viewer: ViewerModel) -> None:
    viewer.open_sample(PLUGIN, "generated")
    layer = only(viewer)
    record = layer.metadata["prdit"]
    assert (record["seed"], record["steps"], record["checkpoint"]) == (0, 20, "demo")
    assert layer.data.std() > 100 and layer.data.min() >= -1024
    assert tuple(layer.scale) == (10.0, 10.0, 10.0)


# --- volumes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd"])
def test_a_saved_layer_is_the_same_in_nibabel_simpleitk_and_here(
    viewer: ViewerModel, tmp_path: Path, suffix: str
) -> None:
    volume = made_volume()
    file = tmp_path / f"saved{suffix}"
    add(viewer, volume)
    assert viewer.layers.save(str(file), plugin=PLUGIN)[0] == str(file)

    image = SimpleITK.ReadImage(str(file))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.voxels_hu)
    assert image.GetSpacing() == pytest.approx(volume.spacing_mm[::-1])
    x, y, z = volume.origin_mm
    assert image.GetOrigin() == pytest.approx((-x, -y, z))  # LPS
    if ".nii" in suffix:
        stored = nib.load(file)
        np.testing.assert_array_equal(np.asarray(stored.dataobj).T, volume.voxels_hu)
        np.testing.assert_allclose(stored.affine, volume.affine, atol=1e-5)
    again = viewer.open(str(file), plugin=PLUGIN)[0]
    np.testing.assert_array_equal(again.data, volume.voxels_hu)
    assert ours(again) == PROVENANCE


def test_a_record_is_of_its_own_file_alone(viewer: ViewerModel, tmp_path: Path) -> None:
    """Another volume under that name was not made as the record says."""
    file = tmp_path / "saved.nii.gz"
    add(viewer, made_volume()).save(str(file), plugin=PLUGIN)
    assert (tmp_path / "saved.json").is_file()
    other = Volume(made_volume().voxels_hu + 1, made_volume().affine)
    write_volume(other, file)
    assert ours(viewer.open(str(file), plugin=PLUGIN)[0]) == {}


def test_a_record_of_the_command_is_read(viewer: ViewerModel, tmp_path: Path) -> None:
    from prdit_core.cli.outputs import Outputs

    volume = Volume(
        made_volume().voxels_hu,
        made_volume().affine,
        {**PROVENANCE, "window_hu": [-1000, 400], "sampler": "increment"},
    )
    file = Outputs(tmp_path, seed=7, first=0, count=1).write(0, volume)
    viewer.open(str(file), plugin=PLUGIN)
    assert ours(only(viewer)) == PROVENANCE


def test_the_json_of_somebody_else_is_left_alone(viewer: ViewerModel, tmp_path: Path) -> None:
    theirs = tmp_path / "scan.json"
    theirs.write_text('{"Modality": "CT"}')
    with pytest.raises(OutputError, match="no record of ours"):
        add(viewer, made_volume()).save(str(tmp_path / "scan.nii.gz"), plugin=PLUGIN)
    assert json.loads(theirs.read_text()) == {"Modality": "CT"}
    assert not (tmp_path / "scan.nii.gz").exists()


def test_a_plain_layer_leaves_no_record(viewer: ViewerModel, tmp_path: Path) -> None:
    viewer.add_image(np.zeros((3, 4, 5), np.int16)).save(str(tmp_path / "p.nii"), plugin=PLUGIN)
    assert [file.name for file in tmp_path.iterdir()] == ["p.nii"]


def test_a_name_without_suffix_gets_one_and_replaces_nothing(
    viewer: ViewerModel, tmp_path: Path
) -> None:
    """napari's dialog passes names on as they were typed."""
    from napari_prdit.writer import write_metaimage

    data, attributes, _ = add(viewer, made_volume()).as_layer_data_tuple()
    file = tmp_path / "chest.2"
    assert write_metaimage(str(file), data, attributes)[0] == f"{file}.mha"
    with pytest.raises(OutputError, match="there already"):
        write_metaimage(str(file), data, attributes)


# --- sessions ----------------------------------------------------------------------------------


def test_a_session_brings_back_layers_as_they_were(viewer: ViewerModel, tmp_path: Path) -> None:
    made = add(viewer, made_volume())
    made.contrast_limits, made.colormap, made.opacity = (-50.0, 350.0), "turbo", 0.5
    noise = np.random.default_rng(1).standard_normal((5, 6, 7)).astype(np.float32)
    ours_alone = Colormap([[0, 0, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1]], name="ours alone")
    viewer.add_image(noise, name="noise", visible=False, units="mm", colormap=ours_alone)
    labels, attributes, _ = phantom()[1]
    viewer.add_labels(labels, **attributes)
    file = tmp_path / "evening.prdit"
    assert viewer.layers.save(str(file)) == [str(file)]

    morning = ViewerModel()
    morning.open(str(file), plugin=None)  # as when dropped: nobody else reads it
    for before, after in zip(viewer.layers, morning.layers, strict=True):
        assert type(before) is type(after)
        assert before.data.dtype == after.data.dtype
        np.testing.assert_array_equal(before.data, after.data)
        for kept in ("name", "visible", "opacity", "blending", "units", "axis_labels"):
            assert getattr(before, kept) == getattr(after, kept), kept
        np.testing.assert_allclose(before.extent.world, after.extent.world)
    again = morning.layers["made"]
    assert ours(again) == PROVENANCE
    assert (again.colormap.name, again.contrast_limits) == ("turbo", [-50.0, 350.0])
    np.testing.assert_allclose(morning.layers["noise"].colormap.colors, ours_alone.colors)


def test_a_volume_out_of_a_session_is_saved_where_it_lies(
    viewer: ViewerModel, tmp_path: Path
) -> None:
    add(viewer, made_volume())
    viewer.layers.save(str(tmp_path / "s.prdit"), plugin=PLUGIN)
    again = ViewerModel().open(str(tmp_path / "s.prdit"), plugin=PLUGIN)[0]
    again.save(str(tmp_path / "s.nii.gz"), plugin=PLUGIN)
    saved = read_volume(tmp_path / "s.nii.gz")
    np.testing.assert_allclose(saved.affine, made_volume().affine, atol=1e-5)


def test_other_plugins_keep_their_metadata_to_themselves(
    viewer: ViewerModel, tmp_path: Path
) -> None:
    add(viewer, made_volume()).metadata["theirs"] = object()
    viewer.layers.save(str(tmp_path / "s.prdit"), plugin=PLUGIN)
    again = ViewerModel().open(str(tmp_path / "s.prdit"), plugin=PLUGIN)[0]
    assert set(again.metadata) == {"prdit"}


@pytest.mark.parametrize("damage", ["cut", "other", "array", "later"])
def test_a_damaged_session_is_refused_in_one_line(
    viewer: ViewerModel, tmp_path: Path, damage: str
) -> None:
    file = tmp_path / "s.prdit"
    add(viewer, made_volume())
    viewer.layers.save(str(file), plugin=PLUGIN)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "other":
        file.write_bytes(b"no archive at all")
    else:
        with file.open("wb") as stream:
            later = json.dumps({"format": 99, "layers": []})
            np.savez(stream, **({"session": np.array(later)} if damage == "later" else {"a": 1}))
    with pytest.raises(InputRejected, match=r"s\.prdit .+; .+"):
        viewer.open(str(file), plugin=PLUGIN)


def test_what_a_session_cannot_hold_is_left_out_and_named(
    viewer: ViewerModel, tmp_path: Path
) -> None:
    add(viewer, made_volume())
    viewer.add_points([[1, 2, 3]], name="marks")
    viewer.add_shapes(name="outline", ndim=3)
    viewer.add_image([np.zeros((8, 8, 8)), np.zeros((4, 4, 4))], name="pyramid", multiscale=True)
    file = tmp_path / "all.prdit"
    assert viewer.layers.save(str(file)) == [str(file)]
    notification = notification_manager.records[-1]
    assert notification.severity == NotificationSeverity.WARNING
    for words in ("'marks' holds points", "'outline' holds shapes", "'pyramid' has several"):
        assert words in notification.message
    morning = ViewerModel()
    morning.open(str(file), plugin=PLUGIN)
    assert [layer.name for layer in morning.layers] == ["made"]


def test_a_session_of_nothing_is_refused(viewer: ViewerModel, tmp_path: Path) -> None:
    viewer.add_points([[1, 2, 3]], name="marks")
    with pytest.raises(InputRejected, match="'marks' holds points"):
        viewer.layers.save(str(tmp_path / "s.prdit"), plugin=PLUGIN)
    assert list(tmp_path.iterdir()) == []


def test_layers_of_several_resolutions_are_named(viewer: ViewerModel, tmp_path: Path) -> None:
    viewer.add_image([np.zeros((8, 8, 8)), np.zeros((4, 4, 4))], name="pyramid", multiscale=True)
    with pytest.raises(InputRejected, match="'pyramid' has several resolutions"):
        viewer.layers.save(str(tmp_path / "s.prdit"), plugin=PLUGIN)
