"""`prdit-core evaluate` as users meet it: a page and its numbers, or one line and an exit code."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch
from chests import HELD_OUT, OTHERS, TRAINING, chest, chests, save, volume
from typer.testing import CliRunner, Result

from prdit_core.cli.app import app
from prdit_core.data.io import read_volume, write_volume
from prdit_core.errors import InputRejected
from prdit_core.files import write_json
from prdit_core.geometry import cubic
from prdit_core.metrics.encoder_files import EncoderHeader, save_encoder
from prdit_core.metrics.evaluation import read_evaluation
from prdit_core.models import resnet3d
from prdit_core.models.initial import draw_weights
from prdit_core.models.phantom_encoder import PhantomEncoder
from prdit_core.models.resnet3d import ResNet3D
from prdit_core.noise import Draw
from prdit_core.provenance import SYNTHETIC, volume_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 6
SHAPE = chest(OTHERS, 0).shape


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real, generated and training volumes, and an encoder small enough for tests."""
    folder = tmp_path_factory.mktemp("work")
    for name, seed in {"real": HELD_OUT, "fake": OTHERS, "training": TRAINING}.items():
        save(chests(seed, COUNT), folder / name)
    model = PhantomEncoder(2, 5)
    draw_weights(model, Draw.ENCODER_WEIGHTS, 0)
    header = EncoderHeader(width=2, features=5, geometry=cubic(32, 320.0))
    save_encoder(folder / "encoder", header, model)
    return folder


@pytest.fixture
def resnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights of a ResNet-10 a hundredth as heavy as MedicalNet's."""
    layers = tuple((4, stride, dilation) for _, stride, dilation in resnet3d.LAYERS)
    monkeypatch.setattr(resnet3d, "LAYERS", layers)
    model = ResNet3D(10, "B")
    draw_weights(model, Draw.ENCODER_WEIGHTS, 1)
    return {f"module.{name}": weight for name, weight in model.state_dict().items()}


def run(*words: object, code: int = 0) -> Result:
    """Run `evaluate` and check its exit code; a fault is one line, and no traceback."""
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    faults = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(faults) == (1 if code else 0), faults
    assert "Traceback" not in done.output and "unexpected" not in done.stderr
    return done


def words(work: Path, out: Path, **changes: object) -> list[object]:
    """The options of an evaluation that works, with some of them changed; None leaves one out."""
    options = {
        "real": work / "real",
        "fake": f"model={work / 'fake'}",
        "encoder": work / "encoder",
        "out": out,
        "threads": 1,
    } | changes
    return [w for k, v in options.items() if v is not None for w in (f"--{k}", v)]


# --- what it gives ------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_writes_the_numbers_and_the_page(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    done = run(*words(work, out, training=work / "training"), "--json")
    result = json.loads(done.stdout)
    assert result == {
        "evaluation": str(out / "evaluation.json"),
        "page": str(out / "report.html"),
    }
    assert sorted(file.name for file in out.iterdir()) == ["evaluation.json", "report.html"]
    found = read_evaluation(out / "evaluation.json")
    assert {name: entry.count for name, entry in found.sets.items()} == {
        "real": COUNT,
        "model": COUNT,
        "training": COUNT,
    }
    model = found.fakes["model"]
    assert model.ms_ssim is not None and model.ms_ssim.how.startswith("2 scales, 9 pairs, ")
    assert model.nearest is not None and not model.nearest.flagged
    assert model.nearest.median.low is not None
    assert any("No W-score" in line for line in found.warnings)


@pytest.mark.slow
def test_classes_lie_beside_each_other_in_the_page(work: Path, tmp_path: Path) -> None:
    for name, seed in {"real": HELD_OUT, "fake": OTHERS}.items():
        save((voxels[:8] for voxels in chests(seed, 3)), tmp_path / name)
    pair = f"top={tmp_path / 'real'},{tmp_path / 'fake'}"
    out = tmp_path / "report"
    run(*words(work, out, **{"class": "chest", "beside": pair}), "--no-wscore")
    entry = read_evaluation(out / "evaluation.json").embedding
    assert entry is not None and {n: len(p.real) for n, p in entry.points.items()} == {
        "chest": COUNT,
        "top": 3,
    }
    assert "hollow markers are real volumes" in (out / "report.html").read_text("utf-8")
    left = tmp_path / "other"
    for bad in ("top", f"top={tmp_path / 'real'}", f"={pair}"):
        run(*words(work, left, **{"class": "chest", "beside": bad}), code=2)
    run(*words(work, left, beside=pair), code=2)


