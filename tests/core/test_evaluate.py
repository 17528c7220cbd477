"""The verb `evaluate`: models in the right order, copies found, honest about what it cannot say."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chests import HELD_OUT, OTHERS, TRAINING, Standin, blurred, chest, chests, save

import prdit_core
from prdit_core.data.volume_sets import VolumeSet
from prdit_core.errors import InputRejected, UsageError
from prdit_core.evaluation.critics import critics_for
from prdit_core.evaluation.passes import EvaluationStep
from prdit_core.evaluation.sets import open_sets
from prdit_core.metrics import wscore as wscore_module
from prdit_core.verbs.evaluate import evaluate, evaluate_steps, find_protocol, protocol_encoder
from prdit_core.verbs.report import write_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prdit_core.evaluation.sets import EvaluatedSets
    from prdit_core.metrics.evaluation import Evaluation

COUNT = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real volumes, others as good, the same blurred, and some with two copies of training."""
    work = tmp_path_factory.mktemp("sets")
    others = chests(OTHERS, COUNT)
    save(chests(HELD_OUT, COUNT), work / "held-out")
    save(others, work / "good")
    save(map(blurred, others), work / "blurred")
    save(chests(TRAINING, 12), work / "training")
    noised = chest(TRAINING, 7) + np.random.default_rng(0).normal(0, 25, (16,) * 3)
    moved = np.roll(chest(TRAINING, 2), 1, axis=1)
    save([*others[:4], noised.astype(np.float32), moved, *others[6:]], work / "copying")
    return work


@pytest.fixture(scope="module")
def sets(folders: Path) -> EvaluatedSets:
    fakes = {name: folders / name for name in ("good", "blurred", "copying")}
    return open_sets(folders / "held-out", fakes, folders / "training")


@pytest.fixture(scope="module")
def steps(sets: EvaluatedSets) -> list[Any]:
    return list(evaluate_steps(sets, Standin(), wscore="off", seed=3))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found(steps: list[Any]) -> Evaluation:
    return steps[-1]


def value(found: Evaluation, name: str, key: str) -> float:
    return float(getattr(found.fakes[name], key).value)


@pytest.mark.parametrize("key", ["fid", "fid_unbiased", "mmd", "mmd_unbiased", "ms_ssim"])
def test_blurred_volumes_are_worse(found: Evaluation, key: str) -> None:
    assert value(found, "good", key) < value(found, "blurred", key)


def test_good_volumes_are_not_told_from_real_ones(found: Evaluation) -> None:
    good, floor = found.fakes["good"].mmd_unbiased, found.floor.mmd_unbiased
    assert floor is not None and floor.high is not None and good.low is not None
    assert good.low <= floor.high
    assert found.fakes["blurred"].mmd_unbiased.value > floor.high


def test_blurred_volumes_lack_fine_details(found: Evaluation) -> None:
    sharp, soft = found.fakes["good"].spectrum, found.fakes["blurred"].spectrum
    assert soft.energy[-1] < 0.5 * sharp.energy[-1]
    assert sharp.limits_mm[0] is None and len(sharp.limits_mm) == len(sharp.energy) + 1
    assert soft.high is not None and sharp.low is not None and soft.high[-1] < sharp.low[-1]


def test_shares_lie_in_their_intervals_and_sum_to_one(found: Evaluation) -> None:
    for one in (found.real, *found.fakes.values()):
        assert sum(one.tissues.values()) == pytest.approx(1)
        assert sum(one.histogram.share) == pytest.approx(1)
        for tissue, share in one.tissues.items():
            interval = one.tissue_intervals[tissue]
            assert interval is not None and interval[0] <= share <= interval[1]


# --- copies -------------------------------------------------------------------------------------


def test_planted_copies_are_found_and_nothing_else(found: Evaluation) -> None:
    nearest = found.fakes["copying"].nearest
    assert nearest is not None and found.nearest_scale is not None
    flagged = {pair.fake: pair.training for pair in nearest.flagged}
    assert flagged == {"004.nii": "007.nii", "005.nii": "002.nii"}
    assert [pair.fake for pair in nearest.pairs[:2]] == ["005.nii", "004.nii"]
    assert all(pair.distance < found.nearest_scale.median.value / 2 for pair in nearest.flagged)
    assert any("2 of 16 volumes of copying" in warning for warning in found.warnings)


def test_held_out_volumes_are_not_flagged(found: Evaluation) -> None:
    for name in ("good", "blurred"):
        nearest = found.fakes[name].nearest
        assert nearest is not None and not nearest.flagged
    assert not any("of good" in warning or "patients" in warning for warning in found.warnings)


