"""Three planes that agree: mirrored layers, one point, windows, crosshair, and no trace left."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer
from qtpy.QtCore import QPoint, Qt

from napari_prdit.layers import image_layer
from napari_prdit.looking import (
    crosshair,
    edge_letters,
    is_ours,
    our_layers,
    patient_point,
    position_in_words,
    set_window,
    show_volume,
    tilt,
    value_at,
)
from napari_prdit.ortho import SHARED, SIDES, Planes
from napari_prdit.widgets.planes import TITLE, PlanesDock, planes_of, show_planes
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

SHAPE = (10, 12, 14)
SPACING_MM = (3.0, 2.0, 1.5)
CORONAL, SAGITTAL = SIDES


def ct(name: str = "scan", seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Image:
    """A layer of ours with noise in HU, its middle at the zero point."""
    voxels = np.random.default_rng(seed).normal(0.0, 300.0, shape).astype(np.float32)
    layer = Layer.create(*image_layer(Volume(voxels, axial_affine(SPACING_MM, shape)), name))
    assert isinstance(layer, Image)
    return layer


@pytest.fixture
def viewer() -> ViewerModel:
    made = ViewerModel()
    made.add_layer(ct())
    return made


@pytest.fixture
def planes(viewer: ViewerModel) -> Iterator[Planes]:
    made = Planes(viewer, lambda: None)
    yield made
    made.close()


def twins(planes: Planes, place: int = 0) -> list[Image]:
    return [side.layers[place] for side in planes.sides.values()]


# --- twins -------------------------------------------------------------------------------------


def test_a_twin_shows_the_same_array_at_the_same_place(viewer: ViewerModel, planes: Planes) -> None:
    (layer,) = viewer.layers
    for twin in twins(planes):
        assert twin.data is layer.data
        np.testing.assert_array_equal(twin.extent.world, layer.extent.world)
        assert twin.units == layer.units


def test_planes_are_radiological_with_superior_up(planes: Planes) -> None:
    shown = {plane.name: side.dims.displayed for plane, side in planes.sides.items()}
    assert shown == {"Coronal": (0, 2), "Sagittal": (0, 1)}
    for side in planes.sides.values():
        # Rows grow towards superior; columns towards the patient's left, or the back.
        assert side.scene.camera.orientation2d == ("up", "right")


CHANGES = {
    "name": "renamed",
    "data": np.zeros((5, 6, 7), dtype=np.float32),
    "scale": (1.0, 2.0, 3.0),
    "translate": (4.0, 5.0, 6.0),
    "visible": False,
    "opacity": 0.5,
    "blending": "additive",
    "contrast_limits": (-160.0, 240.0),
    "gamma": 0.7,
    "colormap": "magma",
    "interpolation2d": "linear",
}


def test_all_that_is_shared_is_tested() -> None:
    assert set(CHANGES) == set(SHARED)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("source", [0, 1, 2], ids=["main", "coronal", "sagittal"])
def test_looks_are_shared_both_ways(
    viewer: ViewerModel, planes: Planes, name: str, source: int
) -> None:
    family = [viewer.layers[0], *twins(planes)]
    setattr(family[source], name, CHANGES[name])
    values = [getattr(layer, name) for layer in family]
    for value in values:
        np.testing.assert_array_equal(value, values[source])
    assert not np.array_equal(values[0], getattr(ct(), name))


def test_only_volumes_of_ours_have_twins(viewer: ViewerModel, planes: Planes) -> None:
    viewer.add_image(np.zeros(SHAPE), name="of another plugin")
    viewer.add_labels(np.zeros(SHAPE, dtype=int))
    viewer.add_image(np.zeros((4, 4)), metadata={"prdit": {}}, name="flat")
    assert [layer.name for layer in viewer.layers if is_ours(layer)] == ["scan"]
    assert [twin.name for twin in planes.sides[CORONAL].layers] == ["scan"]


def test_layers_come_go_and_change_places_in_all_planes(
    viewer: ViewerModel, planes: Planes
) -> None:
    viewer.add_layer(ct("second", seed=1))
    viewer.add_layer(ct("third", seed=2))
    viewer.layers.move(0, 3)
    del viewer.layers["second"]
    for side in planes.sides.values():
        assert [twin.name for twin in side.layers] == ["third", "scan"]
    viewer.layers.clear()
    assert not any(side.canvas.overlays.scale_bar.visible for side in planes.sides.values())
    viewer.add_layer(ct("another"))
    for plane, side in planes.sides.items():
        assert [twin.name for twin in side.layers] == ["another"]
        assert side.dims.order == plane.order
        assert side.dims.point == viewer.dims.point
        assert side.canvas.overlays.scale_bar.visible


def test_only_the_twins_of_a_changed_volume_are_looked_at_again(
    viewer: ViewerModel, planes: Planes
) -> None:
    viewer.add_layer(ct("second"))
    looked: list[str] = []
    for layer in (*viewer.layers, *twins(planes, 0), *twins(planes, 1)):
        layer.events.set_data.connect(lambda event: looked.append(event.source.name))
    planes.refresh(viewer.layers["second"])
    assert looked == ["second", "second"]
    planes.refresh(ct("in no viewer"))
    assert len(looked) == 2


def test_layers_that_vanish_and_come_back_harm_no_crosshair(viewer: ViewerModel) -> None:
    """The views get and lose their twins one after the other."""
    waiting: deque[Callable[[], None]] = deque()
    planes = Planes(viewer, lambda: None, waiting.append)
    drawn: list[NDArray[np.float32]] = []

    def draw() -> None:
        if planes.layers:
            drawn.append(crosshair(planes.point, planes.bounds, (0, 1, 2)))

    planes.changed = draw
    (layer,) = viewer.layers
    viewer.layers.clear()
    waiting.popleft()()
    viewer.add_layer(layer)
    while waiting:
        waiting.popleft()()
    assert drawn and np.abs(drawn[-1]).max() == 15.0
    planes.close()


def test_the_theme_is_shared(viewer: ViewerModel, planes: Planes) -> None:
    viewer.theme = "light"
    assert {side.theme for side in planes.sides.values()} == {"light"}


# --- the point ---------------------------------------------------------------------------------


def test_a_new_companion_starts_where_the_viewer_is(viewer: ViewerModel) -> None:
    viewer.dims.point = (6.0, -4.0, 3.0)
    planes = Planes(viewer, lambda: None)
    assert viewer.dims.point == (6.0, -4.0, 3.0)
    assert {side.dims.point for side in planes.sides.values()} == {(6.0, -4.0, 3.0)}
    planes.close()


def test_each_plane_leads_the_others_without_echo(viewer: ViewerModel, planes: Planes) -> None:
    moves: list[tuple[float, ...]] = []
    viewer.dims.events.point.connect(lambda event: moves.append(event.source.point))
    for number, source in enumerate((viewer, *planes.sides.values())):
        point = (float(number), 2.0 * number, 3.0)
        source.dims.point = point
        assert planes.point == point
        assert {side.dims.point for side in planes.sides.values()} == {point}
    assert len(moves) == 3


def test_other_axes_of_the_viewer_are_left_alone(viewer: ViewerModel, planes: Planes) -> None:
    viewer.add_image(np.zeros((5, *SHAPE)), name="of another plugin")
    viewer.dims.set_point(0, 3.0)
    planes.sides[SAGITTAL].dims.point = (3.0, -2.0, 4.5)
    assert viewer.dims.point == (3.0, 3.0, -2.0, 4.5)
    planes.move_to((1.0, 6.0, 4.0, 1.5))
    assert viewer.dims.point == (3.0, 6.0, 4.0, 1.5)


def test_a_point_outside_becomes_the_nearest_inside(planes: Planes) -> None:
    planes.move_to((1000.0, 0.0, -1000.0))
    np.testing.assert_allclose(planes.point, (13.5, 0.0, -9.75), atol=1.5)
    assert value_at(planes.layers, planes.point) is not None


def press(
    viewer: ViewerModel, *, moved: float = 0.0, button: int = 1, modifiers: tuple[str, ...] = ()
) -> None:
    """A press of the mouse at (3, 4, 1.5) mm that ends `moved` pixels away."""
    event: Any = SimpleNamespace(
        type="mouse_press",
        pos=np.array([100.0, 100.0]),
        position=(3.0, 4.0, 1.5),
        button=button,
        modifiers=modifiers,
    )
    drag = viewer.mouse_drag_callbacks[-1](viewer, event)
    next(drag, None)
    event.pos = np.array([100.0 + moved, 100.0])
    for kind in ("mouse_move", "mouse_release"):
        event.type = kind
        next(drag, None)


@pytest.mark.parametrize("source", [0, 1, 2], ids=["main", "coronal", "sagittal"])
def test_a_click_moves_all_planes(viewer: ViewerModel, planes: Planes, source: int) -> None:
    press((viewer, *planes.sides.values())[source], moved=1.0)
    assert planes.point == (3.0, 4.0, 1.5)
    assert {side.dims.point for side in planes.sides.values()} == {planes.point}


@pytest.mark.parametrize(
    "gesture", [{"moved": 30.0}, {"button": 2}, {"modifiers": ("Shift",)}], ids=str
)
def test_drags_and_other_gestures_do_not_move(
    viewer: ViewerModel, planes: Planes, gesture: dict[str, Any]
) -> None:
    before = planes.point
    press(viewer, **gesture)
    assert planes.point == before


def test_a_click_that_paints_or_turns_does_not_move(viewer: ViewerModel, planes: Planes) -> None:
    before = planes.point
    labels = viewer.add_labels(np.zeros(SHAPE, dtype=int), scale=SPACING_MM)
    labels.mode = "paint"
    press(viewer)
    labels.mode = "pan_zoom"
    viewer.dims.ndisplay = 3
    press(viewer)
    assert planes.point == before


def test_closed_planes_leave_no_trace(viewer: ViewerModel) -> None:
    (layer,) = viewer.layers

    def listeners() -> dict[str, int]:
        groups = (layer.events, viewer.dims.events, viewer.layers.events, viewer.events)
        return {
            f"{number}.{name}": len(emitter.callbacks)
            for number, group in enumerate(groups)
            for name, emitter in group.emitters.items()
        }

    before = (listeners(), list(viewer.mouse_drag_callbacks))
    for _ in range(2):
        planes = Planes(viewer, lambda: None)
        assert listeners() != before[0]
        planes.close()
        assert (listeners(), viewer.mouse_drag_callbacks) == before
    assert all(not side.layers for side in planes.sides.values())


# --- looking -----------------------------------------------------------------------------------


def test_lines_of_the_crosshair_cross_at_the_point() -> None:
    bounds = [(-15.0, 15.0), (-12.0, 12.0), (-10.5, 10.5)]
    coronal = crosshair((3.0, 4.0, 5.0), bounds, (0, 2))
    # (column, row): x to the right, z along rows
    assert coronal.tolist() == [[-10.5, 3, 0], [10.5, 3, 0], [5, -15, 0], [5, 15, 0]]
    solid = crosshair((3.0, 4.0, 5.0), bounds, (0, 1, 2))
    assert len(solid) == 6
    assert np.sum(solid == [5.0, 4.0, 3.0]) == 12  # two coordinates of six ends stay


def test_the_crosshair_reaches_the_edges_of_the_volume(planes: Planes) -> None:
    np.testing.assert_allclose(planes.bounds, [(-15.0, 15.0), (-12.0, 12.0), (-10.5, 10.5)])


@pytest.mark.parametrize(
    ("displayed", "orientation", "left", "right", "top", "bottom"),
    [
        pytest.param((1, 2), ("down", "right"), *"RLAP", id="axial"),
        pytest.param((0, 2), ("up", "right"), *"RLSI", id="coronal"),
        pytest.param((0, 1), ("up", "right"), *"APSI", id="sagittal"),
        pytest.param((1, 2), ("down", "left"), *"LRAP", id="axial, mirrored"),
        pytest.param((1, 2), ("up", "right"), *"RLPA", id="axial, upside down"),
    ],
)
def test_letters_say_which_side_of_the_patient_is_where(
    displayed: tuple[int, int],
    orientation: tuple[str, str],
    left: str,
    right: str,
    top: str,
    bottom: str,
) -> None:
    assert edge_letters(displayed, orientation) == (left, right, top, bottom)


@pytest.mark.parametrize(
    ("ras_mm", "words"),
    [
        ((34, 12, 80), "R 34 mm, A 12 mm, S 80 mm"),
        ((-34, -12, -80), "L 34 mm, P 12 mm, I 80 mm"),
        ((0.25, -0.04, -7.06), "R 0.2 mm, A 0 mm, I 7.1 mm"),
    ],
)
def test_positions_are_told_by_the_sides_of_the_patient(
    ras_mm: tuple[float, float, float], words: str
) -> None:
    assert position_in_words(ras_mm) == words


def tilted() -> Image:
    """Its rows run to the feet by 20 degrees as they run back; its first voxel is told."""
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    affine = np.array(
        [
            [-2.0, 0.0, 0.0, 20.0],
            [0.0, -2.0 * cos, -2.0 * sin, 30.0],
            [0.0, -2.0 * sin, 2.0 * cos, -40.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )
    voxels = np.full((101, 51, 11), -1000, np.int16)
    layer = Layer.create(*image_layer(Volume(voxels, affine), "tilted"))
    assert isinstance(layer, Image)
    return layer


def test_the_crosshair_reads_true_millimetres_of_an_oblique_scan() -> None:
    layer = tilted()
    shown = layer.data_to_world((100, 50, 10))
    # 20 mm left, 100 mm along the rows and 200 mm along the slices from R 20, A 30, I 40:
    # back by 100 cos 20 + 200 sin 20 = 162.4, up by 200 cos 20 - 100 sin 20 = 153.7.
    there = patient_point([layer], shown)
    np.testing.assert_allclose(there, (0.0, -132.373, 113.737), atol=1e-3)
    assert position_in_words(there.tolist()) == "R 0 mm, P 132.4 mm, S 113.7 mm"
    assert tilt([layer], shown) == pytest.approx(20.0)
    # Unturned, as napari shows it, it would seem to be 77 mm away from there.
    assert np.linalg.norm(np.array([-shown[2], -shown[1], shown[0]]) - there) > 70


def test_positions_are_those_of_the_topmost_volume_there() -> None:
    straight, oblique = ct(), tilted()
    shown = (3.0, 4.0, 1.5)
    np.testing.assert_allclose(patient_point([oblique, straight], shown), (-1.5, -4.0, 3.0))
    assert tilt([oblique, straight], shown) == 0.0
    straight.visible = False
    assert tilt([oblique, straight], shown) == pytest.approx(20.0)


def test_a_layer_that_was_moved_or_turned_in_napari_is_read_as_it_is_shown() -> None:
    moved, turned = tilted(), tilted()
    moved.translate = (5.0, 6.0, 7.0)
    turned.rotate = (0, 0, 10)
    for layer in (moved, turned):
        np.testing.assert_allclose(patient_point([layer], (5.0, 6.0, 7.0)), (-7.0, -6.0, 5.0))
        assert tilt([layer], (5.0, 6.0, 7.0)) == 0.0


def test_windows_are_for_tissue_only(viewer: ViewerModel) -> None:
    scan, residual = viewer.layers[0], viewer.add_layer(ct("residual"))
    residual.metadata["prdit"]["kind"] = "residual"
    residual.contrast_limits = (-50.0, 50.0)
    set_window(our_layers(viewer), "Soft tissue")
    assert tuple(scan.contrast_limits) == (-160.0, 240.0)
    set_window(our_layers(viewer), "Full")
    assert tuple(scan.contrast_limits) == (scan.data.min(), scan.data.max())
    assert tuple(residual.contrast_limits) == (-50.0, 50.0)


def test_the_whole_range_of_a_constant_volume_can_be_shown() -> None:
    flat = ct()
    flat.data = np.full(SHAPE, -1000.0, dtype=np.float32)
    set_window([flat], "Full")
    assert tuple(flat.contrast_limits) == (-1000.0, -999.0)


def test_the_value_is_that_of_the_topmost_visible_volume() -> None:
    below, above = ct("below", seed=1), ct("above", seed=2)
    point = above.data_to_world((2, 3, 4))
    assert value_at([below, above], point) == (float(above.data[2, 3, 4]), "HU", "above")
    above.visible = False
    assert value_at([below, above], point) == (float(below.data[2, 3, 4]), "HU", "below")
    assert value_at([below, above], (1000.0, 0.0, 0.0)) is None


def test_3d_shows_the_front_and_returns_to_the_same_plane(viewer: ViewerModel) -> None:
    viewer.dims.point = (6.0, -4.0, 3.0)
    show_volume(viewer, "3D")
    assert viewer.dims.ndisplay == 3
    assert viewer.layers[0].rendering == "attenuated_mip"
    np.testing.assert_allclose(viewer.scene.camera.view_direction, (0, 1, 0), atol=1e-6)
    np.testing.assert_allclose(viewer.scene.camera.up_direction, (1, 0, 0), atol=1e-6)
    show_volume(viewer, "axial")
    assert viewer.dims.ndisplay == 2
    assert viewer.dims.point == (6.0, -4.0, 3.0)


# --- the dock ----------------------------------------------------------------------------------


def button_named(dock: PlanesDock, name: str) -> Any:
    from qtpy.QtWidgets import QPushButton

    return next(b for b in dock.findChildren(QPushButton) if b.text() == name)


def test_a_dock_without_a_window_still_sets_windows_and_3d(viewer: ViewerModel, qtbot: Any) -> None:
    dock = PlanesDock(viewer)
    qtbot.addWidget(dock)
    button_named(dock, "Bone").click()
    assert tuple(viewer.layers[0].contrast_limits) == (-200.0, 1000.0)
    button_named(dock, "Turn in 3D").click()
    assert viewer.dims.ndisplay == 3
    button_named(dock, "Turn in 3D").click()
    assert viewer.dims.ndisplay == 2
    dock.refresh()
    assert planes_of(viewer) is None
    assert show_planes(viewer) is None


def test_every_control_has_a_tooltip(viewer: ViewerModel, qtbot: Any) -> None:
    from qtpy.QtWidgets import QAbstractButton

    dock = PlanesDock(viewer)
    qtbot.addWidget(dock)
    controls = dock.findChildren(QAbstractButton)
    assert len(controls) == 7
    assert all(control.toolTip() for control in controls)


# --- pixels ------------------------------------------------------------------------------------

MARKED = (40, 48, 56)


def marked() -> Image:
    """Red blocks: at the top in the middle, and lower down at the patient's left and in front."""
    voxels = np.full(MARKED, -1000.0, dtype=np.float32)
    voxels[32:, :, 23:33] = 1000.0
    voxels[4:20, 16:, 46:] = 1000.0
    voxels[4:20, :10, :40] = 1000.0
    volume = Volume(voxels, axial_affine((2.0, 2.0, 2.0), MARKED))
    layer = Layer.create(*image_layer(volume, "marked"))
    layer.colormap = "red"
    assert isinstance(layer, Image)
    return layer


