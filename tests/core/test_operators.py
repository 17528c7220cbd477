"""Operators: exact transposes, derivatives, norms and specs over the list; gold projections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from operators import SPECS, matrix_of, measurement_of, volume_of
from torch.utils._python_dispatch import TorchDispatchMode

from prdit_core import machine
from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.operators.cone import Cone, ConeSpec
from prdit_core.inverse.operators.contract import PseudoInvertible
from prdit_core.inverse.operators.fan import FanSpec
from prdit_core.inverse.operators.mask import mask_of
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles, view_weights
from prdit_core.inverse.operators.table import AnySpec, build, read_spec
from prdit_core.inverse.sinograms import missing_arc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from conftest import Recordings

EVERY = pytest.mark.parametrize("name", SPECS)
UNIT = (1.0, 1.0, 1.0)


def relative(found: NDArray, exact: NDArray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


# --- the list ---------------------------------------------------------------------------------


def test_the_list_has_every_kind() -> None:
    kinds = {kind.model_fields["kind"].default for kind in AnySpec.__args__[0].__args__}
    assert {spec.kind for spec in SPECS.values()} == kinds


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@EVERY
def test_the_adjoint_is_the_transpose(name: str, dtype: torch.dtype, bound: float) -> None:
    operator = build(SPECS[name], dtype=dtype)
    x, y = volume_of(operator), measurement_of(operator)
    ahead, back = operator(x), operator.adjoint(y)
    assert ahead.dtype == back.dtype == dtype
    difference = (ahead.double() * y).sum() - (x.double() * back).sum()
    assert abs(float(difference)) <= bound * float(ahead.double().norm() * y.double().norm())


@EVERY
def test_volumes_and_channels_are_measured_one_by_one(name: str) -> None:
    operator = build(SPECS[name], dtype=torch.float64)
    matrix, x = matrix_of(operator), volume_of(operator, batch=2, channels=3)
    expected = x.flatten(2).numpy() @ matrix.T
    assert operator(x).shape == (2, 3, *operator.range_shape)
    np.testing.assert_allclose(operator(x).flatten(2).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(operator.normal(x).flatten(2).numpy(), expected @ matrix, atol=1e-11)


@EVERY
def test_the_derivative_is_the_transpose_in_both_directions(name: str) -> None:
    operator = build(SPECS[name], dtype=torch.float64)
    x, y = volume_of(operator).requires_grad_(), measurement_of(operator).requires_grad_()
    (gradient,) = torch.autograd.grad(operator(x), x, y.detach())
    assert torch.equal(gradient, operator.adjoint(y.detach()))
    (gradient,) = torch.autograd.grad(operator.adjoint(y), y, x.detach())
    assert torch.equal(gradient, operator(x.detach()))
    # Second derivatives: the Hessian of |A x|^2 / 2 times v is A*A v.
    (first,) = torch.autograd.grad(operator(x).square().sum() / 2, x, create_graph=True)
    v = volume_of(operator, key=5)
    (second,) = torch.autograd.grad(first, x, v)
    torch.testing.assert_close(second, operator.normal(v))


@EVERY
def test_bf16_of_networks_is_not_for_measurements(name: str) -> None:
    operator = build(SPECS[name])
    x = volume_of(operator)
    with torch.autocast("cpu", torch.bfloat16):
        found = operator(x)
    assert torch.equal(found, operator(x))


@EVERY
def test_nothing_needs_gradients_that_was_not_asked_to(name: str) -> None:
    operator = build(SPECS[name])
    assert not list(operator.parameters())
    assert not operator(volume_of(operator)).requires_grad
    assert operator.state_dict() == {}


@EVERY
def test_the_norm_is_the_largest_singular_value(name: str) -> None:
    operator = build(SPECS[name], dtype=torch.float64)
    exact = np.linalg.norm(matrix_of(operator), 2)
    assert operator.norm() == pytest.approx(exact, rel=1e-3)
    assert operator.norm() == operator.norm()


@EVERY
def test_a_spec_survives_json_and_rebuilds_the_operator(name: str) -> None:
    operator = build(SPECS[name])
    again = build(read_spec(json.loads(json.dumps(operator.spec()))))
    assert again.spec() == operator.spec()
    x = volume_of(operator)
    assert torch.equal(again(x), operator(x))


@EVERY
def test_an_operator_changes_its_precision(name: str) -> None:
    operator = build(SPECS[name]).to(dtype=torch.float64)
    exact = build(SPECS[name], dtype=torch.float64)
    x = volume_of(exact)
    torch.testing.assert_close(operator(x), exact(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(UsageError, match=r"computes in torch.float64 on cpu"):
        operator(x.float())


@EVERY
def test_other_shapes_are_refused(name: str) -> None:
    operator = build(SPECS[name])
    with pytest.raises(UsageError, match=r"takes volumes of \(B, C, "):
        operator(torch.zeros(1, 1, 2, 2, 2))
    with pytest.raises(UsageError, match=r"takes measurements of \(B, C, "):
        operator.adjoint(volume_of(operator)[0])


@EVERY
def test_the_memory_is_known_before(name: str) -> None:
    operator = build(SPECS[name])
    held = sum(part.nbytes for buffer in operator.buffers() for part in parts_of(buffer))
    assert held <= SPECS[name].memory(torch.float32) + 4


def test_the_memory_of_a_sparse_matrix_is_not_overstated() -> None:
    spec = parallel(64, spread_angles(20), 64)
    held = sum(part.nbytes for buffer in build(spec).buffers() for part in parts_of(buffer))
    assert held <= spec.memory(torch.float32) <= 1.3 * held


def parts_of(buffer: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if buffer.layout != torch.sparse_csr:
        return (buffer,)
    return buffer.crow_indices(), buffer.col_indices(), buffer.values()


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and not func.is_view:
            self.numbers.append(made.numel())
        return made


@pytest.mark.parametrize("direction", ["forward", "adjoint"])
def test_many_slices_take_no_more_memory_than_their_result(direction: str) -> None:
    operator = build(parallel(16, spread_angles(30), 24, slices=256))
    given = (
        volume_of(operator, 1, 1) if direction == "forward" else measurement_of(operator)[:1, :1]
    )
    with Largest() as largest:
        result = getattr(operator, direction)(given)
    whole = sorted(numbers for numbers in largest.numbers if numbers > 256 / 8 * 30 * 24)
    assert whole == [result.numel()]


@pytest.mark.parametrize("name", ["inpainting", "super-resolution"])
def test_pinv_is_the_moore_penrose_inverse(name: str) -> None:
    operator = build(SPECS[name], dtype=torch.float64)
    assert isinstance(operator, PseudoInvertible)
    y = measurement_of(operator)
    expected = y.flatten(2).numpy() @ np.linalg.pinv(matrix_of(operator)).T
    np.testing.assert_allclose(operator.pinv(y).flatten(2).numpy(), expected, atol=1e-12)


# --- gold -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def discs(parity: Recordings) -> Mapping[str, NDArray]:
    return dict(np.load(parity / "ct_operators.npz"))


@pytest.fixture(scope="module")
def astra(parity: Recordings) -> Mapping[str, NDArray]:
    return dict(np.load(parity / "ct_astra.npz"))


def parallel(edge: int, angles: tuple[float, ...], bins: int, slices: int = 1) -> ParallelSpec:
    return ParallelSpec(
        shape=(slices, edge, edge), spacing_mm=UNIT, angles_deg=angles, bins=bins, bin_mm=1.0
    )


def plane(image: NDArray) -> torch.Tensor:
    """An image, or a sinogram, as a volume of one slice."""
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None, None]


@pytest.mark.parametrize(("bins", "key"), [(64, "exact_bin_mean"), (92, "exact_bin_mean_nd92")])
def test_parallel_projections_of_discs(discs: Mapping[str, NDArray], bins: int, key: str) -> None:
    operator = build(parallel(64, tuple(discs["angles_deg"]), bins))
    assert relative(operator(plane(discs["phantom"]))[0, 0, 0].numpy(), discs[key]) <= 0.01


def test_parallel_projections_equal_recorded_ones(
    discs: Mapping[str, NDArray], astra: Mapping[str, NDArray]
) -> None:
    operator = build(parallel(64, tuple(discs["angles_deg"]), 64))
    found = operator(plane(discs["phantom"]))[0, 0, 0].numpy()
    assert relative(found, discs["reference_joseph_sino"]) < 1e-6
    assert relative(found, astra["astra_parallel_linear"]) < 1e-5
    assert operator.norm() == pytest.approx(float(discs["reference_joseph_norm_64_20_nd64"]), 1e-5)


def test_other_discretisations_differ_by_little_and_other_conventions_by_much(
    discs: Mapping[str, NDArray], astra: Mapping[str, NDArray]
) -> None:
    """So that the bounds above would notice half a pixel, or views that turn the other way."""
    angles = tuple(discs["angles_deg"])
    found = build(parallel(64, angles, 64))(plane(discs["phantom"]))[0, 0, 0].numpy()
    for key in ("astra_parallel_line", "astra_parallel_strip"):
        assert relative(found, astra[key]) <= 0.015
    for key in ("exact_bin_mean_skimage_convention", "skimage_radon_circle"):
        assert relative(found, discs[key]) > 0.05
    backwards = build(parallel(64, tuple(-np.array(angles)), 64))
    assert (
        relative(backwards(plane(discs["phantom"]))[0, 0, 0].numpy(), discs["exact_bin_mean"])
        > 0.15
    )


def test_parallel_projections_go_slice_by_slice(discs: Mapping[str, NDArray]) -> None:
    operator = build(parallel(32, tuple(discs["angles_deg"]), 32, slices=32))
    found = operator(torch.from_numpy(discs["volume"])[None, None])[0, 0].numpy()
    assert relative(found, discs["volume_exact_bin_mean"]) <= 0.03
    assert relative(found, discs["volume_reference_joseph_sino"]) < 1e-6


def test_lengths_are_in_mm(discs: Mapping[str, NDArray]) -> None:
    angles, image = tuple(discs["angles_deg"]), plane(discs["phantom"])
    spec = ParallelSpec(
        shape=(1, 64, 64), spacing_mm=(9, 2.5, 2.5), angles_deg=angles, bins=64, bin_mm=2.5
    )
    torch.testing.assert_close(
        build(spec)(image), 2.5 * build(parallel(64, angles, 64))(image), rtol=1e-5, atol=1e-4
    )


def test_fan_projections_of_discs(
    discs: Mapping[str, NDArray], astra: Mapping[str, NDArray]
) -> None:
    source, behind, bins, pitch = astra["fan_source_origin_origin_detector_bins_pitch"]
    spec = FanSpec(
        shape=(1, 64, 64),
        spacing_mm=UNIT,
        angles_deg=tuple(astra["fan_angles_deg"]),
        bins=int(bins),
        bin_mm=pitch,
        source_axis_mm=source,
        source_detector_mm=source + behind,
    )
    vectors = astra["fan_vectors_srcx_srcy_detx_dety_ux_uy"]
    np.testing.assert_allclose(list(spec.sources()), vectors[:, :2], atol=1e-10)
    middle = [(row[47] + row[48]) / 2 for row in spec.bins_of()]
    np.testing.assert_allclose(middle, vectors[:, 2:4], atol=1e-10)
    found = build(spec)(plane(discs["phantom"]))[0, 0, 0].numpy()
    assert relative(found, astra["fan_exact_bin_mean"]) <= 0.01
    assert relative(found, astra["astra_line_fanflat"]) <= 0.01
    assert relative(found, astra["astra_strip_fanflat"]) <= 0.015


@pytest.fixture(scope="module")
def spheres(parity: Recordings) -> Mapping[str, NDArray]:
    return dict(np.load(parity / "ct_cone.npz"))


def cone(angles: tuple[float, ...], pixels: int, pixel_mm: float) -> ConeSpec:
    return ConeSpec(
        shape=(32, 32, 32),
        spacing_mm=UNIT,
        angles_deg=angles,
        bins=pixels,
        bin_mm=pixel_mm,
        rows=pixels,
        row_mm=pixel_mm,
        source_axis_mm=87.5,
        source_detector_mm=102.5,
    )


def test_cone_projections_of_spheres(spheres: Mapping[str, NDArray]) -> None:
    spec = cone(tuple(spheres["angles_deg"]), 48, 1.0)
    np.testing.assert_allclose(list(spec.sources()), spheres["source"][:, :2], atol=1e-10)
    found = build(spec)(torch.from_numpy(spheres["volume"])[None, None])[0, 0].numpy()
    assert relative(found, spheres["exact_pixel_mean"]) <= 0.03


def test_a_cone_is_projected_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = build(SPECS["cone"], dtype=torch.float64)
    assert isinstance(operator, Cone)
    x, y = volume_of(operator), measurement_of(operator)
    whole = operator(x), operator.adjoint(y)
    monkeypatch.setattr("prdit_core.inverse.operators.joseph3d.SAMPLES", 7)
    torch.testing.assert_close((operator(x), operator.adjoint(y)), whole)


# --- filtered backprojection -------------------------------------------------------------------


def in_circle(edge: int) -> NDArray[np.bool_]:
    places = np.arange(edge) - (edge - 1) / 2
    return np.hypot(places[:, None], places[None]) < edge / 2


def psnr(found: NDArray, truth: NDArray) -> float:
    """Of values clipped to [0, 1], in the inscribed circle."""
    error = (np.clip(found, 0, 1) - truth)[..., in_circle(truth.shape[-1])]
    return float(-10 * np.log10(np.square(error).mean()))


def exact_sinogram(discs: Mapping[str, NDArray], angles: tuple[float, ...]) -> NDArray:
    """Line integrals of the discs, 16 rays a bin of 64, as `exact_bin_mean` was made."""
    s = (np.arange(64 * 16) + 0.5) / 16 - 32
    total = np.zeros((len(angles), 64))
    for x, y, radius, value in discs["discs_cx_cy_r_value"].astype(float) * [32, -32, 32, 1]:
        for view, angle in enumerate(np.radians(angles)):
            away = s - (x * np.cos(angle) + y * np.sin(angle))
            chord = 2 * value * np.sqrt(np.maximum(radius**2 - away**2, 0))
            total[view] += chord.reshape(64, 16).mean(1)
    return total


def test_fbp_equals_recorded_ones(
    discs: Mapping[str, NDArray], astra: Mapping[str, NDArray]
) -> None:
    operator = build(parallel(64, tuple(discs["angles_deg"]), 64))
    found = fbp(operator, plane(discs["exact_bin_mean"]))[0, 0, 0].numpy()
    inside = in_circle(64)
    for recorded in (discs["reference_fbp_ramp_of_exact"], astra["astra_fbp_ramlak_of_exact"]):
        np.testing.assert_allclose(found[inside], recorded[inside], atol=5e-5)
    assert psnr(found, discs["phantom"]) >= 27.5
    # Half a pixel off, as scikit-image would take it, this is 20.0 dB.
    assert psnr(discs["skimage_fbp_ramp_of_exact"], discs["phantom"]) < 21
    assert not found[~inside].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "angles",
    [
        spread_angles(180),
        spread_angles(360, 360),  # a whole turn: every view twice
        (*spread_angles(180), 180.0),  # the end as well
        (*np.arange(0, 90, 0.5), *np.arange(90, 180, 1.0)),  # half of it twice as dense
        tuple(np.arange(181) * 111.246),  # golden angle
    ],
    ids=["half turn", "turn", "0 and 180", "uneven", "golden"],
)
def test_fbp_has_the_right_scale(discs: Mapping[str, NDArray], angles: tuple[float, ...]) -> None:
    operator = build(parallel(64, angles, 64))
    found = fbp(operator, plane(exact_sinogram(discs, angles)))[0, 0, 0].numpy()
    assert psnr(found, discs["phantom"]) >= 36.5
    assert found.mean() == pytest.approx(discs["phantom"].mean(), rel=0.005)


def test_the_hann_window_takes_noise_away(discs: Mapping[str, NDArray]) -> None:
    operator = build(parallel(64, spread_angles(60), 64))
    noise = torch.randn(operator.range_shape, generator=torch.Generator().manual_seed(0))[
        None, None
    ]
    ramp, hann = (fbp(operator, noise, window).std() for window in ("ramp", "hann"))
    assert hann < 0.5 * ramp
    smooth = fbp(operator, plane(exact_sinogram(discs, spread_angles(60))), "hann")
    assert float(smooth.mean()) == pytest.approx(discs["phantom"].mean(), rel=0.01)


def test_views_beside_a_missing_wedge_weigh_as_the_others() -> None:
    weights = view_weights(spread_angles(60, 120), 180.0)
    np.testing.assert_allclose(weights, np.radians(2.0))
    assert float(view_weights((5.0,), 180.0)[0]) == pytest.approx(np.pi)


def fan(arc: float, source_mm: float = 200.0) -> FanSpec:
    """A view each degree; the detector is wide enough for all of the phantom."""
    return FanSpec(
        shape=(1, 64, 64),
        spacing_mm=UNIT,
        angles_deg=spread_angles(round(arc), arc),
        bins=192,
        bin_mm=0.75,
        source_axis_mm=source_mm,
        source_detector_mm=1.5 * source_mm,
    )


def exact_fan(discs: Mapping[str, NDArray], spec: FanSpec) -> NDArray:
    """Line integrals of the discs, four rays a bin, (V, bins)."""
    fine = spec.model_copy(update={"bins": 4 * spec.bins, "bin_mm": spec.bin_mm / 4})
    total = np.zeros((spec.views, fine.bins))
    for view, (points, along) in enumerate(fine.rays()):
        for x, y, radius, value in discs["discs_cx_cy_r_value"].astype(float) * [32, -32, 32, 1]:
            to_disc = np.array([x, y]) - points
            away = to_disc[:, 0] * along[:, 1] - to_disc[:, 1] * along[:, 0]
            total[view] += 2 * value * np.sqrt(np.maximum(radius**2 - away**2, 0))
    means: NDArray = total.reshape(spec.views, spec.bins, 4).mean(2)
    return means


@pytest.mark.slow
@pytest.mark.parametrize("source_mm", [100.0, 200.0])
@pytest.mark.parametrize("arc", [360, 300, 235])
def test_fbp_of_a_fan(discs: Mapping[str, NDArray], arc: float, source_mm: float) -> None:
    """Over a turn, and over less as long as all lines are measured."""
    spec = fan(arc, source_mm)
    assert spec.whole_arc_deg <= arc
    found = fbp(build(spec), plane(exact_fan(discs, spec)))[0, 0, 0].numpy()
    assert psnr(found, discs["phantom"]) >= 36.5
    assert found.mean() == pytest.approx(discs["phantom"].mean(), rel=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0.0, 250.0])
def test_an_arc_may_begin_anywhere_and_run_either_way(
    discs: Mapping[str, NDArray], first: float
) -> None:
    angles = tuple((first - np.arange(230.0)).tolist())
    spec = fan(230).model_copy(update={"angles_deg": angles})
    found = fbp(build(spec), plane(exact_fan(discs, spec)))[0, 0, 0].numpy()
    assert psnr(found, discs["phantom"]) >= 36.5


@pytest.mark.parametrize("arc", [360, 260, 210])
def test_the_shares_of_both_ends_of_a_line_add_up_to_one(arc: float) -> None:
    """Fine views, so that one of them lies near the other end of each line."""
    spec = fan(arc).model_copy(update={"angles_deg": spread_angles(8 * arc, arc)})
    shares, fan_deg = spec.redundancy(), np.degrees(np.arctan(spec.bin_places() / 300))
    assert shares.min() >= 0 and shares.max() <= 1
    there = np.mod(np.array(spec.angles_deg)[:, None] + 180 - 2 * fan_deg, 360)
    views = np.rint(there * 8).astype(int) % (8 * 360)
    bins = np.broadcast_to(np.arange(spec.bins)[::-1], views.shape)
    seen = views < spec.views
    others = np.where(seen, shares[np.where(seen, views, 0), bins], 0.0)
    np.testing.assert_allclose(shares + others, 1, atol=0.05)
    assert seen.all() == (arc == 360)


def test_less_than_all_lines_are_shaded_and_said_to_be(discs: Mapping[str, NDArray]) -> None:
    spec = fan(150)
    found = fbp(build(spec), plane(exact_fan(discs, spec)))[0, 0, 0].numpy()
    assert psnr(found, discs["phantom"]) < 25
    assert missing_arc(spec) == [
        "views over 150 degrees leave out lines, all of which take 206: filtered backprojection "
        "will be shaded, and edges along these lines are not seen"
    ]
    assert missing_arc(parallel(8, spread_angles(40, 120), 12))
    for whole in (
        fan(206),
        fan(360),
        parallel(8, spread_angles(8), 12),
        parallel(8, tuple(np.arange(30) * 111.246), 12),
    ):
        assert missing_arc(whole) == []


@pytest.mark.slow
@pytest.mark.parametrize("arc", [360, 228])
def test_fdk_of_a_cone(spheres: Mapping[str, NDArray], arc: float) -> None:
    operator = build(cone(spread_angles(arc // 6, arc), 64, 0.75))
    volume = torch.from_numpy(spheres["volume"])[None, None]
    found = fbp(operator, operator(volume))[0, 0].numpy()
    middle = slice(12, 20)
    assert psnr(found[middle], spheres["volume"][middle]) >= 30
    assert found[middle].mean() == pytest.approx(spheres["volume"][middle].mean(), rel=0.01)


# --- faults -----------------------------------------------------------------------------------

CONTENT = SPECS["fan"].model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "of version 2, this program reads 1"),
        ({"kind": "helical"}, "'helical'"),
        ({"angle": 3}, "angle"),
        ({"bins": 0}, "bins"),
        ({"angles_deg": [0, float("nan")]}, "angles_deg.1"),
        ({"source_axis_mm": 4}, "turns inside the volume"),
        ({"source_detector_mm": 20}, "must lie behind the axis"),
        ({"axis_bin": 12}, "lies outside of the detector's 10 bins"),
    ],
)
def test_wrong_specs_are_refused_in_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        read_spec(CONTENT | change)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ("AAAA", "damaged"),
        (mask_of(np.ones((9, 9, 9))).known, "not one of"),
        ("not base64 !", "damaged"),
    ],
)
def test_wrong_masks_are_refused(known: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_spec({"kind": "mask", "shape": [3, 4, 5], "known": known})


def test_a_mask_knows_something() -> None:
    with pytest.raises(ValueError, match="no voxel is known"):
        mask_of(np.zeros((3, 4, 5)))


def test_blocks_fill_the_volume() -> None:
    with pytest.raises(UsageError, match="do not fill"):
        read_spec({"kind": "super-resolution", "shape": [4, 4, 6], "factor": 4})


def test_a_device_without_sparse_matrices_is_refused() -> None:
    with pytest.raises(UsageError, match="build them on the CPU"):
        build(SPECS["fan"], device="mps")


def test_an_operator_that_does_not_fit_is_refused_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_physical_memory", lambda: 2**30)
    spec = parallel(1024, spread_angles(1000), 1024)
    with pytest.raises(
        MemoryLimit, match=r"needs about .* GiB.*; (\d+) views would fit"
    ) as refusal:
        build(spec)
    fitting = int(str(refusal.value).split(";")[1].split()[0])
    assert 2 * parallel(1024, spread_angles(fitting), 1024).memory(torch.float32) <= 2**30