@pytest.mark.slow
def test_people_get_a_table_and_notes_beside_it(work: Path, tmp_path: Path) -> None:
    done = run(*words(work, tmp_path / "report"), "--no-wscore")
    head, floor, model, numbers, page = done.stdout.splitlines()
    assert "FID corrected" in head and "MS-SSIM" in head
    assert floor.startswith("real halves") and model.startswith("model")
    assert numbers.endswith("evaluation.json") and page.endswith("report.html")
    assert "note: Fewer volumes than protocol recommended advises (200)" in done.stderr


@pytest.mark.slow
def test_the_papers_protocol_sees_volumes_as_the_paper_says(
    work: Path, tmp_path: Path, resnet: dict[str, torch.Tensor]
) -> None:
    torch.save({"state_dict": resnet}, tmp_path / "resnet_10.pth")
    out = tmp_path / "report"
    run(*words(work, out, protocol="paper", encoder=tmp_path / "resnet_10.pth"))
    found = read_evaluation(out / "evaluation.json")
    assert "mapped to 0 to 1, on the volume's own grid" in found.encoder.preparation
    assert "Not comparable with the paper" in found.encoder.comparable
    assert any("need 80 or more" in line for line in found.warnings)


# --- what it refuses ----------------------------------------------------------------------------


def one_left(fake: Path) -> None:
    for file in sorted(fake.iterdir())[1:]:
        file.unlink()


def another_size(fake: Path) -> None:
    write_volume(volume(chest(OTHERS, 0)[1:]), fake / "odd.nii")


def another_spacing(fake: Path) -> None:
    write_volume(volume(chest(OTHERS, 0), spacing_mm=10), fake / "odd.nii")


def a_nan(fake: Path) -> None:
    bad = chest(OTHERS, 0).copy()
    bad[3, 4, 5] = np.nan
    nib.save(nib.Nifti1Image(bad.T, volume(bad).affine), fake / "odd.nii")


def another_grid(fake: Path) -> None:
    for number, file in enumerate(sorted(fake.iterdir())):
        write_volume(volume(chest(OTHERS, number)[::2, ::2, ::2]), file)