def pixels(view: Any) -> NDArray[np.int64]:
    shown: NDArray[np.int64] = np.asarray(view.screenshot(flash=False))[..., :3].astype(int)
    return shown


def red(view: Any) -> NDArray[np.bool_]:
    r, g, b = np.moveaxis(pixels(view), -1, 0)
    return np.asarray((r > 150) & (g < 60) & (b < 60))


def yellow(view: Any) -> int:
    r, g, b = np.moveaxis(pixels(view), -1, 0)
    return int(np.sum((r > 100) & (g > 80) & (b < 60)))


def place_of(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Middle (column, row) of what is set, as parts of width and height."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height


def halves(view: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the red of the upper and of the lower half lies."""
    mask = red(view)
    middle = len(mask) // 2
    upper, lower = mask.copy(), mask.copy()
    upper[middle:], lower[:middle] = False, False
    return place_of(upper), place_of(lower)


def at_edges(places: dict[str, tuple[float, float]]) -> str:
    """The letters at the left, right, top and bottom edge of a canvas."""
    across = sorted(places, key=lambda letter: places[letter][0])
    down = sorted(places, key=lambda letter: places[letter][1])
    return across[0] + across[-1] + down[0] + down[-1]


def click(qtbot: Any, view: Any, place: tuple[float, float]) -> None:
    canvas = view.canvas.native
    at = QPoint(round(place[0] * canvas.width()), round(place[1] * canvas.height()))
    qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=at)


def opened(viewer: Any, qtbot: Any) -> PlanesDock:
    dock = show_planes(viewer)
    assert dock is not None
    qtbot.waitUntil(lambda: planes_of(viewer) is dock, timeout=20_000)
    qtbot.waitUntil(lambda: all(red(view).any() for view in dock.views), timeout=20_000)
    return dock


@pytest.mark.slow
def test_three_planes_in_a_real_window(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 900)
    layer = viewer.add_layer(marked())
    listening = list(viewer.mouse_drag_callbacks)
    dock = opened(viewer, qtbot)
    main, coronal, sagittal = dock.views
    assert all(pixels(view).std() > 20 for view in dock.views)
    assert not dock.note.isVisible()
    edges = [at_edges(letters.places) for letters in dock.letters]
    assert edges == ["RLAP", "RLSI", "APSI"]  # left, right, top, bottom of each view

    top, left = halves(coronal)
    assert top[0] == pytest.approx(0.5, abs=0.1)
    assert left[0] > 0.65
    top, front = halves(sagittal)
    assert top[0] == pytest.approx(0.5, abs=0.1)
    assert front[0] < 0.35

    # A click on the block at the patient's left goes there: voxels 4 to 19 up, 46 to 55 left.
    assert all(yellow(view) > 20 for view in dock.views)
    click(qtbot, coronal, left)
    expected = np.array(layer.translate) + np.array(layer.scale) * (11.5, 0, 50.5)
    # The scale bar may cover a corner of the block, so its middle is seen a little off.
    np.testing.assert_allclose(np.take(viewer.dims.point, (0, 2)), expected[[0, 2]], atol=8.0)
    qtbot.waitUntil(lambda: "1000 HU in marked" in dock.reading.text())
    click(qtbot, main, (0.5, 0.5))
    np.testing.assert_allclose(np.take(viewer.dims.point, (1, 2)), (0.0, 0.0), atol=4.0)

    dock.lines.setChecked(False)
    qtbot.waitUntil(lambda: not any(yellow(view) for view in dock.views))
    layer.data[:] = -1000.0
    layer.refresh(extent=False, thumbnail=False, highlight=False)
    dock.refresh_layer(layer)
    qtbot.waitUntil(lambda: not any(red(view).any() for view in dock.views))
    layer.contrast_limits = (-2000.0, -1000.0)
    qtbot.waitUntil(lambda: all(red(view).any() for view in dock.views))

    # A floating canvas would end napari if it were kept; a closed dock leaves nothing behind.
    place: Any = dock.parent()
    place.setFloating(True)
    assert planes_of(viewer) is None
    opened(viewer, qtbot)
    viewer.window.remove_dock_widget(place)
    assert planes_of(viewer) is None
    assert viewer.mouse_drag_callbacks == listening
    assert not viewer.canvas.overlays.scale_bar.visible
    assert [each.name for each in viewer.layers] == ["marked"]
    again = opened(viewer, qtbot)
    assert again is not dock
    viewer.layers.clear()
    assert again.reading.text().startswith("Open a scan")


@pytest.mark.slow
def test_the_menu_opens_the_dock_below_and_an_oblique_scan_has_its_note(
    make_napari_viewer: Callable[..., Any], qtbot: Any
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 720)
    viewer.add_layer(tilted())
    place, dock = viewer.window.add_plugin_dock_widget("napari-prdit", TITLE)
    qtbot.waitUntil(lambda: planes_of(viewer) is dock, timeout=20_000)
    main = place.parentWidget()
    assert main.dockWidgetArea(place) == Qt.DockWidgetArea.BottomDockWidgetArea
    assert dock.width() > 800
    viewer.dims.point = viewer.layers[0].data_to_world((100, 50, 10))
    qtbot.waitUntil(lambda: "R 0 mm, P 132.4 mm, S 113.7 mm" in dock.reading.text())
    assert dock.note.isVisible() and "20 degrees" in dock.note.text()
    viewer.layers[0].visible = False
    viewer.add_layer(ct())
    qtbot.waitUntil(lambda: not dock.note.isVisible(), timeout=20_000)


@pytest.mark.slow
def test_below_the_picture_it_leaves_the_corners_to_the_docks_beside_it(
    make_napari_viewer: Callable[..., Any], qtbot: Any
) -> None:
    """Also where napari remembers from another session that it lies below."""
    viewer = make_napari_viewer(show=True)
    dock = PlanesDock(viewer)
    main = viewer.window.add_dock_widget(dock, name=TITLE, area="bottom").parentWidget()
    qtbot.waitUntil(
        lambda: main.corner(Qt.Corner.BottomRightCorner) == Qt.DockWidgetArea.RightDockWidgetArea,
        timeout=20_000,
    )


@pytest.mark.slow
def test_a_second_dock_opens_as_a_tab(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    titles = ("Inspect local and global part", "Train on CT scans")
    first, second = (
        viewer.window.add_plugin_dock_widget("napari-prdit", title)[0] for title in titles
    )
    main = first.parentWidget()
    qtbot.waitUntil(lambda: main.tabifiedDockWidgets(first) == [second], timeout=20_000)
    qtbot.waitUntil(lambda: second.visibleRegion().isEmpty() is False, timeout=20_000)
    for dock in (first, second):
        dock.widget().shut_down()
