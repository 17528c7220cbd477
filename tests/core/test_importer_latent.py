"""Both files of a 3D MedDiffusion release become one checkpoint that predicts what they did."""

from __future__ import annotations

import argparse
import ast
import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import recorded_latent
import torch
from recorded import load, tensor
from test_command import run

import prdit_core
from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.releases.latent.importer import import_latent
from prdit_core.checkpoints.releases.latent.known import Unseen, released_classes
from prdit_core.checkpoints.releases.latent.names import AUTOENCODER, BIFLOWNET, renamed
from prdit_core.errors import CheckpointError, UsageError
from prdit_core.models.families import expected_shapes
from prdit_core.models.latent.config import AutoencoderConfig, BiFlowConfig
from prdit_core.models.latent.intra import position_table
from prdit_core.schedule import VPCosineSchedule

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor


def pretended(name: str, monkeypatch: pytest.MonkeyPatch) -> type:
    """A class as a package that is not here would pickle it."""
    package, _, own = name.rpartition(".")
    kind = type(own, (), {"__module__": package})
    module = ModuleType(package)
    setattr(module, own, kind)
    monkeypatch.setitem(sys.modules, package, module)
    return kind


def settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As Lightning keeps constructor values: an OmegaConf object within objects."""
    config = pretended("omegaconf.dictconfig.DictConfig", monkeypatch)()
    config.__dict__ = {
        "_content": {"n_hiddens": pretended("omegaconf.nodes.AnyNode", monkeypatch)()},
        "ref_type": Any,
        "element": int,
    }
    return config


@pytest.fixture
def files(parity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The release's file layout with the recorded weights, and what the recordings say."""
    biflow, codec = load(parity / "med_biflow_T_p2.npz"), load(parity / "med_ae_4x.npz")
    state = recorded_latent.official_state(biflow, position_table(2, 24))
    other = {name: torch.zeros_like(weight) for name, weight in state.items()}
    content = {
        "model": other,
        "ema": state,
        "scaler": {"scale": 65536.0},
        "opt": {},
        "args": argparse.Namespace(batch_size=16),
        "epoch": 3,
    }
    torch.save(content, tmp_path / "BIFLOW.pt")
    monkeypatch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
    lightning = {
        "epoch": 1,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {
            **recorded_latent.official_state(codec),
            "perceptual_loss.perceptual_model.net.slice1.0.weight": torch.zeros(2),
        },
        "hyper_parameters": {"cfg": settings(monkeypatch)},
    }
    torch.save(lightning, tmp_path / "AE.ckpt")
    theirs, ae = (ast.literal_eval(str(numbers["config"])) for numbers in (biflow, codec))
    unseen = Unseen(
        groups=theirs["resnet_groups"],
        intra_heads=theirs["DiT_num_heads"],
        codec_groups=ae["num_groups"],
        codec_patch=ae["patch_size"],
    )
    return {"biflow": biflow, "codec": codec, "unseen": unseen}


def turned(x: Tensor | NDArray[Any]) -> Any:
    """(Z, X, Y) as (z, y, x)."""
    return x.transpose(3, 4) if isinstance(x, torch.Tensor) else np.swapaxes(x, 3, 4)


def imported(files: dict[str, Any], folder: Path, **more: Any) -> Path:
    pair = (folder / "BIFLOW.pt", folder / "AE.ckpt")
    return import_latent(*pair, folder / "out", unseen=files["unseen"], **more)


@pytest.mark.slow
@torch.no_grad()
def test_it_predicts_the_recorded_numbers_with_our_axes(
    files: dict[str, Any], tmp_path: Path
) -> None:
    prior = prdit_core.load(imported(files, tmp_path))
    numbers, module = files["biflow"], prior.network.module
    x, t, label, resolution = (tensor(numbers[name]) for name in ("x", "t", "y", "res"))
    found = module(turned(x), t, label.long(), resolution[:, [0, 2, 1]])
    np.testing.assert_allclose(found.numpy(), turned(numbers["out"]), rtol=0, atol=2e-5)
    naive = recorded_latent.biflownet(numbers)(turned(x), t, label.long(), resolution[:, [0, 2, 1]])
    assert np.abs(naive.numpy() - turned(numbers["out"])).max() > 0.1  # weights as they are
    codec, numbers = prior.codec.of(None), files["codec"]
    z = codec.encode(turned(tensor(numbers["vol/x"])))
    np.testing.assert_allclose(z.numpy(), turned(numbers["vol/scaled"]), rtol=0, atol=1e-4)
    image = codec.decode(turned(tensor(numbers["gen/latent"])))
    np.testing.assert_allclose(image.numpy(), turned(numbers["gen/image"]), rtol=0, atol=5e-5)


@pytest.mark.slow
def test_classes_grids_and_units_are_the_releases(files: dict[str, Any], tmp_path: Path) -> None:
    path = imported(files, tmp_path)
    prior = prdit_core.load(path)
    assert prior.label == "ct-head-neck" and prior.geometry.shape == (256, 256, 256)
    assert not prior.geometry.exact and not prior.intensity.exact
    chest = prior.of_class("ct-chest-abdomen")
    assert chest.geometry.shape == (512, 512, 512) and chest.geometry.spacing_mm == (1, 0.7, 0.7)
    assert prior.of_class("mr-knee").geometry.shape == (64, 320, 320)
    assert prior.of_class("mr-brain-t1").intensity.units == "a.u."
    assert prior.record["imported"]["weights"] == "ema"
    content = json.loads(run("info", path, "--json").stdout)
    assert content["hu"] == "-1000 to 1000, approximate"