def damaged(fake: Path) -> None:
    (fake / "odd.nii").write_bytes(b"no picture")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (one_left, "holds 1 volume; to compare"),
        (another_size, "odd.nii has voxels"),
        (another_spacing, "odd.nii has spacing"),
        (a_nan, "NaN"),
        (another_grid, "bring both to one grid"),
        (damaged, "odd.nii"),
    ],
)
@pytest.mark.parametrize("role", ["real", "fake", "training"])
def test_volumes_that_cannot_be_compared_are_refused(
    role: str, damage: Callable[[Path], None], why: str, work: Path, tmp_path: Path
) -> None:
    bad = save(chests(OTHERS, 3), tmp_path / "bad")
    damage(bad)
    given = {role: f"model={bad}" if role == "fake" else bad}
    done = run(*words(work, tmp_path / "report", **given), code=3)
    assert why in done.stderr
    assert not (tmp_path / "report" / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("changes", "code", "why"),
    [
        ({"real": "nowhere"}, 3, "no such file or folder"),
        ({"fake": "nowhere"}, 2, "give NAME=DIR"),
        ({"fake": "real=nowhere"}, 2, "name of another set"),
        ({"encoder": "nowhere"}, 2, "there is no encoder nowhere"),
        ({"protocol": "mine"}, 2, "choose one of paper, recommended"),
        ({"protocol": "paper", "encoder": None}, 2, "needs MedicalNet's 3D ResNet-50"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    changes: dict[str, object], code: int, why: str, work: Path, tmp_path: Path
) -> None:
    assert why in run(*words(work, tmp_path / "report", **changes), code=code).stderr
    assert not (tmp_path / "report").exists()


def test_two_real_volumes_are_refused_before_anything_is_seen(work: Path, tmp_path: Path) -> None:
    few = save(chests(HELD_OUT, 2), tmp_path / "few")
    done = run(*words(work, tmp_path / "report", real=few), code=3)
    assert "few holds 2 real volumes; 3 or more are needed" in done.stderr


def test_two_sets_of_one_name_are_refused(work: Path, tmp_path: Path) -> None:
    again = ["--fake", f"model={work / 'training'}"]
    assert "given twice" in run(*words(work, tmp_path / "report"), *again, code=2).stderr


def test_a_wscore_that_cannot_be_had_is_refused_where_it_is_asked_for(
    work: Path, tmp_path: Path
) -> None:
    done = run(*words(work, tmp_path / "report"), "--wscore", code=2)
    assert "need 16 or more" in done.stderr


def test_an_encoder_with_a_missing_weight_is_refused(
    work: Path, tmp_path: Path, resnet: dict[str, torch.Tensor]
) -> None:
    del resnet["module.layer4.0.bn1.weight"]
    torch.save({"state_dict": resnet}, tmp_path / "resnet_10.pth")
    changes = {"encoder": tmp_path / "resnet_10.pth"}
    done = run(*words(work, tmp_path / "report", **changes), code=5)
    assert "layer4.0.bn1.weight is missing" in done.stderr


def test_a_report_is_never_written_over(work: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert "is not empty" in run(*words(work, tmp_path), code=6).stderr


# --- what a weak model makes --------------------------------------------------------------------


def made_by_a_model(folder: Path, voxels: list[np.ndarray], **more: object) -> Path:
    """Files as `prdit-core generate` leaves them, each with its record."""
    for number, hu in enumerate(voxels):
        metadata = {"notice": SYNTHETIC, "checkpoint_sha256": "ab" * 32}
        made = replace(volume(hu.astype(np.int16)), metadata=metadata)
        file = write_volume(made, folder / f"seed-{number}.nii.gz")
        write_json(record_beside(file), volume_record(made, file, file) | more)
    return folder


def record_beside(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(".nii.gz") + ".json")


def noise(count: int = COUNT) -> list[np.ndarray]:
    """What an untrained model may make: no air, no tissue, nothing like a body."""
    return [np.random.default_rng(i).uniform(250, 400, SHAPE) for i in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "voxels", [noise(), [np.full(SHAPE, -1000.0)] * COUNT], ids=["noise", "one value"]
)
def test_bad_volumes_of_a_model_get_bad_scores_and_a_report(
    work: Path, tmp_path: Path, voxels: list[np.ndarray]
) -> None:
    bad = made_by_a_model(tmp_path / "bad", voxels)
    fakes = (f"good={work / 'fake'}", "--fake", f"bad={bad}")
    options = words(work, tmp_path / "out", fake=fakes[0], training=work / "training")
    run(*options, *fakes[1:])
    found = read_evaluation(tmp_path / "out" / "evaluation.json")
    assert found.fakes["bad"].fid.value > 2 * found.fakes["good"].fid.value
    assert found.fakes["bad"].mmd.value > found.fakes["good"].mmd.value
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r">\s*bad\s*<", page)
    assert not re.search(r"[>\s(]nan[<\s,)%]", page, re.IGNORECASE)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"units": "model"}, "is in model; evaluations are of CT in HU"),
        ({"sha256": "0" * 64}, "not CT"),
        ({"volume": "other.nii.gz"}, "not CT"),
    ],
    ids=["other units", "another file's", "another name"],
)
def test_a_record_of_something_else_is_not_believed(
    work: Path, tmp_path: Path, more: dict[str, object], why: str
) -> None:
    bad = made_by_a_model(tmp_path / "bad", noise(2), **more)
    done = run(*words(work, tmp_path / "out", fake=f"m={bad}"), code=3)
    assert why in done.stderr


def test_records_name_the_units_and_those_of_older_versions_are_believed(tmp_path: Path) -> None:
    (hu,) = noise(1)
    file = made_by_a_model(tmp_path, [hu]) / "seed-0.nii.gz"
    content = json.loads(record_beside(file).read_text())
    assert content.pop("units") == "HU"
    write_json(record_beside(file), content)
    assert read_volume(file).voxels_hu.min() >= 250
    content.pop("checkpoint_sha256")
    write_json(record_beside(file), content)
    with pytest.raises(InputRejected, match="not CT"):
        read_volume(file)
