"""The command as users meet it: files, exit codes, reruns, one line for every fault."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from safetensors.torch import load_file
from toys import TINY, TINY_CHAIN, tiny_checkpoint
from typer.testing import CliRunner, Result

import prdit_core
from prdit_core.checkpoints.catalog import find
from prdit_core.checkpoints.header import WEIGHTS
from prdit_core.checkpoints.store import read_header, save_checkpoint
from prdit_core.cli.app import app
from prdit_core.data.phantoms import LABELS, make_phantom
from prdit_core.data.writing import write_labels
from prdit_core.runs.metrics import read_lines
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

TINY_RUN = ("--steps", "3", "--threads", "1")


def run(*words: object, code: int = 0) -> Result:
    """Run the command in this process and check its exit code; errors are one line."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line.startswith("prdit-core: ")]
    usage = code == 2 and result.stderr.startswith("Usage: ")  # typer's own words
    assert len(lines) == (1 if code and not usage else 0)
    assert not any("unexpected" in line for line in lines), lines
    return result


def spawn(*words: object, **environment: str) -> subprocess.Popen[str]:
    """Run the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "prdit_core.cli", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    return {file.name: digest(file) for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8^3 refined to 16^3."""
    return tiny_checkpoint(tmp_path_factory.mktemp("model") / "chain", size=16, model=TINY_CHAIN)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    run("phantoms", "--count", 6, "--size", 16, "--seed", 1, "--out", folder)
    return folder


def generate(checkpoint: Path, out: Path, *more: object, code: int = 0) -> Result:
    return run("generate", "--checkpoint", checkpoint, "--out", out, *TINY_RUN, *more, code=code)


# --- generate ---------------------------------------------------------------------------------


def test_a_volume_opens_everywhere_with_its_geometry(checkpoint: Path, tmp_path: Path) -> None:
    generate(checkpoint, tmp_path / "volume.nii.gz")
    ours = nib.load(tmp_path / "volume.nii.gz")
    assert ours.get_data_dtype() == np.int16 and ours.shape == (8, 8, 8)
    np.testing.assert_allclose(ours.header.get_zooms(), (8, 8, 8))
    assert nib.aff2axcodes(ours.affine) == ("L", "P", "S")
    theirs = sitk.ReadImage(str(tmp_path / "volume.nii.gz"))
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(theirs), np.asarray(ours.dataobj).transpose(2, 1, 0)
    )
    assert b"not for diagnosis" in bytes(ours.header["descrip"])
    record = json.loads((tmp_path / "volume.json").read_text())
    assert record["notice"] == "synthetic, not for diagnosis"
    assert record["checkpoint_sha256"] == read_header(checkpoint).digest
    assert {"seed", "sampler", "steps", "k", "version", "threads", "window_hu"} <= record.keys()
    with Image.open(tmp_path / "volume.png") as picture:
        assert np.asarray(picture).std() > 5


@pytest.mark.slow
def test_four_at_once_are_four_single_ones(checkpoint: Path, tmp_path: Path) -> None:
    generate(checkpoint, tmp_path / "four", "--count", 4, "--seed", 7)
    for index in range(4):
        generate(checkpoint, tmp_path / "one", "--index", index, "--seed", 7)
        generate(checkpoint, tmp_path / f"{index}.nii.gz", "--index", index, "--seed", 7)
    four = digests(tmp_path / "four")
    assert four == digests(tmp_path / "one") and len(four) == 12
    volumes = [four[f"seed-7_index-{index:04d}.nii.gz"] for index in range(4)]
    assert len(set(volumes)) == 4
    assert volumes == [digest(tmp_path / f"{index}.nii.gz") for index in range(4)]


