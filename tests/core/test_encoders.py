"""Encoders: MedicalNet's as published and verified, ours as trained, volumes as both see them."""

from __future__ import annotations

import ast
import pickle
import sys
import types
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import recorded
import torch
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.phantoms import make_phantom
from prdit_core.errors import CheckpointError, InputRejected, OutputError, UsageError
from prdit_core.files import sha256_of
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.metrics.encoder_files import EncoderHeader, read_encoder, save_encoder
from prdit_core.metrics.encoders import BUNDLED, load_encoder
from prdit_core.metrics.frechet import frechet_distance
from prdit_core.models import resnet3d
from prdit_core.models.initial import draw_weights
from prdit_core.models.phantom_encoder import PhantomEncoder
from prdit_core.models.resnet3d import ResNet3D, design_of, shapes_of
from prdit_core.noise import Draw
from prdit_core.training import encoder as lessons
from prdit_core.training.encoder import smooth
from prdit_core.verbs.train_encoder import train_encoder
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

State = dict[str, "Tensor"]
BUNDLED_BYTES = 2 * 2**20


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNets a hundredth as heavy."""
    layers = tuple((4, stride, dilation) for _, stride, dilation in resnet3d.LAYERS)
    monkeypatch.setattr(resnet3d, "LAYERS", layers)


def medicalnet(depth: int = 10, shortcut: resnet3d.Shortcut = "B") -> ResNet3D:
    model = ResNet3D(depth, shortcut)
    draw_weights(model, Draw.ENCODER_WEIGHTS, 1)
    return model.eval()


def saved(file: Path, content: Any) -> str:
    torch.save(content, file)
    return str(file)


def volume(edge: int = 16, spacing_mm: float = 20.0, seed: int = 0) -> Volume:
    hu = np.random.default_rng(seed).integers(-1000, 400, (edge,) * 3).astype(np.int16)
    return Volume(hu, axial_affine((spacing_mm,) * 3, (edge,) * 3))


def recipe(name: str, shape: tuple[int, ...]) -> Tensor:
    """One weight of the recorded ResNet-50 (README of the parity folder)."""
    key = (7 * 1000003 + zlib.crc32(name.encode())) % 2**32
    z = np.random.RandomState(key).standard_normal(shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        value = 1 + 0.1 * abs(z)
    elif len(shape) == 5:
        value = np.sqrt(2 / np.prod(shape[1:])) * z
    elif name.endswith("weight"):
        value = 0.5 + 0.05 * z
    else:
        value = 0.05 * z
    return torch.from_numpy(np.asarray(value, np.float32))


@pytest.mark.slow
def test_resnet_50_reproduces_the_release(parity: Path, tmp_path: Path) -> None:
    numbers = recorded.load(parity / "eval_resnet50.npz")
    shapes = {
        str(name): ast.literal_eval(str(shape))
        for name, shape in zip(numbers["keys"], numbers["shapes"], strict=True)
    }
    state = {f"module.{name}": recipe(name, shape) for name, shape in shapes.items()}
    file = saved(tmp_path / "resnet_50.pth", {"state_dict": state})
    encoder = load_encoder(file, intensity=Intensity(window_hu=(-10, 10), model_range=(-10, 10)))
    assert encoder.feature_count == 2048 and "only if" in encoder.comparable
    hu = Volume(numbers["x"][0, 0], axial_affine((1.0,) * 3, (32,) * 3))
    (features,) = encoder.features([hu])
    np.testing.assert_allclose(features, numbers["feat"][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("depth", [10, 18, 34, 50])
def test_names_say_depth_and_shortcut(depth: int, shortcut: resnet3d.Shortcut) -> None:
    assert design_of(shapes_of(depth, shortcut)) == (depth, shortcut)


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "in a dictionary": lambda state: {"state_dict": state, "epoch": 3},
    "of several GPUs": lambda state: {"state_dict": {f"module.{n}": t for n, t in state.items()}},
    "with its head": lambda state: state | {"conv_seg.0.weight": torch.zeros(3)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_are_one_network(narrow: None, tmp_path: Path, layout: str) -> None:
    model = medicalnet(18, "A")
    content = LAYOUTS[layout](model.state_dict())
    encoder = load_encoder(saved(tmp_path / "resnet_18.pth", content))
    (found,) = encoder.features([volume()])
    x = torch.from_numpy(Intensity().to_model(volume().voxels_hu))[None, None]
    with torch.no_grad():
        np.testing.assert_array_equal(found, model(x)[0].double().numpy())
    assert found.shape == (encoder.feature_count,)
    assert "Not comparable with the paper" in encoder.comparable


DAMAGE: dict[str, Callable[[State], Any]] = {
    "missing": lambda state: {n: t for n, t in state.items() if n != "layer3.0.bn2.bias"},
    "running_mean is missing": lambda state: {
        n: t for n, t in state.items() if n != "bn1.running_mean"
    },
    "expected nothing": lambda state: state | {"fc.weight": torch.zeros(2)},
    "is \\(64,\\)": lambda state: state | {"conv1.weight": torch.zeros(64)},
    "NaN": lambda state: state | {"bn1.bias": torch.full((64,), torch.nan)},
    "no MedicalNet ResNet": lambda state: {"weight": torch.zeros(2)},
    "no plain dictionary": lambda state: state | {"conv1.weight": 3},
    "no weights": lambda state: {"state_dict": 1},
}


@pytest.mark.parametrize("why", DAMAGE)
def test_what_does_not_fit_is_refused(narrow: None, tmp_path: Path, why: str) -> None:
    """The release's loader would go on with random weights."""
    file = saved(tmp_path / "resnet_10.pth", DAMAGE[why](medicalnet().state_dict()))
    with pytest.raises(CheckpointError, match=why) as refusal:
        load_encoder(file)
    assert "resnet_10.pth" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Mischief:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Mischief()))
    with pytest.raises(CheckpointError):
        load_encoder(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("stated", "why"),
    [({"depth": 34}, "is a ResNet-10"), ({"shortcut": "A"}, "type B"), ({"depth": 101}, "none of")],
)
def test_a_statement_the_file_contradicts_is_refused(
    narrow: None, tmp_path: Path, stated: dict[str, Any], why: str
) -> None:
    file = saved(tmp_path / "resnet_10.pth", medicalnet().state_dict())
    with pytest.raises(UsageError, match=why):
        load_encoder(file, **stated)
    assert load_encoder(file, depth=10, shortcut="B").feature_count == 4


