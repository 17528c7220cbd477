"""A model in latents as a prior: classes, grids, units, guidance."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import nibabel as nib
import pytest
import torch
from latents import AUTOENCODER, BIFLOW, CLASSES, FLAT, HEAD, MR, tiny_latent
from test_command import run
from toys import TINY_CHAIN, tiny_checkpoint

import prdit_core
from prdit_core.checkpoints.header import Header
from prdit_core.config import SamplingConfig
from prdit_core.errors import UsageError
from prdit_core.geometry import Geometry, cubic, shape_of
from prdit_core.intensity import Intensity
from prdit_core.noise import Draw, unit_noise
from prdit_core.schedule import VPCosineSchedule
from prdit_core.verbs.bench import bench_steps

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.models.prior import Prior

FEW = SamplingConfig(steps=3, sampler="ddim")


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Prior:
    return prdit_core.load(tiny_latent(tmp_path_factory.mktemp("latent") / "tiny"))


def test_a_prior_is_of_its_first_class_unless_another_is_chosen(prior: Prior) -> None:
    assert prior.classes == ("chest", "head", "head-t1") and prior.label == "chest"
    assert prior.sizes == (16, 32) and prior.geometry == cubic(32, 320.0)
    head = prior.of_class("head")
    assert (head.label, head.intensity, head.geometry) == ("head", HEAD, cubic(32, 256.0))
    assert head.grids == CLASSES[1].geometries and head.sizes == (16, 32)
    flat = head.at_shape((16, 32, 16))
    assert flat.geometry == FLAT and flat.shape == (1, 4, 4, 8, 4)
    assert head.at_size(16).geometry == FLAT  # no cube has this edge
    assert head.at_size(32).geometry == cubic(32, 256.0)
    assert prior.of_class(None) is prior and prior.at_shape(None) is prior


def test_a_volume_has_the_grid_and_the_units_of_its_class(prior: Prior) -> None:
    flat = prior.of_class("head").at_shape((16, 32, 16))
    volume = prdit_core.generate(flat, FEW, seed=1)
    assert volume.shape == (16, 32, 16) and volume.spacing_mm == (4, 2, 2)
    assert volume.units == "HU" and "units" not in volume.metadata
    assert volume.metadata["class"] == "head" and volume.metadata["window_hu"] == [-1000, 2000]
    image = prdit_core.generate(prior.of_class("head-t1"), FEW, seed=1)
    assert image.units == "a.u." and image.voxels_hu.min() >= 0
    assert image.metadata["intensity"] == "exact" and "hu" not in image.metadata
    with pytest.raises(UsageError, match=r"class head-t1 of tiny is of units a\.u\., not HU"):
        prior.of_class("head-t1").check_hu()


def test_the_class_and_the_grid_change_what_is_predicted(prior: Prior) -> None:
    x = unit_noise(prior.at_size(16).shape, Draw.START, 0, 0)
    chest, head = prior.at_size(16), prior.of_class("head")
    assert not torch.equal(chest.denoise(x, 500.0).eps, head.denoise(x, 500.0).eps)
    assert torch.equal(chest.denoise(x, 500.0).eps, prior.denoise(x, 500.0).eps)


def test_the_clean_latents_are_clamped_and_the_noise_is_not(prior: Prior) -> None:
    """Spec 5, defect 10: a naive x0 runs to thousands where alpha is small."""
    x, schedule = unit_noise(prior.shape, Draw.START, 0, 0), VPCosineSchedule()
    found = prior.denoise(x, 990.0)
    naive = (x - schedule.sigma(990.0) * found.eps) / schedule.alpha(990.0)
    assert naive.abs().max() > 10
    assert torch.equal(found.x0, naive.clamp(-1, 1))


def test_guidance_goes_on_from_no_class_through_the_class(prior: Prior) -> None:
    x = unit_noise(prior.shape, Draw.START, 0, 0)

    def eps(guidance: float) -> torch.Tensor:
        return prior.denoiser(SamplingConfig(guidance=guidance))(x, 500.0).eps

    none, own = eps(0.0), eps(1.0)
    assert (own - none).abs().max() > 1e-3
    torch.testing.assert_close(eps(3.0), none + 3 * (own - none))
    assert torch.equal(eps(1.0), prior.denoise(x, 500.0).eps)
    assert "guidance" not in SamplingConfig().model_dump()
    assert SamplingConfig(guidance=2).model_dump()["guidance"] == 2


def test_what_a_model_has_not_is_refused_in_one_line(prior: Prior, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny knows the classes chest, head, head-t1, not 'leg'"):
        prior.of_class("leg")
    with pytest.raises(UsageError, match="class chest of tiny makes volumes of 16 x 16 x 16, 32 x"):
        prior.at_shape((16, 32, 16))
    with pytest.raises(UsageError, match="class chest of tiny makes volumes of edge 16, 32, not 8"):
        prior.at_size(8)
    for wish in ({"refresh_every": 2}, {"renoise": 2}):
        with pytest.raises(UsageError, match=r"--re"):
            prior.denoiser(SamplingConfig(**wish))
    sure = tiny_latent(tmp_path / "sure", BIFLOW.model_copy(update={"null": False}))
    with pytest.raises(UsageError, match="--guidance 2 needs a model that also learnt"):
        prdit_core.load(sure).denoiser(SamplingConfig(guidance=2))
    demo = prdit_core.load("demo")
    with pytest.raises(UsageError, match="demo has no classes, not 'chest'"):
        demo.of_class("chest")
    with pytest.raises(UsageError, match="--guidance is for models of several classes"):
        demo.denoiser(SamplingConfig(guidance=2))
    with pytest.raises(UsageError, match="demo makes volumes of 32 x 32 x 32, 64 x 64 x 64, 128"):
        demo.at_shape((64, 64, 32))
    assert demo.at_shape((64, 64, 64)).geometry == demo.at_size(64).geometry


def test_a_header_begins_with_its_first_class_and_every_grid_fits(prior: Prior) -> None:
    whole = {
        "model": BIFLOW,
        "codec": AUTOENCODER,
        "schedule": VPCosineSchedule(),
        "intensity": CLASSES[0].intensity,
        "geometry": cubic(16, 320.0),
    }
    header = Header(**whole)
    assert Header.model_validate(header.model_dump(mode="json")) == header
    with pytest.raises(ValueError, match="not those of the first class, chest"):
        Header(**whole | {"geometry": cubic(64, 320.0)})
    with pytest.raises(ValueError, match="not those of the first class, chest"):
        Header(**whole | {"intensity": MR})
    deep = BIFLOW.model_copy(update={"sub_volume": 8})
    with pytest.raises(ValueError, match="must be multiples of 8"):
        Header(**whole | {"model": deep})


@pytest.mark.slow
def test_a_grid_of_no_whole_patches_is_padded_cropped_and_recorded(tmp_path: Path) -> None:
    odd = Geometry(shape=(12, 20, 16), spacing_mm=(5.0, 4.0, 4.0), field_of_view_mm=80.0)
    classes = (CLASSES[0].model_copy(update={"geometries": (odd, cubic(32, 320.0))}),)
    tiny = tiny_latent(tmp_path / "odd", BIFLOW.model_copy(update={"classes": classes}))
    prior = prdit_core.load(tiny).at_shape((12, 20, 16))
    assert prior.shape == (1, 4, 4, 8, 4)
    volume = prdit_core.generate(prior, FEW)
    assert volume.shape == (12, 20, 16) and volume.metadata["padded_to"] == [16, 32, 16]
    assert "padded_to" not in prdit_core.generate(prdit_core.load(tiny), FEW).metadata
    state = prior.encode(volume.voxels_hu)
    assert state.shape == prior.shape and prior.preview_hu(state).shape == (12, 20, 16)


def test_units_are_said_only_where_they_are_not_hu() -> None:
    assert "units" not in Intensity().model_dump()
    assert Intensity.model_validate(MR.model_dump()) == MR


def test_what_is_wrong_with_classes_is_said() -> None:
    content = BIFLOW.model_dump()
    with pytest.raises(ValueError, match="two classes have one name"):
        type(BIFLOW).model_validate(content | {"classes": (CLASSES[0], CLASSES[0])})
    turned = CLASSES[0].model_dump() | {"geometries": CLASSES[0].geometries[::-1]}
    with pytest.raises(ValueError, match="not in order"):
        type(BIFLOW).model_validate(content | {"classes": (turned,)})


@pytest.mark.slow
def test_it_is_measured_and_its_memory_told(prior: Prior) -> None:
    speeds = list(bench_steps(prior, 1e9))
    assert [speed.size for speed in speeds] == [16, 32]
    assert speeds[1].gflop > 4 * speeds[0].gflop > 0
    assert prior.memory > prior.at_size(16).memory > 4 * 1000


# ------------------------------------------------------------------------- by the command


@pytest.mark.slow
def test_a_class_and_a_grid_are_chosen_by_the_command(tmp_path: Path) -> None:
    tiny = tiny_latent(tmp_path / "tiny")
    few = ("--steps", 2, "--threads", 1, "--checkpoint", tiny)
    head = ("--class", "head", "--shape", "16,32,16", "--guidance", 2)
    run("generate", *few, *head, "--out", tmp_path / "head.nii.gz")
    record = json.loads((tmp_path / "head.json").read_text())
    assert record["class"] == "head" and record["guidance"] == 2
    assert record["shape"] == [16, 32, 16] and record["units"] == "HU"
    again = run("generate", *few, *head, "--out", tmp_path / "head.nii.gz", "--json")
    assert json.loads(again.stdout)["reused"] == 1
    line = run("generate", *few, "--size", 16, "--out", tmp_path / "head.nii.gz", code=6).stderr
    assert "class head instead of chest" in line
    run("generate", *few, "--class", "head-t1", "--size", 16, "--out", tmp_path / "mr.nii.gz")
    image, record = nib.load(tmp_path / "mr.nii.gz"), json.loads((tmp_path / "mr.json").read_text())
    assert record["units"] == "a.u." and "units a.u." in record["description"]
    assert b"units a.u." in image.header["descrip"].item()
    assert 0 <= image.get_fdata().min() and image.get_fdata().max() <= 1000


def test_the_command_says_which_classes_and_grids_there_are(tmp_path: Path) -> None:
    tiny = tiny_latent(tmp_path / "tiny")
    content = json.loads(run("info", tiny, "--json").stdout)
    assert content["volume"] == "32 x 32 x 32 voxels of 10 x 10 x 10 mm"
    assert content["sizes"] == [16, 32] and content["hu"] == "-1000 to 400, exact"
    assert content["class head-t1"] == {
        "volumes": ["16 x 16 x 16 voxels of 16 x 16 x 16 mm"],
        "units": "0 to 1000 a.u., exact",
    }
    assert content["codec"]["family"] == "patch-volume" and content["parameters"] > 1000
    words = run("info", tiny).stdout
    assert "class head " in words and "16 x 32 x 16 voxels of 4 x 2 x 2 mm; 32 x 32 x 32" in words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--class", "leg"), "tiny knows the classes chest, head, head-t1, not 'leg'"),
        (("--shape", "8,8,8"), "class chest of tiny makes volumes of 16 x 16 x 16, 32 x 32 x 32"),
        (("--shape", "8,8"), "shape '8,8' is not D,H,W"),
        (("--size", 16, "--shape", "16,16,16"), "give --size or --shape, not both"),
        (("--renoise", 2), "--renoise is for patch priors"),
        (("--refresh-every", 2), "leave --refresh-* out"),
    ],
)
def test_what_a_model_has_not_is_refused_by_the_command(
    words: tuple[object, ...], line: str, tmp_path: Path
) -> None:
    tiny = tiny_latent(tmp_path / "tiny")
    found = run("generate", "--checkpoint", tiny, *words, "--out", tmp_path / "v.nii.gz", code=2)
    assert line in " ".join(found.stderr.split())
    assert not (tmp_path / "v.nii.gz").exists()


def test_other_families_know_shapes_and_no_classes(tmp_path: Path) -> None:
    chain = tiny_checkpoint(tmp_path / "chain", size=16, model=TINY_CHAIN)
    few = ("generate", "--checkpoint", chain, "--steps", 2, "--threads", 1)
    run(*few, "--shape", "8,8,8", "--out", tmp_path / "v.nii.gz")
    by_size = run(*few, "--size", 8, "--out", tmp_path / "v.nii.gz", "--json")
    assert json.loads(by_size.stdout)["reused"] == 1
    assert "class" not in json.loads((tmp_path / "v.json").read_text())
    for words in (("--class", "chest"), ("--guidance", 2), ("--shape", "8,8,16")):
        run(*few, *words, "--out", tmp_path / "w.nii.gz", code=2)


@pytest.mark.slow
def test_flags_and_lists_are_what_was_typed(tmp_path: Path) -> None:
    """Defect 8: argparse takes "False" of a `type=bool` for true, and `type=list` for letters."""
    naive = argparse.ArgumentParser()
    naive.add_argument("--overwrite", type=bool)
    naive.add_argument("--shape", type=list)
    parsed = naive.parse_args(["--overwrite", "False", "--shape", "16,32,16"])
    assert parsed.overwrite is True and parsed.shape == list("16,32,16")
    assert shape_of("16,32,16") == (16, 32, 16)
    words = ("generate", "--checkpoint", tiny_latent(tmp_path / "tiny"), "--steps", 1)
    words = (*words, "--class", "head", "--shape", "16,32,16", "--out", tmp_path / "head.nii.gz")
    run(*words)
    first = (tmp_path / "head.nii.gz").read_bytes()
    assert nib.load(tmp_path / "head.nii.gz").shape == (16, 32, 16)  # (x, y, z)
    run(*words, "--seed", 1, "--overwrite", "False", code=2)  # a flag takes no word
    run(*words, "--seed", 1, "--shape", "1", code=2)
    assert (tmp_path / "head.nii.gz").read_bytes() == first
