"""MR in napari: its units are said, no window of HU is laid over it, no CT dock takes it."""

from __future__ import annotations

import pytest
from napari.layers import Image

from napari_prdit.inspector import refusal, scan_of
from napari_prdit.known_data import described_data
from napari_prdit.layers import image_layer, layer_volume
from napari_prdit.looking import WHOLE_RANGE, set_window, value_at
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import InputRejected
from prdit_core.intensity import ARBITRARY
from prdit_core.verbs.phantoms import phantoms


@pytest.fixture(scope="module")
def layer() -> Image:
    volume = make_phantom(0, 0, spacing_mm=16.0, region="head", modality="t1").volume
    data, attributes, _ = image_layer(volume, "head")
    return Image(data, **attributes)


def test_the_units_stand_at_the_crosshair_and_survive_the_layer(layer):
    point = layer.data_to_world((8, 8, 8))
    assert value_at([layer], point) == (float(layer.data[8, 8, 8]), ARBITRARY, "head")
    attributes = {"name": "head", "metadata": layer.metadata, "scale": layer.scale,
                  "translate": layer.translate}  # fmt: skip
    assert layer_volume(layer.data, attributes).units == ARBITRARY


def test_windows_of_hu_leave_it_alone(layer):
    whole = (float(layer.data.min()), float(layer.data.max()))
    assert tuple(layer.contrast_limits) == whole
    set_window([layer], "Bone")
    assert tuple(layer.contrast_limits) == whole
    layer.contrast_limits = (0, 10)
    set_window([layer], WHOLE_RANGE)
    assert layer.contrast_limits[1] > 100


def test_the_inspector_refuses_it_by_its_units(layer):
    assert refusal(layer) == "in arbitrary units, not HU"
    with pytest.raises(InputRejected, match="layer 'head' is in arbitrary units; choose a CT scan"):
        scan_of(layer.data, {"name": "head", "metadata": layer.metadata})


def test_a_data_set_of_mr_is_described_in_its_units(tmp_path):
    phantoms(2, size=8, seed=0, out=tmp_path, region="head", modality="t2")
    assert "0 to 1000 arbitrary units" in described_data(tmp_path)
    assert "HU" not in described_data(tmp_path)
