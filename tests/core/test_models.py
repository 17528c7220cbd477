"""The networks: sizes, shapes, start, and the split into two parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from pydantic import ValidationError
from toys import TINY, tiny_checkpoint

import prdit_core
from prdit_core import machine
from prdit_core.errors import MemoryLimit, UsageError
from prdit_core.models.families import parameter_count
from prdit_core.models.prdit.memory import memory_needed
from prdit_core.models.prdit.network import PRDiT, initialise
from prdit_core.models.prdit.zoo import SMALL, model_config
from prdit_core.patches import assemble_tiles, extract_patches, grid_of
from prdit_core.prdit_config import ModelConfig
from prdit_core.training.families.prdit.network import freeze, prepare
from prdit_core.training.families.prdit.stages import PRDIT_STAGES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("PRDiT-B/12/0", 39.16),
        ("PRDiT-B/12/4", 93.23),
        ("PRDiT-B/12/8", 135.74),
        ("PRDiT-B/12/12", 178.26),
        ("PRDiT-XL/12/12", 347.22),
    ],
)
def test_parameter_counts_of_the_paper(name: str, millions: float) -> None:
    assert parameter_count(model_config(name)) / 1e6 == pytest.approx(millions, abs=0.006)


def test_stage_two_trains_what_the_paper_says() -> None:
    with torch.device("meta"):
        model = PRDiT(model_config("PRDiT-B/12/4"))
    freeze(model, PRDIT_STAGES["global"])
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert trained / 1e6 == pytest.approx(54.07, abs=0.006)


@pytest.mark.parametrize("name", ["PRDiT-L/12/4", "PRDiT-B/12", "PRDiT-Q/12/4", "big", ""])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        model_config(name)
    assert model_config("PRDiT-L/12/0").width == 1024


@pytest.mark.parametrize(
    "change", [{"padding": 2}, {"width": 20}, {"heads": 5}, {"norm": "batch"}, {"patch": 0}]
)
def test_impossible_geometries_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate(TINY.model_dump() | change)


@pytest.mark.parametrize("shape", [(8, 8, 8), (4, 8, 12), (16, 4, 6)])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_volume_whose_edges_fit_the_stride(shape: tuple[int, ...], channels: int) -> None:
    config = TINY.model_copy(update={"channels": channels})
    model = PRDiT(config).eval()
    x = torch.randn(2, channels, *shape)
    t = torch.tensor([3.0, 700.0])
    out = model(x, t)
    assert out.shape == (2, 2 * channels, *shape)
    parts = model.parts(x, t)
    assert parts.global_residual is not None and parts.refiner is None
    torch.testing.assert_close(parts.local + parts.global_residual, out)


def test_an_edge_that_does_not_fit_is_an_error_not_a_crop() -> None:
    with pytest.raises(UsageError, match="multiple of the stride 2"):
        PRDiT(TINY)(torch.zeros(1, 1, 8, 9, 8), torch.zeros(1))


def test_centres_of_patches_tile_the_volume() -> None:
    """Cutting the borders off overlapping patches gives tiles that assemble to the volume."""
    x = torch.arange(2.0 * 8 * 12 * 4).reshape(1, 2, 8, 12, 4)
    patches = extract_patches(x, patch=4, stride=2, padding=1).unflatten(2, (2, 4, 4, 4))
    inner = patches[..., 1:3, 1:3, 1:3].permute(0, 1, 3, 4, 5, 2).flatten(2)  # channel fastest
    assert torch.equal(assemble_tiles(inner, grid_of((8, 12, 4), 2, 1), 2), x)


def test_the_local_part_sees_only_its_patch() -> None:
    model = PRDiT(TINY).eval()
    initialise(model, 0)
    torch.nn.init.normal_(model.local.out.weight)
    x = torch.randn(1, 1, 8, 8, 8)
    far = x.clone()
    far[..., -1] += 1.0
    t = torch.tensor([400.0])
    a, b = model.parts(x, t)[0], model.parts(far, t)[0]
    assert torch.equal(a[..., :4], b[..., :4]) and not torch.equal(a, b)


def test_the_start_predicts_exactly_zero_and_depends_on_the_seed() -> None:
    model = PRDiT(SMALL)
    initialise(model, 1)
    assert not model(torch.randn(1, 1, 8, 8, 8), torch.tensor([5.0])).any()
    first = model.local.first.gate.weight.clone()
    initialise(model, 1)
    assert torch.equal(model.local.first.gate.weight, first)
    initialise(model, 2)
    assert not torch.equal(model.local.first.gate.weight, first)


def test_a_local_part_is_shared_only_with_its_like() -> None:
    local = prepare(TINY.model_copy(update={"depth": 0}), PRDIT_STAGES["local"], 0, None)
    begun = (local.config, local.state_dict())
    model = prepare(TINY, PRDIT_STAGES["global"], 0, begun)
    for name, weight in local.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    for change in ({"width": 48}, {"norm": "rms"}, {"channels": 2}):
        with pytest.raises(UsageError, match=next(iter(change))):
            prepare(TINY.model_copy(update=change), PRDIT_STAGES["global"], 0, begun)


def test_a_volume_that_cannot_fit_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = prdit_core.load(tiny_checkpoint(tmp_path / "tiny"))
    monkeypatch.setattr(machine, "_physical_memory", lambda: 10_000)
    with pytest.raises(MemoryLimit, match=r"8 x 8 x 8 needs about .* GiB, cpu has"):
        next(prdit_core.generate_steps(prior, prdit_core.SamplingConfig(steps=1)))
    assert memory_needed(model_config("PRDiT-B/12/4"), (512, 512, 512)) > 20 * 2**30
