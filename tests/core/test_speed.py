"""Presets and the command that measures a machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch
from chains import CUTS
from toys import TINY, TINY_CHAIN, tiny_checkpoint
from typer.testing import CliRunner, Result

import prdit_core
from prdit_core import SamplingConfig, sampling_preset
from prdit_core.cli.app import app
from prdit_core.cli.generating import chosen
from prdit_core.errors import UsageError
from prdit_core.models import linears
from prdit_core.models.prdit.layers import position_table
from prdit_core.models.prdit.zoo import model_config
from prdit_core.presets import SAMPLING_PRESETS, PresetName
from prdit_core.verbs import bench
from prdit_core.verbs.bench import ceiling, gflop

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: object, code: int = 0) -> Result:
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == code, found.output
    return found


@pytest.mark.parametrize(("size", "expected"), [(64, 62.5), (128, 679.5)])
def test_the_work_of_an_evaluation_is_counted(size: int, expected: float) -> None:
    config = model_config("PRDiT-B/12/4")
    assert gflop(config, (size, size, size)) == pytest.approx(expected, abs=0.05)
    grid = (size // config.stride,) * 3
    assert position_table(grid, config.width).device == torch.device("cpu")  # none of meta is kept


@pytest.mark.slow
def test_bench_tells_what_volumes_will_take(tmp_path: Path) -> None:
    chain = tiny_checkpoint(tmp_path / "chain", size=16, model=TINY_CHAIN)
    result = json.loads(run("bench", "--checkpoint", chain, "--json").stdout)
    assert [entry["size"] for entry in result["sizes"]] == [8, 16]
    assert result["gflop_per_second"] > 0 and result["linear"] in ("torch", "onednn")
    for entry in result["sizes"]:
        assert min(entry[name] for name in ("residual", "evaluation", "ceiling")) > 0
        volume = entry["volume"]
        assert tuple(volume) == get_args(PresetName)
        assert 0 < volume["fast"] < volume["balanced"] < volume["paper"]
        assert volume["paper"] == pytest.approx(1000 * entry["evaluation"])


def test_a_quick_look_measures_every_size_on_the_device_asked_for(tmp_path: Path) -> None:
    chain = tiny_checkpoint(tmp_path / "chain", size=16, model=TINY_CHAIN)
    words = ("bench", "--quick", "--checkpoint", chain, "--json")
    found = json.loads(run(*words, "--threads", 1).stdout)
    assert found["seconds"].keys() == {"8", "16"} and found["device"] == "cpu"
    assert all(seconds > 0 for seconds in found["seconds"].values())
    assert run(*words, "--device", "cuda:9", code=2)
    assert "--quick" in run("bench", "--checkpoint", chain, "--device", "auto", code=2).stderr


def test_a_quick_look_does_not_measure_what_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = prdit_core.load(tiny_checkpoint(tmp_path / "chain", size=16, model=TINY_CHAIN))
    measured: list[int] = []

    def slow(place: prdit_core.Prior) -> float:
        measured.append(place.geometry.shape[0])
        return 3.0

    monkeypatch.setattr(bench, "_first_idea", slow)
    assert dict(bench.quick_bench_steps(prior)) == {8: 3.0, 16: 24.0} and measured == [8]


@pytest.mark.slow
def test_the_ceiling_is_that_of_the_backend_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any) -> torch.Tensor:
        calls.append(arguments)
        return torch.zeros(1)

    monkeypatch.setattr(linears, "backend", lambda: "onednn")
    monkeypatch.setattr(linears, "_onednn", counted)
    assert ceiling() > 0 and calls


def test_bench_of_nothing_is_one_line(tmp_path: Path) -> None:
    assert "no-such" in run("bench", "--checkpoint", tmp_path / "no-such", code=2).stderr


def test_the_default_is_the_preset_balanced() -> None:
    assert SamplingConfig() == sampling_preset("balanced")
    apart = TINY.refined_by(*CUTS)
    assert sampling_preset("balanced", apart) == SamplingConfig()
    cuts = tuple(cut.model_copy(update={"heads": "agree"}) for cut in CUTS)
    agree = apart.model_copy(update={"base_heads": "agree", "refiners": cuts})
    assert sampling_preset("balanced", agree) == SamplingConfig(sampler="increment", k=1.5)
    assert sampling_preset("paper", agree) == sampling_preset("paper")


def test_the_preset_paper_walks_as_the_release() -> None:
    paper = sampling_preset("paper")
    assert (paper.steps, paper.sampler, paper.grid) == (1000, "euler", "release")
    assert paper.refresh_every is None and paper.refresh_change is None


def test_presets_are_told_where_one_chooses(tmp_path: Path) -> None:
    text = run("generate", "--help").stdout
    for name, preset in SAMPLING_PRESETS.items():
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"{name}: "))
        assert preset.description in line and f"{preset.distance:.1f}" in line


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="fast, balanced, paper"):
        sampling_preset("best")
    run("generate", "--preset", "best", "--out", "x", code=2)


def test_what_is_given_overrules_the_preset() -> None:
    assert chosen("paper", {"k": 3.0, "steps": None}) == SamplingConfig(
        **{**dict(sampling_preset("paper")), "k": 3.0}
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLING_PRESETS)
def test_a_preset_is_recorded_and_gives_the_same_volume_again(name: str, tmp_path: Path) -> None:
    chain = tiny_checkpoint(tmp_path / "chain", size=16, model=TINY_CHAIN)
    files = [tmp_path / f"{number}.nii.gz" for number in range(2)]
    for file in files:
        run(*("generate", "--checkpoint", chain, "--size", 8, "--preset", name, "--out", file))
    assert files[0].read_bytes() == files[1].read_bytes()
    record = json.loads((tmp_path / "0.json").read_text())
    config = sampling_preset(name)
    recorded = config.model_dump()  # eta and renoise are recorded where they say something
    assert {key: record[key] for key in recorded} == recorded
    assert record["linear"] in ("torch", "onednn")
    config = SamplingConfig(**{key: record[key] for key in recorded})
    again = prdit_core.generate(prdit_core.load(chain).at_size(8), config)
    assert {key: again.metadata[key] for key in recorded} == recorded