def test_the_same_command_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate(checkpoint, tmp_path / name, "--count", 2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_seed_and_weights_decide(checkpoint: Path, tmp_path: Path) -> None:
    header, weights = read_header(checkpoint), load_file(checkpoint / WEIGHTS)
    weights["local.out.bias"][3] += 0.1
    changed = save_checkpoint(tmp_path / "changed", header, weights)
    generate(checkpoint, tmp_path / "a.nii.gz")
    generate(checkpoint, tmp_path / "b.nii.gz", "--seed", 1)
    generate(changed, tmp_path / "c.nii.gz")
    assert len({digest(tmp_path / f"{name}.nii.gz") for name in "abc"}) == 3


def test_a_rerun_makes_only_what_is_missing(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(checkpoint, out, "--count", 3)
    before = digests(out)
    assert "0 volumes made, 3 were there" in generate(checkpoint, out, "--count", 3).stdout
    (out / "seed-0_index-0001.json").unlink()
    (out / "seed-0_index-0002.nii.gz").write_bytes(b"cut")
    report = json.loads(generate(checkpoint, out, "--count", 3, "--json").stdout)
    assert (report["made"], report["reused"]) == (2, 1)
    assert digests(out) == before


def test_other_settings_are_not_mixed_in(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(checkpoint, out)
    before = digests(out)
    assert "k 1.0 instead of 2.0" in generate(checkpoint, out, "--k", 2, code=6).stderr
    generate(checkpoint, out, "--index", 5, "--sampler", "euler", code=6)
    assert digests(out) == before
    generate(checkpoint, out, "--k", 2, "--overwrite")
    assert digests(out) != before


@pytest.mark.slow
def test_a_branch_has_its_record_and_is_not_mixed_with_others(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    generate(checkpoint, out, "--branch", "2:5", "--count", 2)
    record = json.loads((out / "seed-0_index-0001.json").read_text())
    assert record["branches"] == ["2:5"] and record["seed"] == 0
    assert "2 were there" in generate(checkpoint, out, "--branch", "2:5", "--count", 2).stdout
    assert "branches" in generate(checkpoint, out, code=6).stderr
    assert "branches" in generate(checkpoint, out, "--branch", "2:6", code=6).stderr
    generate(checkpoint, tmp_path / "plain")
    generate(checkpoint, tmp_path / "plain", "--branch", "2:5", code=6)
    assert digest(out / "seed-0_index-0000.nii.gz") != digest(
        tmp_path / "plain" / "seed-0_index-0000.nii.gz"
    )


def test_overwriting_some_leaves_no_mixture(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(checkpoint, out, "--count", 3)
    generate(checkpoint, out, "--count", 1, "--k", 2, "--overwrite")
    assert [file.name for file in sorted(out.glob("*.nii.gz"))] == ["seed-0_index-0000.nii.gz"]
    generate(checkpoint, out, "--count", 3, "--k", 2)
    assert len(list(out.glob("*.nii.gz"))) == 3


def test_a_folder_called_demo_does_not_hide_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run("generate", "--out", "demo", "--size", 32, *TINY_RUN)


@pytest.mark.slow
def test_a_terminal_without_unicode_gets_an_answer(checkpoint: Path, tmp_path: Path) -> None:
    words = ("--checkpoint", checkpoint, "--out", tmp_path / "späce 体", *TINY_RUN)
    child = spawn("generate", *words, PYTHONIOENCODING="ascii")
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0 and "sp\\xe4ce" in output, errors


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_reader_that_leaves_stops_nothing(checkpoint: Path, tmp_path: Path) -> None:
    child = spawn("generate", "--checkpoint", checkpoint, "--out", tmp_path, *TINY_RUN)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    errors = child.stderr.read()
    assert child.wait(timeout=120) == 0 and "Traceback" not in errors
    assert list(tmp_path.glob("*.nii.gz"))


def test_one_file_is_not_overwritten_silently(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.nii.gz"
    file.write_bytes(b"something of mine")
    generate(checkpoint, file, code=6)
    assert file.read_bytes() == b"something of mine"
    generate(checkpoint, file, "--overwrite")
    generate(checkpoint, file, "--seed", 1, code=6)


@pytest.mark.slow
def test_one_file_has_the_format_of_its_name(checkpoint: Path, tmp_path: Path) -> None:
    """And a record of its own, so that two formats in one folder need two names."""
    generate(checkpoint, tmp_path / "a.nii.gz")
    expected = nib.load(tmp_path / "a.nii.gz").get_fdata().T
    for suffix in (".nii", ".mha", ".nrrd"):
        file = tmp_path / f"b{suffix[1:]}{suffix}"
        generate(checkpoint, file)
        image = sitk.ReadImage(str(file))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
        record = json.loads(file.with_suffix(".json").read_text())
        assert (record["volume"], record["sha256"]) == (file.name, digest(file))
        assert "0 volumes made" in generate(checkpoint, file).stdout
    before = digests(tmp_path)
    for suffix in (".mhd", ".nhdr", ".npz"):  # no folder of that name, either
        assert "choose .nii.gz" in generate(checkpoint, tmp_path / f"c{suffix}", code=2).stderr
    assert "a.png exists" in generate(checkpoint, tmp_path / "a.nrrd", code=6).stderr
    assert digests(tmp_path) == before


def test_overwriting_one_file_removes_no_other(checkpoint: Path, tmp_path: Path) -> None:
    generate(checkpoint, tmp_path / "a.nii.gz")
    (tmp_path / "a.nii").write_bytes(b"something of mine")
    generate(checkpoint, tmp_path / "a.nii.gz", "--seed", 1, "--overwrite")
    assert (tmp_path / "a.nii").read_bytes() == b"something of mine"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--steps", 0),
        ("--seed", -1),
        ("--seed", 2**64),
        ("--count", 0),
        ("--count", 2**64),
        ("--checkpoint", "a" * 300),
        ("--k", 0.5),
        ("--k", "nan"),
        ("--sampler", "leapfrog"),
        ("--eta", 0.5),  # of a sampler without fresh noise
        ("--renoise", 2),  # of a model that looks once
        ("--device", "cuda:9"),
        ("--grid", "log"),
        ("--branch", "2"),
        ("--branch", "4:0"),
        ("--checkpoint", "nothing-like-this"),
    ],
)
def test_a_wrong_setting_is_a_usage_error(
    option: str, value: object, checkpoint: Path, tmp_path: Path
) -> None:
    result = generate(checkpoint, tmp_path / "out", option, value, code=2)
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_a_damaged_checkpoint_has_its_own_code(tmp_path: Path) -> None:
    damaged = tiny_checkpoint(tmp_path / "damaged")
    raw = (damaged / WEIGHTS).read_bytes()
    (damaged / WEIGHTS).write_bytes(raw[: len(raw) // 2])
    generate(damaged, tmp_path / "out", code=5)


def test_a_target_that_cannot_be_written_is_refused_first(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    generate(checkpoint, tmp_path / "file" / "out", code=6)


def test_a_channel_too_many_has_no_hu(tmp_path: Path) -> None:
    two = tiny_checkpoint(tmp_path / "two", model=TINY.model_copy(update={"channels": 2}))
    assert "2 channels" in generate(two, tmp_path / "out", code=2).stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for other processes")
def test_ctrl_c_keeps_what_is_finished(checkpoint: Path, tmp_path: Path) -> None:
    words = ("--checkpoint", checkpoint, "--count", 1000, "--steps", 5, "--threads", 1)
    child = spawn("generate", *words, "--out", tmp_path / "out")
    while len(list((tmp_path / "out").glob("*.json"))) < 2:
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in errors
    finished = sorted((tmp_path / "out").glob("*.json"))
    assert 2 <= len(finished) < 1000
    for record in finished:
        volume = record.with_suffix(".nii.gz")
        assert digest(volume) == json.loads(record.read_text())["sha256"]
    assert not list((tmp_path / "out").glob(".*"))


# --- resolutions of a chain -------------------------------------------------------------------


def test_a_chain_generates_at_each_of_its_resolutions(chain: Path, tmp_path: Path) -> None:
    for name, words in {"base": ("--size", 8), "top": ("--size", 16), "default": ()}.items():
        generate(chain, tmp_path / f"{name}.nii", *words)
    base, top = (nib.load(tmp_path / f"{name}.nii") for name in ("base", "top"))
    assert (base.shape, base.header.get_zooms()) == ((8,) * 3, (16.0,) * 3)
    assert (top.shape, top.header.get_zooms()) == ((16,) * 3, (8.0,) * 3)
    assert digest(tmp_path / "top.nii") == digest(tmp_path / "default.nii")
    records = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("base", "top")]
    assert [record["size"] for record in records] == [8, 16]
    assert records[0]["checkpoint_sha256"] == records[1]["checkpoint_sha256"]


def test_the_lowest_resolution_is_the_model_below(chain: Path, tmp_path: Path) -> None:
    header = read_header(chain)
    weights = load_file(chain / WEIGHTS)
    below = save_checkpoint(
        tmp_path / "below",
        header.model_copy(update={"model": TINY, "geometry": header.geometry.coarser(2)}),
        {name: w for name, w in weights.items() if not name.startswith("refiners.")},
    )
    generate(chain, tmp_path / "chain.nii", "--size", 8)
    generate(below, tmp_path / "below.nii")
    a, b = (np.asarray(nib.load(tmp_path / f"{n}.nii").dataobj) for n in ("chain", "below"))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [0, 12, 32])
def test_a_size_that_the_model_has_not_is_refused_with_those_it_has(
    chain: Path, tmp_path: Path, size: int
) -> None:
    assert "8, 16" in generate(chain, tmp_path / "out", "--size", size, code=2).stderr
    assert not (tmp_path / "out").exists()


def test_volumes_of_another_size_are_not_mixed_in(chain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(chain, out, "--size", 8)
    before = digests(out)
    stderr = generate(chain, out, "--count", 2, code=6).stderr
    assert "shape [8, 8, 8] instead of [16, 16, 16]" in stderr
    assert digests(out) == before
    assert "1 were there already" in generate(chain, out, "--size", 8).stdout
    generate(chain, out, "--size", 16, "--overwrite")
    assert digests(out) != before


@pytest.mark.slow
def test_decompose_tells_what_the_refiner_adds(chain: Path, tmp_path: Path) -> None:
    phantom = make_phantom(0, 0, spacing_mm=5.0).volume
    scan = prdit_core.write_volume(phantom, tmp_path / "scan.nii.gz")
    words = ("decompose", "--checkpoint", chain, "--volume", scan, "--threads", 1, "--out")
    run(*words, tmp_path / "parts")
    local, residual, refiner, total = (
        np.asarray(nib.load(tmp_path / "parts" / f"x0-{name}.nii.gz").dataobj, dtype=float)
        for name in ("local", "global-residual", "refiner", "total")
    )
    np.testing.assert_allclose(local + residual + refiner, total, atol=2.1)  # roundings to int16
    run(*words, tmp_path / "base", "--size", 8)
    assert nib.load(tmp_path / "base" / "x0-total.nii.gz").shape == (8, 8, 8)
    assert not list((tmp_path / "base").glob("*refiner*"))


# --- the bundled model ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_bundled_model_makes_a_chest(tmp_path: Path) -> None:
    """Air outside, two lungs, soft tissue and bone, in the places where a chest has them."""
    words = ("--checkpoint", "demo", "--size", 32, "--seed", 1, "--steps", 30)
    run("generate", *words, "--out", tmp_path / "v.nii")
    volume = prdit_core.read_volume(tmp_path / "v.nii")
    hu = np.asarray(volume.voxels_hu, dtype=float)
    assert volume.spacing_mm == (10.0, 10.0, 10.0)
    corners = hu[4:-4, :3, [0, 1, 2, -3, -2, -1]]
    assert np.median(corners) < -900
    middle = hu[12:20]
    right, left = middle[:, 10:20, 8:13], middle[:, 10:20, 19:24]
    assert np.percentile(right, 25) < -500 and np.percentile(left, 25) < -500
    between = middle[:, 10:20, 15:17]
    assert np.median(between) > -150
    assert 0.02 < (hu > 130).mean() < 0.25


@pytest.mark.slow
@pytest.mark.parametrize(("label", "parts"), [("legs", 2), ("head", 1)])
def test_the_bundled_latent_model_makes_the_class_asked_for(
    tmp_path: Path, label: str, parts: int
) -> None:
    """Through the middle slice of legs go two parts, through that of a head one."""
    words = ("--checkpoint", "demo-latent", "--class", label, "--seed", 0)
    run("generate", *words, "--out", tmp_path / "v.nii")
    hu = np.asarray(prdit_core.read_volume(tmp_path / "v.nii").voxels_hu)
    body = sitk.GetImageFromArray((hu[32] > -300).astype(np.uint8))
    sizes = np.bincount(sitk.GetArrayFromImage(sitk.ConnectedComponent(body)).ravel())[1:]
    assert (sizes > 100).sum() == parts
    assert np.median(hu[:, :4, [0, 1, -2, -1]]) < -800


@pytest.mark.slow
def test_the_bundled_control_shows_what_was_painted(tmp_path: Path) -> None:
    """The organs of a phantom that it has not seen; without a map it is its base."""
    phantom = make_phantom(9000, 0, spacing_mm=5.0)
    write_labels(Volume(phantom.labels, phantom.volume.affine), tmp_path / "painted.nii.gz")
    painted = ("--condition", tmp_path / "painted.nii.gz", "--out", tmp_path / "v.nii")
    run("generate", "--checkpoint", "demo-control", "--steps", 10, *painted)
    made = prdit_core.read_volume(tmp_path / "v.nii")
    np.testing.assert_allclose(made.affine, phantom.volume.affine)
    hu, lungs = made.voxels_hu, np.isin(phantom.labels, [LABELS["lung_right"], LABELS["lung_left"]])
    body = phantom.labels > LABELS["table"]
    assert (hu[lungs] < -400).mean() > 0.8 and (hu[body & ~lungs] > -400).mean() > 0.9
    made_by = [prdit_core.load(name).digest for name in ("demo-control", "demo-latent")]
    assert made_by[0] == made_by[1] != prdit_core.load("demo-control").control_digest


def test_bundled_files_stay_small() -> None:
    from prdit_core.checkpoints.catalog import BUNDLED

    assert sum(f.stat().st_size for f in BUNDLED.rglob("*") if f.is_file()) < 40 * 2**20


# --- decompose, info, devices -----------------------------------------------------------------


@pytest.mark.slow
def test_decompose_writes_parts_that_add_up(checkpoint: Path, tmp_path: Path) -> None:
    phantom = make_phantom(0, 0, spacing_mm=5.0).volume
    scan = prdit_core.write_volume(phantom, tmp_path / "scan.nii.gz")
    before = digest(scan)
    words = ("--checkpoint", checkpoint, "--volume", scan, "--t", 300, "--threads", 1)
    run("decompose", *words, "--out", tmp_path / "parts")
    parts = {
        name: np.asarray(nib.load(tmp_path / "parts" / f"{name}.nii.gz").dataobj, dtype=float)
        for name in ("scan", "x0-local", "x0-global-residual", "x0-total", "x0-error")
    }
    total = parts["x0-local"] + parts["x0-global-residual"]
    np.testing.assert_allclose(total, parts["x0-total"], atol=1.6)  # three roundings to int16
    np.testing.assert_allclose(parts["x0-total"] - parts["scan"], parts["x0-error"], atol=1.6)
    with Image.open(tmp_path / "parts" / "decomposition.png") as picture:
        assert np.asarray(picture).std() > 10
    assert digest(scan) == before
    run("decompose", *words, "--out", tmp_path / "parts", code=6)
    run("decompose", *words, "--out", scan, code=2)
    record = json.loads((tmp_path / "parts" / "decomposition.json").read_text())
    assert "synthetic" not in record["notice"] and "not for diagnosis" in record["notice"]
    run("decompose", *words[:-4], "--t", 0, "--out", tmp_path / "zero", code=2)


def test_info_tells_what_things_are(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    assert "demo" in run("info").stdout
    info = json.loads(run("info", checkpoint, "--json").stdout)
    assert info["parameters"] == sum(w.numel() for w in load_file(checkpoint / WEIGHTS).values())
    assert json.loads(run("info", data, "--json").stdout)["training cases"] == 5
    scan = make_phantom(0, 0, spacing_mm=10.0).volume
    prdit_core.write_volume(scan, tmp_path / "scan.nii.gz")
    assert "32 x 32 x 32" in run("info", tmp_path / "scan.nii.gz").stdout
    run("info", tmp_path / "missing.nii.gz", code=3)


def test_devices_end_with_the_cpu() -> None:
    found = json.loads(run("devices", "--json").stdout)["devices"]
    assert found[-1]["device"] == "cpu"


# --- train ------------------------------------------------------------------------------------

MODEL = ("--batch-size", 2, "--threads", 1, "--save-every", 2, "--preview-every", 100)


def train(data: Path, run_folder: Path, *more: object, code: int = 0) -> Result:
    words = ("--data", data, "--run", run_folder, "--iterations", 3, *MODEL)
    return run("train", *words, *more, code=code)


@pytest.fixture(scope="module")
def local_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "local"
    train(data, folder, "--stage", "local", "--preview-every", 2)
    return folder


@pytest.mark.slow
def test_both_stages_train_and_generate(local_run: Path, data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "global", "--stage", "global", "--from", local_run)
    lines = read_lines(tmp_path / "global" / "metrics.jsonl")
    assert [line["iteration"] for line in lines if line["kind"] == "train"] == [1, 2, 3]
    assert [p.name for p in (local_run / "previews").iterdir()]
    generate(tmp_path / "global", tmp_path / "v.nii.gz")
    local, whole = prdit_core.load(local_run), prdit_core.load(tmp_path / "global")
    assert local.network.config.depth == 0 and whole.network.config.depth == 4
    for name, weight in local.network.module.state_dict().items():
        assert torch.equal(weight, whole.network.module.state_dict()[name]), (
            f"{name} was not frozen"
        )


def test_stage_two_needs_stage_one(local_run: Path, data: Path, tmp_path: Path) -> None:
    assert "--from" in train(data, tmp_path / "a", "--stage", "global", code=2).stderr
    words = ("--stage", "global", "--from", local_run, "--model", "PRDiT-XS/12/4")
    assert "patch" in train(data, tmp_path / "b", *words, code=2).stderr


@pytest.mark.slow
def test_a_refused_start_leaves_the_run_folder_free(
    local_run: Path, data: Path, tmp_path: Path
) -> None:
    words = ("--stage", "global", "--from", local_run)
    train(data, tmp_path / "run", *words, "--model", "PRDiT-XS/12/4", code=2)
    train(data, tmp_path / "run", *words, "--model", "PRDiT-XS/12/0", code=2)
    train(data, tmp_path / "run", *words, "--iterations", 1)


def test_a_local_part_of_another_process_is_refused(
    local_run: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("noise_std = 1.0\n")
    words = ("--stage", "global", "--from", local_run, "--config", tmp_path / "c.toml")
    assert "noise_std=0.5" in train(data, tmp_path / "run", *words, code=2).stderr


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside(data: Path, tmp_path: Path) -> None:
    folder, words = tmp_path / "run", ("--stage", "local", "--resume")
    train(data, folder, *words, "--iterations", 4)
    newest = folder / "checkpoints" / "iteration-00000004"
    (newest / WEIGHTS).write_bytes(b"cut")
    result = train(data, folder, *words, "--iterations", 5)
    assert "damaged" in result.stderr and "resumed from iteration 2" in result.stderr
    assert read_header(find(folder)).record["iteration"] == 5
    train(data, tmp_path / "once", *words, "--iterations", 5)
    a, b = (run / "checkpoints" / "iteration-00000005" for run in (folder, tmp_path / "once"))
    assert digest(a / WEIGHTS) == digest(b / WEIGHTS)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file sizes")
def test_a_full_disk_stops_training_with_its_code(data: Path, tmp_path: Path) -> None:
    """The checkpoint before stays; a limit on file size stands for the full disk."""
    folder = tmp_path / "run"
    words = ("--data", data, "--run", folder, "--stage", "local", *MODEL, "--resume")
    run("train", *words, "--iterations", 2)
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from prdit_core.cli import main; main()"
    )
    child = subprocess.run(
        [sys.executable, "-c", program, "train", *map(str, words), "--iterations", "4"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 6 and "Traceback" not in child.stderr, child.stderr
    assert read_header(find(folder)).record["iteration"] == 2
    prdit_core.load(folder)
    assert not list((folder / "checkpoints").glob(".*"))


def test_output_never_goes_into_the_input(data: Path) -> None:
    before = digests(data)
    train(data, data, "--stage", "local", code=2)
    train(data, data / "run", "--stage", "local", code=2)
    assert digests(data) == before


def test_a_run_folder_is_not_overwritten(local_run: Path, data: Path) -> None:
    before = digests(local_run)
    assert "--resume" in train(data, local_run, "--stage", "local", code=6).stderr
    words = ("--stage", "local", "--resume", "--lr", 0.5)
    assert "lr: 0.0001 -> 0.5" in train(data, local_run, *words, code=2).stderr
    assert digests(local_run) == before


@pytest.mark.slow
def test_resuming_gives_the_weights_of_one_go(data: Path, tmp_path: Path) -> None:
    for folder, iterations in (("once", [5]), ("twice", [2, 5])):
        for count in iterations:
            words = ("--stage", "local", "--iterations", count, "--resume")
            train(data, tmp_path / folder, *words)
    a, b = (tmp_path / f / "checkpoints" / "iteration-00000005" for f in ("once", "twice"))
    for name in (WEIGHTS, "raw.safetensors", "optimizer.safetensors"):
        assert digest(a / name) == digest(b / name), name
    lines = [(tmp_path / f / "metrics.jsonl").read_text() for f in ("once", "twice")]
    assert lines[0] == lines[1]


@pytest.mark.slow
def test_settings_come_from_a_file_and_are_checked(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        f'stage = "local"\ndata = "{data.as_posix()}"\nrun = "{(tmp_path / "r").as_posix()}"\n'
        "iterations = 2\nbatch_size = 500\nlr = 2e-4\nthreads = 1\n"
    )
    result = run("train", "--config", file, "--iterations", 1)
    assert "batch size 5 instead of 500" in result.stderr
    resolved = json.loads((tmp_path / "r" / "config.json").read_text())["settings"]
    assert (resolved["iterations"], resolved["lr"], resolved["batch_size"]) == (1, 2e-4, 5)
    for text, hint in [("learing_rate = 1", "learing_rate"), ("iteratons = 1", "iterations")]:
        file.write_text(text)
        assert hint in run("train", "--config", file, code=2).stderr
    for text in ("lr = -1", "lr = nan", "iterations = 0", "= broken", 'lr = "1e-4x"'):
        file.write_text(text + "\n")
        words = ("--stage", "local", "--data", data, "--run", tmp_path / "x", "--config", file)
        run("train", *words, code=2)


def test_data_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    train(tmp_path / "nothing", tmp_path / "run", "--stage", "local", code=3)
    assert not (tmp_path / "run").exists()