@pytest.mark.slow
def test_a_stated_window_is_believed(files: dict[str, Any], tmp_path: Path) -> None:
    prior = prdit_core.load(imported(files, tmp_path, window=(-1024.0, 2000.0)))
    assert prior.intensity.exact and prior.intensity.window_hu == (-1024, 2000)
    assert not prior.of_class("mr-knee").intensity.exact


@pytest.mark.slow
def test_codes_have_a_rough_preview(files: dict[str, Any], tmp_path: Path) -> None:
    """Even blocks of a code look about as bright as what they decode to."""
    codec = prdit_core.load(imported(files, tmp_path)).codec.of(None)
    codes = codec.scaled(codec.module.quantiser.embeddings.T[None, :, :, None, None])[0, :, :, 0, 0]
    blocks = [codes[:, n, None, None, None].expand(1, -1, 4, 4, 4) for n in range(0, 63, 3)]
    shown = np.array([float(codec.preview(block).mean()) for block in blocks])
    meant = np.array([float(codec.decode(block).mean()) for block in blocks])
    assert np.corrcoef(shown, meant)[0, 1] > 0.5


@pytest.mark.parametrize("kind", ["ae_4x", "ae_8x", "biflow_4x", "biflow_8x"])
def test_names_and_shapes_are_those_of_the_published_layout(kind: str, parity: Path) -> None:
    layout = load(parity / "med_layout.npz")
    ratio = 4 if "4x" in kind else 8
    config: AutoencoderConfig | BiFlowConfig
    if kind.startswith("ae"):
        config, rules = AutoencoderConfig(ratio=ratio), AUTOENCODER
        own = ("quantiser.initialised", "low", "high", "picture", "picture_bias")
    else:
        classes = released_classes(None)
        config = BiFlowConfig(classes=classes, null=False, patch=2 if ratio == 4 else 1)
        rules, own = BIFLOWNET, ()
    theirs = {}
    for name, shape in zip(layout[f"{kind}/keys"], layout[f"{kind}/shapes"], strict=True):
        if not str(name).startswith(("volume_discriminator.", "perceptual_loss.")):
            shape = ast.literal_eval(str(shape))
            gain = str(name).endswith("gamma")
            theirs[renamed(str(name), rules)] = (int(np.prod(shape)),) if gain else shape
    ours = expected_shapes(config)
    assert {name: shape for name, shape in ours.items() if name not in own} == theirs
    if isinstance(config, BiFlowConfig):
        first = config.classes[0]
        Header(  # every grid of every class can be made
            model=config,
            codec=AutoencoderConfig(ratio=ratio),
            schedule=VPCosineSchedule(),
            intensity=first.intensity,
            geometry=first.geometries[-1],
        )


@pytest.mark.slow
def test_what_does_not_fit_is_refused_in_one_line(files: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"ema": {"some.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    both = (tmp_path / "BIFLOW.pt", tmp_path / "AE.ckpt")
    out = tmp_path / "out"
    for source, codec, line in (
        (tmp_path / "other.pt", both[1], "is no BiFlowNet of the release"),
        (both[1], both[1], "has no 'ema' weights; it has epoch"),
        (both[0], both[0], "has no 'state_dict' weights; it has model, ema"),
    ):
        with pytest.raises(CheckpointError, match=line):
            import_latent(source, codec, out, unseen=files["unseen"])
    with pytest.raises(CheckpointError, match=r"AE.ckpt is not valid: : Value error, widths"):
        import_latent(*both, out)  # groups of the published networks
    few = torch.load(both[0], weights_only=False)
    few["ema"]["cond_emb.weight"] = few["ema"]["cond_emb.weight"][:3]
    torch.save(few, tmp_path / "few.pt")
    with pytest.raises(UsageError, match="has 3 classes, the release 7"):
        import_latent(tmp_path / "few.pt", both[1], out, unseen=files["unseen"])
    assert not out.exists()


class Bad:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit",))


def test_code_in_a_file_is_not_run(files: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": Bad()}, tmp_path / "AE.ckpt")
    with pytest.raises(CheckpointError, match="holds code"):
        imported(files, tmp_path)


def test_the_command_asks_for_the_codec_and_refuses_options_of_other_releases(
    files: dict[str, Any], tmp_path: Path
) -> None:
    words = ("import", tmp_path / "BIFLOW.pt", "--out", tmp_path / "out")
    release = ("--release", "3d-meddiffusion")
    assert "give --codec" in run(*words, *release, code=2).stderr
    pair = (*release, "--codec", tmp_path / "AE.ckpt")
    line = run(*words, *pair, "--norm", "rms", code=2).stderr
    assert "--norm is for prdit, not for 3d-meddiffusion" in line
    assert "--codec is for 3d-meddiffusion" in run(*words, *pair[2:], code=2).stderr
    run(*words, *pair, "--window", "-1024", "2000", code=5)  # groups of the published networks
    entries = {one["name"]: one for one in json.loads(run("info", "--json").stdout)["catalogue"]}
    assert "none is stated" in entries["3d-meddiffusion"]["licence"]
    assert "--release 3d-meddiffusion" in entries["3d-meddiffusion"]["where"]