@pytest.mark.parametrize("name", ["nothing-there", "", "hub:", "hub:owner/repository"])
def test_an_encoder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="give"):
        load_encoder(name)


def hub(monkeypatch: pytest.MonkeyPatch, download: Callable[[str, str], str]) -> None:
    module = types.ModuleType("huggingface_hub")
    module.hf_hub_download = download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_a_file_of_the_hub_is_verified_like_any_other(
    narrow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path / "resnet_10.pth", medicalnet().state_dict())
    requests: list[tuple[str, str]] = []
    hub(monkeypatch, lambda repository, name: requests.append((repository, name)) or file)
    encoder = load_encoder("hub:owner/repository/folder/resnet_10.pth")
    assert requests == [("owner/repository", "folder/resnet_10.pth")]
    assert encoder.digest == sha256_of(Path(file))


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(_: str, __: str) -> str:
        raise ConnectionError("Name or service\nnot known")

    hub(monkeypatch, offline)
    with pytest.raises(UsageError, match="cannot fetch hub:a/b/c: Name or service not known"):
        load_encoder("hub:a/b/c")


def test_without_the_extra_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="pip install huggingface_hub;"):
        load_encoder("hub:a/b/c")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A tiny encoder of ours, on a grid of 32^3."""
    model = PhantomEncoder(2, 5)
    draw_weights(model, Draw.ENCODER_WEIGHTS, 0)
    header = EncoderHeader(width=2, features=5, geometry=cubic(32, 320.0))
    return save_encoder(tmp_path / "own", header, model)


def test_ours_comes_back_as_it_was_saved(own: Path) -> None:
    header, model = read_encoder(own)
    again = save_encoder(own.with_name("again"), header, model)
    assert {f.name: f.read_bytes() for f in own.iterdir()} == {
        f.name: f.read_bytes() for f in again.iterdir()
    }


def flipped(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("weights.safetensors", flipped, "SHA-256"),
        ("weights.safetensors", lambda content: content[:-4], "bytes declared"),
        ("encoder.json", lambda content: content.replace(b'"features": 5', b'"features": 6'), "is"),
        ("encoder.json", lambda content: content.replace(b'"version": 1', b'"version": 2'), "vers"),
        ("encoder.json", lambda content: b"{", "damaged"),
        ("encoder.json", lambda content: content + b" " * 2**21, "larger"),
    ],
)
def test_ours_is_refused_once_it_is_damaged(
    own: Path, name: str, change: Callable[[bytes], bytes], why: str
) -> None:
    file = own / name
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(CheckpointError, match=why):
        load_encoder(str(own))


def test_ours_takes_no_depth(own: Path) -> None:
    with pytest.raises(UsageError, match="MedicalNet"):
        load_encoder(str(own), depth=50)


def test_volumes_on_the_encoders_grid_are_not_touched(own: Path) -> None:
    there = volume(32, 10.0)
    seen = load_encoder(str(own)).prepare(there)
    np.testing.assert_array_equal(seen, Intensity().to_model(there.voxels_hu))


def test_finer_volumes_are_averaged(own: Path) -> None:
    fine = volume(64, 5.0)
    blocks = Intensity().to_model(fine.voxels_hu).reshape(32, 2, 32, 2, 32, 2)
    seen = load_encoder(str(own)).prepare(fine)
    np.testing.assert_allclose(seen, blocks.mean(axis=(1, 3, 5)), atol=1e-5)


def test_a_smaller_field_of_view_is_surrounded_by_air(own: Path) -> None:
    small = volume(24, 10.0)
    seen = load_encoder(str(own)).prepare(small)
    np.testing.assert_allclose(
        seen[4:28, 4:28, 4:28], Intensity().to_model(small.voxels_hu), atol=1e-5
    )
    seen[4:28, 4:28, 4:28] = -1
    assert np.all(seen == -1)


def test_coarser_volumes_are_interpolated_to_the_same_places(own: Path) -> None:
    """A ramp stays a ramp: no shift of half a voxel."""
    ramp = np.broadcast_to(np.linspace(-300, 300, 16), (16, 16, 16)).copy()
    seen = load_encoder(str(own)).prepare(Volume(ramp, axial_affine((20.0,) * 3, (16,) * 3)))
    inner = seen[16, 16, 2:-2]
    np.testing.assert_allclose(np.diff(inner), np.diff(inner).mean(), atol=1e-5)
    middle = Intensity().to_model(np.zeros(1))[0]
    np.testing.assert_allclose((inner + inner[::-1]) / 2, middle, atol=1e-5)


def test_features_come_one_by_one_and_depend_on_their_volume_alone(own: Path) -> None:
    encoder = load_encoder(str(own))
    read: list[int] = []

    def reading() -> Iterator[Volume]:
        for seed in range(3):
            read.append(seed)
            yield volume(seed=seed)

    features = encoder.features(reading())
    first = next(features)
    assert read == [0] and first.shape == (5,) and first.dtype == np.float64
    _, third = features
    np.testing.assert_array_equal(third, *encoder.features([volume(seed=2)]))
    assert np.abs(third - first).max() > 0


def test_nan_is_refused(own: Path) -> None:
    broken = Volume(np.full((4, 4, 4), np.nan), np.eye(4))
    with pytest.raises(InputRejected, match="NaN"):
        list(load_encoder(str(own)).features([broken]))


def test_the_bundled_encoder_is_small_and_says_whose_it_is() -> None:
    encoder = load_encoder()
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) <= BUNDLED_BYTES
    assert "not MedicalNet" in encoder.name and "never with the paper's FID" in encoder.comparable
    assert encoder.digest == sha256_of(BUNDLED / "weights.safetensors")
    assert "64^3" in encoder.preparation


@pytest.mark.slow
def test_the_bundled_encoder_ranks_what_is_wrong_with_volumes() -> None:
    """Frechet distances of 40 phantoms to 40 others: the better, the smaller."""
    encoder = load_encoder()

    sets = [[make_phantom(s, i, spacing_mm=5.0).volume for i in range(40)] for s in (801, 802)]

    def features(change: Callable[[np.ndarray], np.ndarray], number: int = 1) -> np.ndarray:
        volumes = sets[number]
        changed = (Volume(change(v.voxels_hu.astype(np.float32)), v.affine) for v in volumes)
        return np.stack(list(encoder.features(changed)))

    def octants(hu: np.ndarray) -> np.ndarray:
        return np.roll(hu, (32, 32, 32), axis=(0, 1, 2))

    def noisy(hu: np.ndarray) -> np.ndarray:
        return hu + np.random.default_rng(0).normal(0, 100, hu.shape).astype(np.float32)

    real = features(lambda hu: hu, 0)
    changes = [lambda hu: hu, lambda hu: smooth(hu, 0.5), lambda hu: smooth(hu, 1.5)]
    same, slight, strong = (frechet_distance(real, features(change)) for change in changes)
    assert same < slight / 1.5 and slight < strong / 1.5
    assert frechet_distance(real, features(octants)) > 1.5 * strong
    assert frechet_distance(real, features(noisy)) > 4 * same


@pytest.mark.slow
def test_training_repeats_exactly_and_its_encoder_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lessons, "BATCH", 2)
    for name in ("one", "two"):
        train_encoder(tmp_path / name, iterations=2, phantoms=3, seed=5, threads=1)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    encoder = load_encoder(str(tmp_path / "one"))
    learnt = [make_phantom(lessons.SERIES + 5, i, spacing_mm=5.0).volume for i in range(3)]
    features = np.stack(list(encoder.features(learnt)))
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=0.05)  # half precision
    np.testing.assert_allclose(features.std(axis=0, ddof=1), 1, atol=0.05)


def test_training_writes_over_nothing(own: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        train_encoder(own, iterations=1, phantoms=2)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"phantoms": 1}, {"seed": -1}])
def test_training_refuses_what_makes_no_encoder(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        train_encoder(tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_the_command_trains_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "BATCH", 2)
    out = str(tmp_path / "out")
    words = ["train-encoder", "--out", out, "--iterations", "1", "--phantoms", "2", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and ast.literal_eval(done.stdout)["encoder"] == out
    assert load_encoder(out).feature_count == lessons.FEATURES
    assert CliRunner().invoke(app, words).exit_code == OutputError.exit_code