@pytest.mark.slow
def test_training_volumes_given_as_real_are_said_to_be(folders: Path) -> None:
    """The scale is then that of each to the other training volumes, and still finds the copies."""
    sets = open_sets(folders / "training", {"a": folders / "copying"}, folders / "training")
    found = evaluate(sets, Standin(), wscore="off")  # type: ignore[arg-type]
    assert any("12 of 12 real volumes are training volumes" in line for line in found.warnings)
    nearest = found.fakes["a"].nearest
    assert nearest is not None and len(nearest.flagged) == 2
    assert found.nearest_scale is not None and found.nearest_scale.least > 50


def test_without_training_volumes_nothing_is_said_of_copies(folders: Path) -> None:
    sets = open_sets(folders / "held-out", {"a": folders / "copying"})
    found = evaluate(sets, Standin(), wscore="off")  # type: ignore[arg-type]
    assert found.fakes["a"].nearest is None and found.nearest_scale is None


# --- edges --------------------------------------------------------------------------------------


def test_a_set_compared_with_itself_has_no_distance(folders: Path) -> None:
    sets = open_sets(folders / "held-out", {"itself": folders / "held-out"})
    found = evaluate(sets, Standin(), wscore="off")  # type: ignore[arg-type]
    same = found.fakes["itself"]
    assert same.fid.value == pytest.approx(0, abs=1e-9)
    assert same.mmd.value == pytest.approx(0, abs=1e-6)
    assert same.ms_ssim == found.real.ms_ssim
    assert same.tissues == found.real.tissues and same.histogram == found.real.histogram
    assert any("16 volumes of itself are equal to real ones" in line for line in found.warnings)


def test_two_fakes_are_enough_for_numbers_but_not_for_intervals(
    folders: Path, tmp_path: Path
) -> None:
    save(chests(OTHERS, 2), tmp_path / "two")
    sets = open_sets(folders / "held-out", {"two": tmp_path / "two"})
    found = evaluate(sets, Standin(), wscore="off")  # type: ignore[arg-type]
    two = found.fakes["two"]
    assert two.fid.value > 0 and two.fid.low is None and two.fid_unbiased is None
    assert two.tissue_intervals["air"] is None and two.spectrum.low is None
    assert any("not corrected" in line for line in found.warnings)
    assert any("two (2)" in line for line in found.warnings)


def test_volumes_that_are_repeated_are_counted(folders: Path, tmp_path: Path) -> None:
    save([chest(OTHERS, 0)] * 3 + chests(OTHERS, 3), tmp_path / "dull")
    found = evaluate(
        open_sets(folders / "held-out", {"dull": tmp_path / "dull", "good": folders / "good"}),
        Standin(),  # type: ignore[arg-type]
        wscore="off",
    )
    assert any("3 volumes of dull are equal to others" in line for line in found.warnings)
    assert any("differ in their numbers" in line for line in found.warnings)


def test_volumes_too_small_for_similarity_have_none(tmp_path: Path) -> None:
    small = [voxels[4:10, 4:10, 4:10] for voxels in chests(HELD_OUT, 8)]
    save(small, tmp_path / "small")
    found = evaluate(
        open_sets(tmp_path / "small", {"a": tmp_path / "small"}),
        Standin(),  # type: ignore[arg-type]
        wscore="off",
    )
    assert found.real.ms_ssim is None


# --- how it works -------------------------------------------------------------------------------


@pytest.mark.slow
def test_equal_seeds_give_equal_evaluations(sets: EvaluatedSets, found: Evaluation) -> None:
    again = evaluate(sets, Standin(), wscore="off", seed=3)  # type: ignore[arg-type]
    assert again.model_dump_json() == found.model_dump_json()
    other = evaluate(sets, Standin(), wscore="off", seed=4)  # type: ignore[arg-type]
    assert other.fakes["good"].fid.value == found.fakes["good"].fid.value
    assert other.fakes["good"].fid.high != found.fakes["good"].fid.high


def test_progress_counts_up_to_its_total(steps: list[Any]) -> None:
    events = [step for step in steps if isinstance(step, EvaluationStep)]
    assert len(events) == len(steps) - 1
    last = {step.words: step for step in events}
    assert all(step.index == step.total - 1 for step in last.values())
    assert "looking at training" in last and "looking for copies in good" in last


