"""Benchmarks compare what they say: variants that train the same, volumes of the product."""

from __future__ import annotations

import importlib
import json
import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import tiny_checkpoint

import prdit_core
from prdit_core.data.phantoms import LABELS, make_phantom
from prdit_core.verbs.tv_strength import Strength

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training.py"
EXACT = ("float32, explicit softmax", "recompute", "micro-batch 1")


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def first_step(bench: dict[str, Any], name: str) -> tuple[float, float]:
    """Loss and norm of the gradient of a variant, from weights none of which is zero."""
    torch.set_num_threads(1)
    (variant,) = (variant for variant in bench["ALL"] if variant.name == name)
    trainer = bench["make_trainer"](bench["TINY"], "global", 2, variant)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in trainer.task.network.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    tally, norm = trainer.advance(bench["make_batch"](8, 2))
    return tally.loss()["total"], norm


@pytest.mark.parametrize("name", [*EXACT, "bf16-mixed"])
def test_a_variant_takes_the_step_of_the_reference(bench: dict[str, Any], name: str) -> None:
    within = 1e-4 if name in EXACT else 0.05
    assert first_step(bench, name) == pytest.approx(first_step(bench, "float32, SDPA"), rel=within)


def test_the_explicit_softmax_calls_no_fused_attention(
    bench: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fused(*_: object) -> None:
        raise AssertionError("fused")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
    first_step(bench, "float32, explicit softmax")
    with pytest.raises(AssertionError, match="fused"):
        first_step(bench, "float32, SDPA")


@pytest.mark.slow
def test_the_table_has_every_variant_with_sensible_numbers() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| small")]
    rows = {cells[1]: cells[2:] for cells in map(cells_of, lines)}
    assert list(rows) == ["float32, SDPA", *EXACT, "bf16-mixed"]
    for name, (*measured, estimate) in rows.items():
        known = [] if name == "float32, explicit softmax" else [estimate]
        assert all(math.isfinite(v) and v > 0 for v in map(float, [*measured, *known])), name
    assert rows["float32, SDPA"][1::2] == ["1.00", "1.00"]
    peaks = [float(rows[name][2]) for name in ("recompute", "float32, SDPA")]
    assert float(rows["recompute"][3]) == pytest.approx(peaks[0] / peaks[1], rel=0.03)


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- sampling quality -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quality() -> dict[str, Any]:
    sys.path.insert(0, str(SCRIPT.parent))
    return runpy.run_path(str(SCRIPT.parent / "sampling_quality.py"))


def test_a_benchmark_s_volumes_are_those_of_the_product_and_are_made_once(
    quality: dict[str, Any], tmp_path: Path
) -> None:
    prior = prdit_core.load(tiny_checkpoint(tmp_path / "tiny"))
    config = prdit_core.SamplingConfig(steps=6, refresh_every=4, refresh_change=None)
    made = quality["Made"](tmp_path / "made", config)
    for index in range(2):
        made.make(prior, index)
    before = made.file(1).read_bytes()
    made.make(prior, 1)
    assert made.count() == 2 and made.file(1).read_bytes() == before
    expected = prdit_core.generate(prior, config, seed=quality["SEED"], index=1).voxels_hu
    assert (made.volumes(2)[1] == expected.astype("int16")).all()
    seconds, local, residual = made.costs(2)
    assert seconds >= 0 and (local, residual) == (6, 2)


def test_end_points_are_told_from_others(quality: dict[str, Any]) -> None:
    reference = 100 * torch.randn(5, 4, 4, 4).numpy()
    rmse, same = quality["endpoints"](reference + 3, reference)
    assert rmse == pytest.approx(3, rel=1e-4) and same == 1
    assert quality["endpoints"](reference[::-1], reference)[1] == pytest.approx(1 / 5)


def test_what_is_compared_closely_was_scanned(quality: dict[str, Any]) -> None:
    assert set(quality["FRONT"]) <= set(dict(quality["scanned"]())) and len(quality["FRONT"]) <= 8


# --- operators --------------------------------------------------------------------------------


@pytest.mark.slow
def test_projectors_are_timed_beside_scikit_image(
    capsys: pytest.CaptureFixture[str],
) -> None:
    projectors = runpy.run_path(str(SCRIPT.parent / "operators.py"))
    projectors["compare"](16, 8, 1)
    cells = cells_of(capsys.readouterr().out.strip())
    assert cells[0] == "16 slices of 16^2, 8 views"
    assert all(float(number) > 0 for number in cells[1:]) and len(cells) == 7


# --- a machine with a GPU ---------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_on_a_cpu(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--quick", "--sizes", "32", "--out", str(tmp_path)]
    script = SCRIPT.with_name("gpu.py")
    subprocess.run([sys.executable, script, *words], check=True, capture_output=True, timeout=600)
    content = json.loads((tmp_path / "gpu.json").read_text())
    rows = {(row["model"], row["way"]): row for row in content["ways"]}
    assert rows["bundled", "float32, plain transcription"]["error"] < 1e-4
    assert 0 < rows["bundled", "bf16"]["error"] < 0.1
    assert rows["tiny", "bf16, CUDA graph"]["failed"] == "RuntimeError: needs CUDA"
    assert all(row["volume, s"] > 0 for row in content["volumes"])
    assert all(row["iteration, ms"] > 0 for row in content["training"])
    assert all(f"| {way} |" in (tmp_path / "gpu.md").read_text() for _, way in rows)


def test_wheels_for_a_gpu_are_what_torch_and_matplotlib_do_not_bring() -> None:
    wheels = runpy.run_path(str(SCRIPT.parents[1] / "scripts" / "gpu_wheels.py"))
    there = wheels["needed_by"](wheels["THERE"], "3.12")
    lacking = wheels["needed_by"](wheels["WANTED"], "3.12").keys() - there.keys()
    lacking -= wheels["LEFT_OUT"]
    assert {"pydantic", "pydantic-core", "lightning-fabric", "nibabel", "pytest"} <= lacking
    assert lacking.isdisjoint({"torch", "numpy", "pillow", "simpleitk", "napari-prdit", "napari"})


# --- reconstruction ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reconstruction() -> dict[str, Any]:
    sys.path.insert(0, str(SCRIPT.parent))
    return runpy.run_path(str(SCRIPT.parent / "reconstruction.py"))


@pytest.mark.slow
def test_reconstructions_are_those_of_the_product_and_are_made_once(
    reconstruction: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    ways = sys.modules["reconstruction_ways"]
    monkeypatch.setattr(ways, "strength_for", lambda _: Strength(1e-5, "given"))  # tuning is slow
    small = reconstruction["Scale"](size=32, steps=2, training=3, iterations=3)
    prior = prdit_core.load("demo").at_size(32)
    priors = reconstruction["Priors"]({"demo": prior}, samples=2)
    case = reconstruction["Reconstructions"]("8 views, metal", tmp_path, small, priors)
    case.make([0], {"FBP", "TV"})
    rows = {cells[0]: cells for cells in table_of(reconstruction, case, [0, 1])}
    assert rows["FBP"][1] == "1 of 2" and rows["SIRT"][1] == "not made"
    case.make([0, 1], set(reconstruction["KINDS"]))
    files = {file: file.read_bytes() for file in tmp_path.rglob("*.npz")}
    case.make([0, 1], set(reconstruction["KINDS"]))
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.npz")} == files
    one = reconstruction["scan"](case.case, 6, 1, small)
    assert one.truth.max() > 400  # metal
    expected = prdit_core.reconstruct(
        prior, one.measurement, prdit_core.verbs.reconstruct.WALK.model_copy(update={"steps": 2})
    )
    made = np.load(case.file(f"demo-{prior.digest[:8]} default 0", 1))["hu"]
    np.testing.assert_allclose(made, expected.voxels_hu, atol=0.5)
    rows = {cells[0]: cells for cells in table_of(reconstruction, case, [0, 1])}
    assert {"FBP", "CG20", "SIRT", "TV", "FBP-UNet", "demo dds", "demo walk"} < set(rows)
    assert rows["TV"][3] == "" and "+-" in rows["demo default, mean of 2"][3]
    case.picture(case.rows([0]), 0, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def table_of(reconstruction: dict[str, Any], case: Any, indices: list[int]) -> list[list[str]]:
    table: str = reconstruction["table"](case.rows(indices), len(indices))
    return [cells_of(line) for line in table.splitlines()[2:]]


@pytest.mark.slow
def test_shifted_families_shift_anatomy_or_data(reconstruction: dict[str, Any]) -> None:
    cases, small = reconstruction["CASES"], reconstruction["Scale"](size=32)
    names = ("", ", metal", ", small bodies", ", rings", ", truncated")
    plain, metal, child, rings, cut = (
        reconstruction["scan"](cases[f"8 views{name}"], 6, 0, small) for name in names
    )
    assert metal.truth.max() > 1000 > plain.truth.max()
    body = [float((one.truth > -500).mean()) for one in (plain, child)]
    assert body[1] == pytest.approx(0.75**3 * body[0], rel=0.1)
    assert child.labels.shape == plain.labels.shape == (64, 64, 64)
    spoilt = rings.measurement.values - plain.measurement.values
    np.testing.assert_allclose(spoilt - spoilt[:, :1], 0, atol=1e-5)  # the same in all views
    assert np.std(spoilt) == pytest.approx(0.02, rel=0.2)
    assert cut.measurement.values.shape[2] == 22 < plain.measurement.values.shape[2]
    assert next(iter(cases)) == "8 views" and list(cases)[1] == "120 degrees"


def test_looks_count_nodules_edges_noise_and_coverage(reconstruction: dict[str, Any]) -> None:
    looks = sys.modules["looks"]
    made = prdit_core.data.phantoms.make_phantom(6, 0, spacing_mm=5.0)
    truth = made.volume.voxels_hu.reshape(32, 2, 32, 2, 32, 2).mean((1, 3, 5))
    assert looks.sharpness(truth, truth) == pytest.approx(1)
    assert looks.sharpness(truth, np.zeros_like(truth)) == 0
    assert looks.noise(truth, truth, made.labels) == 0
    random = np.random.default_rng(0)
    samples = truth + 30 * random.standard_normal((5, *truth.shape))
    other = truth + 30 * random.standard_normal(truth.shape)
    assert looks.coverage(other, samples) == pytest.approx(0.9, abs=0.02)
    assert looks.coverage(other + 300, samples) < 0.1
    count, lost, invented = looks.nodules(truth, truth, made.labels)
    assert (lost, invented) == (0, 0)
    lung = looks.share_of(made.labels, "lung_right", "lung_left")
    empty = np.where(looks.share_of(made.labels, "nodule") > 0, -850.0, truth)
    assert looks.nodules(truth, empty, made.labels) == (count, count, 0)
    inner = looks.ndimage.binary_erosion(lung > 0.9) & (truth < -750)
    z, y, x = np.argwhere(looks.ndimage.binary_erosion(inner, np.ones((2, 2, 2))))[0]
    more = truth.copy()
    more[z - 1 : z + 1, y - 1 : y + 1, x - 1 : x + 1] = 0
    assert looks.nodules(truth, more, made.labels)[2] == 1


def test_a_class_is_recognised_by_the_mean_and_the_spread_of_its_tissues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wide class far away may be likelier than a narrow one near by."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    latent, decoding = (importlib.import_module(name) for name in ("latent", "latent_decoding"))
    rng = np.random.default_rng(0)
    known = {
        "narrow": 0.1 + 0.006 * rng.normal(size=(40, 5)),
        "wide": 0.2 + 0.06 * rng.normal(size=(40, 5)),
    }
    found = np.array([[0.1] * 5, [0.2] * 5, [0.14] * 5])
    assert latent.nearest(found, known) == ["narrow", "wide", "wide"]
    assert latent.away(found, known["narrow"])[2] > 5 > 2 > latent.away(found, known["wide"])[2]
    blocks = latent.averaged(np.arange(64.0).reshape(4, 4, 4), 2)
    assert blocks[0, 0, 0] == np.mean([0, 1, 4, 5, 16, 17, 20, 21])
    x = torch.arange(16.0).repeat(1, 1, 16, 16, 1)
    assert decoding.at_borders(x, [[], [], [8]]) == pytest.approx(1)
    x[..., 8:] += 1  # a step of the size of a slope
    assert decoding.at_borders(x, [[], [], [8]]) == pytest.approx(4)


# --- control ----------------------------------------------------------------------------------


def test_organs_are_found_where_a_phantom_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    organs = importlib.import_module("organs")
    phantom = make_phantom(3, 0, spacing_mm=5.0)
    names = [name for name, number in LABELS.items() if number]
    found, there = organs.found(phantom.volume.voxels_hu), organs.painted(phantom.labels, names)
    overlap = [organs.dice(found[organ], there[organ]) for organ in organs.ORGANS]
    assert min(overlap) > 0.65 and overlap[0] > 0.9  # lungs first
    elsewhere = [organs.dice(found[organ][::-1], there[organ]) for organ in organs.ORGANS]
    assert max(elsewhere) < min(overlap)
    for change, name in ((organs.larger_heart, "heart"), (organs.one_nodule_more, "nodule")):
        other = change(phantom.labels, names)
        before = np.unique(phantom.labels[other != phantom.labels])
        assert set(before) <= {LABELS["lung_right"], LABELS["lung_left"]}
        assert np.unique(other[other != phantom.labels]).tolist() == [LABELS[name]]


@pytest.fixture
def augmentation(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("augmentation")


def test_surfaces_are_as_far_apart_as_they_are(augmentation: Any) -> None:
    a, b, none = (np.zeros((16, 16, 16), bool) for _ in range(3))
    a[4:8, 4:8, 4:8] = b[4:8, 4:8, 7:11] = True
    assert augmentation.hd95(a, a, 5.0) == 0
    assert augmentation.hd95(a, b, 5.0) == augmentation.hd95(b, a, 5.0) == 15
    assert augmentation.hd95(a, none, 5.0) == augmentation.hd95(none, a, 5.0) == 320
    assert augmentation.hd95(none, none, 5.0) is None


def test_targets_are_the_organs_of_a_phantom(augmentation: Any) -> None:
    names = tuple(name for name, number in LABELS.items() if number)
    some = [make_phantom(3, index, spacing_mm=10.0).labels for index in range(4)]
    labels = np.stack(some).astype(np.int64)
    found = augmentation.targets(labels, names)
    for number, parts in enumerate(augmentation.TARGETS.values(), 1):
        there = np.isin(labels, [LABELS[part] for part in parts])
        assert there.any() and np.array_equal(found == number, there)
    assert set(labels[found == 0].tolist()) >= {LABELS["air"], LABELS["fat"]}


@pytest.mark.slow
def test_a_network_learns_what_is_plain_to_see(augmentation: Any) -> None:
    """Boxes brighter by one step each; the same seed gives the same network."""
    stream = np.random.default_rng(0)
    y = np.zeros((6, 16, 16, 16), np.int64)
    for one in y:
        for number, corner in enumerate(stream.integers(0, 8, (2, 3)), 1):
            one[tuple(slice(at, at + 8) for at in corner)] = number
    x = torch.from_numpy(y[:, None] - 1.0).float()
    pairs = augmentation.Pairs(x, torch.from_numpy(y))
    scores = [
        np.array(augmentation.judged(augmentation.trained(pairs, 0, steps), pairs)["dice"])
        for steps in (1, 1, 120)
    ]
    early, again, late = (score[:, :2].mean() for score in scores)
    assert late > 0.8 > early == again
