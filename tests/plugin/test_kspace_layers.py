"""k-space in the dock: what is shown of it, and in which units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_prdit.layers import OURS
from napari_prdit.measuring import MeasuredData, MeasurementFile
from napari_prdit.reconstruction_layers import MEASURED, ReconstructionLayers, measured_layer
from prdit_core.data.phantoms import make_phantom
from prdit_core.inverse.measurement_files import write_measurement
from prdit_core.inverse.operators.super_resolution import SuperResolutionSpec
from prdit_core.inverse.sampling_patterns import FastScan
from prdit_core.verbs.assess import assess
from prdit_core.verbs.classical import reconstruct_classically
from prdit_core.verbs.simulate import simulate

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.inverse.measurement import Measurement
    from prdit_core.volume import Volume


@pytest.fixture(scope="module")
def head() -> Volume:
    return make_phantom(3, 0, spacing_mm=16.0, region="head", modality="t1").volume


@pytest.fixture(scope="module")
def measurement(head: Volume) -> Measurement:
    return simulate(head, FastScan("poisson", 3, 0.1).spec(head.shape), noise=5.0)


def test_a_file_of_k_space_is_shown_as_what_it_shows_by_itself(
    measurement: Measurement, tmp_path: Path
) -> None:
    write_measurement(measurement, tmp_path / "k.npz")
    layers = ReconstructionLayers(ViewerModel())
    layers.show_measured(MeasurementFile(str(tmp_path / "k.npz")).measured())
    shown = layers.get(MEASURED)
    assert shown is not None
    zero = reconstruct_classically(measurement, "zero-filling")
    np.testing.assert_array_equal(shown.data, zero.voxels_hu)
    assert shown.metadata[OURS]["units"] == "arbitrary units"
    low, high = shown.contrast_limits
    assert low == 0 and 0.5 * zero.voxels_hu.max() < high <= zero.voxels_hu.max()


def test_other_measurements_of_mr_say_its_units(head: Volume) -> None:
    blocks = simulate(head, SuperResolutionSpec(shape=head.shape, factor=2))
    values, attributes, _ = measured_layer(blocks)
    assert attributes["metadata"][OURS]["unit"] == "arbitrary units"
    low, high = attributes["contrast_limits"]
    assert low >= 0 and high <= values.max()


def test_methods_are_compared_in_one_window_that_of_the_truth(
    head: Volume, measurement: Measurement
) -> None:
    windows = set()
    for method in ("zero-filling", "cg"):
        found = reconstruct_classically(measurement, method)  # type: ignore[arg-type]
        seen = assess(measurement, [found], head)
        windows.add(seen.numbers["volume"]["grey"]["window_hu"])
        assert "arbitrary units" in seen.panels()[0].caption
        layers = ReconstructionLayers(ViewerModel())
        layers.show_measured(MeasuredData(measurement, head))
        layers.show(method, found)
        assert layers.get(method).metadata[OURS]["units"] == "arbitrary units"  # type: ignore[union-attr]
    assert len(windows) == 1