def test_what_cannot_be_used_is_refused_before_anything_is_encoded(
    folders: Path, tmp_path: Path
) -> None:
    save([*chests(OTHERS, 3), chest(OTHERS, 3)[1:]], tmp_path / "mixed")
    sets = open_sets(folders / "held-out", {"mixed": tmp_path / "mixed"})

    class Unused(Standin):
        def features(self, volumes: Any) -> Iterator[Any]:
            raise AssertionError("encoded before all volumes were seen")

    with pytest.raises(InputRejected, match=r"003\.nii has voxels"):
        evaluate(sets, Unused(), wscore="off")  # type: ignore[arg-type]


def most_alive(sets: EvaluatedSets, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many volumes are in memory at once, at most."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    counts = [0]
    read = VolumeSet.read

    def watched(self: VolumeSet, number: int) -> Any:
        volume = read(self, number)
        alive.add(volume)
        gc.collect()
        counts.append(len(alive))
        return volume

    with monkeypatch.context() as patch:
        patch.setattr(VolumeSet, "read", watched)
        gc.freeze()  # else each collection looks through all that earlier tests left
        try:
            evaluate(sets, Standin(), wscore="off")  # type: ignore[arg-type]
        finally:
            gc.unfreeze()
    return max(counts)


@pytest.mark.slow
def test_volumes_in_memory_do_not_grow_with_the_set(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = save(chests(OTHERS, 4), tmp_path / "few")
    small = open_sets(few, {"a": few}, few)
    large = open_sets(folders / "held-out", {"a": folders / "good"}, folders / "training")
    assert most_alive(small, monkeypatch) == most_alive(large, monkeypatch) <= 3


# --- protocols and critics ----------------------------------------------------------------------


def test_the_protocol_is_recorded_whole(found: Evaluation) -> None:
    assert found.protocol == find_protocol("recommended")
    assert found.protocol.window_hu == (-1000, 400)
    assert found.encoder.name == "stand-in" and found.encoder.features == 4


def test_an_unknown_protocol_is_refused(sets: EvaluatedSets) -> None:
    with pytest.raises(UsageError, match="recommended"):
        next(iter(evaluate_steps(sets, protocol="mine")))


def test_the_papers_protocol_brings_no_weights() -> None:
    with pytest.raises(UsageError, match="ResNet-50"):
        protocol_encoder(find_protocol("paper"), "cpu")


def test_sets_too_small_for_critics_are_said_to_be(sets: EvaluatedSets) -> None:
    critics, remarks = critics_for(sets, "recommended", "auto")
    assert critics is None and remarks[0].startswith("No W-score: ")
    with pytest.raises((UsageError, InputRejected)):
        critics_for(sets, "recommended", "on")
    assert critics_for(sets, "recommended", "off") == (None, [])


@pytest.mark.slow
def test_critics_see_every_volume_of_every_set(
    sets: EvaluatedSets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = wscore_module.CRITIC_PROTOCOLS["recommended"].model_copy(update={"edge": 8, "batch": 2})
    monkeypatch.setattr(wscore_module, "CRITIC_PROTOCOLS", {"recommended": small})
    seen: dict[str, Any] = {}

    score = wscore_module.WScore(small, ("scored",), {"scored": (1.0,)}, ((None,),), {}, {})

    def scored(real: Any, fakes: Any, protocol: Any, **_: Any) -> Iterator[Any]:
        seen.update({name: np.array(fake) for name, fake in fakes.items()}, real=np.array(real))
        yield wscore_module.CriticStep(0, 1, "critic of all")
        yield score

    monkeypatch.setattr(wscore_module, "wscore_steps", scored)
    steps = list(
        evaluate_steps(sets, Standin(), wscore="on", scratch=tmp_path)  # type: ignore[arg-type]
    )
    assert steps[-1].wscore == score
    assert EvaluationStep("critic of all", 0, 1) in steps
    assert {name: x.shape for name, x in seen.items()} == dict.fromkeys(
        ["real", "good", "blurred", "copying"], (COUNT, 8, 8, 8)
    )
    expected = sets.real.read(5)
    np.testing.assert_array_equal(seen["real"][5], small.prepare(expected))
    assert not list(tmp_path.iterdir())


# --- files --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_evaluation_is_written_and_read_back(
    found: Evaluation, sets: EvaluatedSets, tmp_path: Path
) -> None:
    report = write_report(found, sets, tmp_path / "report")
    assert prdit_core.read_evaluation(report.content) == found
    assert "copying" in report.page.read_text(encoding="utf-8")


def test_other_files_are_no_evaluations(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"format": "prdit-evaluation"}')
    with pytest.raises(InputRejected, match="no evaluation of this version"):
        prdit_core.read_evaluation(tmp_path / "other.json")
    with pytest.raises(InputRejected, match="cannot read"):
        prdit_core.read_evaluation(tmp_path / "missing.json")
