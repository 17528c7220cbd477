"""Several processes under torchrun give what one gives: training and generating."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from latents import tiny_codec, tiny_latent
from safetensors.torch import load_file
from toys import tiny_checkpoint
from typer.testing import CliRunner

from prdit_core import machine
from prdit_core.checkpoints.catalog import newest, saved
from prdit_core.cli.app import app
from prdit_core.data.datasets import PreparedData
from prdit_core.errors import UsageError
from prdit_core.prdit_config import TrainConfig
from prdit_core.runs.metrics import read_lines
from prdit_core.training.batches import Batch, Batches
from prdit_core.training.settings import resolve
from prdit_core.verbs.latents import latents
from prdit_core.verbs.phantoms import phantoms
from prdit_core.verbs.train import train

if TYPE_CHECKING:
    from collections.abc import Sequence

# Two processes add up the same gradients in another order; the issue allows 1e-4.
RTOL = 1e-4
README = Path(__file__).resolve().parents[2] / "README.md"
(SHOWN,) = set(re.findall(r"^(torchrun .* prdit-core) ", README.read_text("utf-8"), re.MULTILINE))
TORCHRUN = shlex.split(SHOWN)
# Biases that a batch normalisation takes away again: their gradients are rounding alone.
IDLE = r"discriminator\.layers\.[123]\.0\.bias"
# As torchrun, for commands that do not fail: two forks, which need not import all anew.
FORKED = """
import os, socket, sys
import lightning_fabric, torch._dynamo, torch.distributed.fsdp, prdit_core.verbs.train
from prdit_core.cli.app import app
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
children = []
for rank in ("0", "1"):
    if not (child := os.fork()):
        os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
        app(sys.argv[1:])
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
FORKS = (sys.executable, "-c", FORKED)
# Whole precision: bf16, which `auto` takes on some CPUs, rounds a batch of 2 unlike one of 4.
PLAIN = ("--batch-size", "4", "--precision", "32-true")
COMMON = ("--iterations", "4", "--save-every", "2", *PLAIN)
TWO_STEPS = ("--iterations", "2", "--save-every", "1", "--threads", "1", *PLAIN)


class Numbers:
    """Eight cases of one voxel each."""

    names = tuple("abcdefgh")
    labels = (0,) * 8
    shapes = ((1, 1, 1),) * 8

    def read(self, number: int) -> np.ndarray:
        return np.full((1, 1, 1, 1), number, np.float32)

    def condition(self, number: int) -> None:
        del number


def together(*words: object, code: int = 0, by: Sequence[str] = TORCHRUN) -> str:
    """Run the command in two processes, with the words of the README unless `by` others."""
    here = Path(sys.executable).parent
    done = subprocess.run(
        [*by, *map(str, words)],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PRDIT_THREADS": "1"}
        | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode == 0) == (code == 0), done.stderr[-3000:]
    return done.stdout + done.stderr


def single(*words: object) -> None:
    """Run the command in this process."""
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output


def alone(
    data: Path, run: Path, stage: str, start: Path | None = None, crop: int | None = None
) -> Path:
    return train(
        TrainConfig(
            stage=stage,
            data=data,
            run=run,
            start=None if start is None else str(start),
            crop=crop,
            iterations=4,
            batch_size=4,
            save_every=2,
            precision="32-true",
            threads=1,
        )
    )


def assert_close(one: Path, other: Path) -> None:
    for name in ("weights", "raw", "optimizer"):
        a, b = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
        assert a.keys() == b.keys()
        for key, tensor in a.items():
            # Weights near zero are compared with the size of their tensor.
            atol = RTOL * float(tensor.abs().max())
            torch.testing.assert_close(b[key], tensor, rtol=RTOL, atol=atol)


def assert_same_step(one: Path, other: Path) -> None:
    """Of two runs of two iterations: what the first one left, and what the second then found.

    Gradients are those of one process but for rounding (5e-6 of a tensor, measured). Adam's first
    step has their sign and not their size, so of a gradient that is rounding itself it may go the
    other way: a weight is compared where its gradient is a tenth of the largest. Tensors that begin
    at zero consist of such steps, which is why the weights as wholes agree to 1e-3 only.
    """
    folders = [saved(run)[0] for run in (one, other)]
    assert folders[0].name == "iteration-00000001"
    a, b = (load_file(folder / "optimizer.safetensors") for folder in folders)
    assert a.keys() == b.keys()
    for key, moment in a.items():
        if not re.match(IDLE, key):
            assert float((b[key] - moment).norm()) <= 2e-5 * float(moment.norm()), key
    raw, raws = (load_file(folder / "raw.safetensors") for folder in folders)
    assert raw.keys() == raws.keys()
    for key, weight in raw.items():
        gradient = a.get(f"{key}.exp_avg")
        sure = torch.ones_like(weight, dtype=torch.bool)
        if gradient is not None:
            sure = gradient.abs() > 0.1 * gradient.abs().max()
        if not re.match(IDLE, key):
            atol = RTOL * float(weight.abs().max())
            torch.testing.assert_close(raws[key][sure], weight[sure], rtol=RTOL, atol=atol)
    lines, others = (read_lines(run / "metrics.jsonl") for run in (one, other))
    for line, same in zip(lines, others, strict=True):
        assert line["loss"] == pytest.approx(same["loss"], rel=RTOL, abs=1e-5), line


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
@pytest.mark.parametrize(("stage", "strategy"), [("local", "fsdp"), ("global", "ddp")])
def test_two_processes_train_as_one_does(
    data: Path, once: Path, tmp_path: Path, stage: str, strategy: str
) -> None:
    """The other two: ddp of stage 1 is where a run is resumed, fsdp of a frozen part comes next."""
    start = once if stage == "global" else None
    one = alone(data, tmp_path / "one", stage, start)
    words = ("train", "--data", data, *COMMON, "--strategy", strategy, "--stage", stage)
    more = () if start is None else ("--from", start)
    together(*words, *more, "--run", tmp_path / "two", by=FORKS)
    assert_close(one, newest(tmp_path / "two"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
def test_two_processes_refine_and_tune_a_chain_as_one_does(data: Path, tmp_path: Path) -> None:
    """With split weights, the harder strategy, around a base that is frozen at first."""
    base = tiny_checkpoint(tmp_path / "base", size=4)
    refined = alone(data, tmp_path / "refined", "refine", base, crop=4)
    words = ("train", "--data", data, *COMMON, "--strategy", "fsdp")
    more = ("--from", base, "--crop", 4, "--run", tmp_path / "refined2")
    together(*words, "--stage", "refine", *more, by=FORKS)
    assert_close(refined, newest(tmp_path / "refined2"))

    tuned = alone(data, tmp_path / "tuned", "finetune", refined)
    more = ("--from", refined, "--run", tmp_path / "tuned2")
    together(*words, "--stage", "finetune", *more, by=FORKS)
    assert_close(tuned, newest(tmp_path / "tuned2"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
def test_two_processes_train_both_stages_of_an_autoencoder_as_one_does(
    data: Path, tmp_path: Path
) -> None:
    """Codes are moved by the vectors of both, and batch normalisation sees the volumes of both.

    The release has no distributed sampler (defect 7): every process would train on the whole batch.
    """
    words = ("--model", "small-4x", "--patch", 8, "--discriminator-from", 0, *TWO_STEPS)
    one = ("train", "--stage", "autoencoder", "--data", data, *words)
    single(*one, "--run", tmp_path / "one")
    together(*one, "--run", tmp_path / "two", by=FORKS)
    assert_same_step(tmp_path / "one", tmp_path / "two")

    joint = ("train", "--stage", "autoencoder-joint", "--data", data, *TWO_STEPS)
    joint = (*joint, "--from", newest(tmp_path / "one"))
    single(*joint, "--run", tmp_path / "joint")
    together(*joint, "--run", tmp_path / "joint2", by=FORKS)
    assert_same_step(tmp_path / "joint", tmp_path / "joint2")
    sources = Batches(Numbers(), 0, 4, 0, 2), Batches(Numbers(), 0, 4, 1, 2)
    shares = [drawn.cases for source in sources if isinstance(drawn := source[0], Batch)]
    assert len(set(shares[0]) | set(shares[1])) == 4  # of which the release draws the same two


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
def test_two_processes_train_in_latents_as_one_does(data: Path, tmp_path: Path) -> None:
    codec = tiny_codec(tmp_path / "codec")
    latents(data, codec=codec, out=tmp_path / "L")
    words = ("train", "--stage", "latent", "--data", tmp_path / "L", "--codec", codec, *TWO_STEPS)
    words = (*words, "--model", "demo", "--ema-from", 1, "--ema-every", 1)
    single(*words, "--run", tmp_path / "one")
    together(*words, "--run", tmp_path / "two", by=FORKS)
    assert_same_step(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
def test_two_processes_train_a_control_as_one_does(tmp_path: Path) -> None:
    """Beside a base that takes no gradients and is copied, byte for byte, by the first."""
    base = tiny_latent(tmp_path / "base")
    phantoms(6, size=16, seed=0, out=tmp_path / "volumes")
    latents(tmp_path / "volumes", codec=base, out=tmp_path / "L", labels=True)
    (tmp_path / "L.json").write_text('{"chest": ["L"]}')
    words = ("train", "--stage", "control", "--data", tmp_path / "L.json", "--from", base)
    words = (*words, *TWO_STEPS, "--variant", "dual", "--ema-from", 1, "--ema-every", 1)
    single(*words, "--run", tmp_path / "one")
    together(*words, "--run", tmp_path / "two", by=FORKS)
    assert_same_step(tmp_path / "one", tmp_path / "two")
    one, two = newest(tmp_path / "one"), newest(tmp_path / "two")
    for place in (one, two):
        name = "weights.safetensors"
        assert (place / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
def test_two_processes_resume_what_one_began(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    once = alone(data, tmp_path / "once", "local")
    shutil.copytree(tmp_path / "once", run)
    shutil.rmtree(newest(run))  # back to iteration 2
    together("train", "--stage", "local", "--data", data, "--run", run, *COMMON, "--resume")
    assert_close(once, newest(run))
    begins = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [(line["iteration"], line["processes"]) for line in begins] == [(0, 1), (2, 2)]
    assert any("processes: 1 -> 2" in text for text in begins[1]["changed"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
def test_a_fault_of_the_first_process_ends_all_with_one_line_each(
    data: Path, once: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(once, tmp_path / "run")
    words = ("train", "--stage", "local", "--data", data, "--run", run, *COMMON)
    assert "already holds a run" in together(*words, code=6)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tried on Linux")
def test_two_processes_share_out_volumes(tmp_path: Path) -> None:
    words = ("generate", "--size", 32, "--steps", 3, "--count", 3, "--out")
    text = together(*words, tmp_path / "two")
    assert "2 volumes made" in text and "1 volumes made" in text
    single(*words, tmp_path / "one")
    files = sorted((tmp_path / "one").glob("*"))
    assert len(files) == 9
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


ENVIRONMENTS = [
    ({}, (0, 1, 1, "none")),
    ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, (3, 4, 2, "torchrun")),
    (
        {
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "5",
            "SLURM_NTASKS": "8",
            "SLURM_NNODES": "2",
        },
        (5, 8, 4, "slurm"),
    ),
    # A batch script that does not use srun is one process, whatever it was given.
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1, 1, "none")),
]


@pytest.mark.parametrize(("variables", "expected"), ENVIRONMENTS)
def test_processes_are_known_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: tuple[int, int, int, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    here = machine.processes()
    assert (here.rank, here.world, here.local, here.launcher) == expected


def test_every_item_is_the_share_of_one_process() -> None:
    shares = [machine.Processes(rank, 3, 3, "torchrun").share(range(8)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(8))


def in_world(monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    for name, value in (("RANK", 1), ("WORLD_SIZE", world), ("LOCAL_WORLD_SIZE", world)):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("world", "batch_size", "hint"), [(2, 5, "multiple"), (16, 16, "only 7 training cases")]
)
def test_a_batch_that_cannot_be_shared_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch, world: int, batch_size: int, hint: str
) -> None:
    in_world(monkeypatch, world)
    config = TrainConfig(stage="local", data=data, run=data, batch_size=batch_size)
    with pytest.raises(UsageError, match=hint):
        resolve(config, PreparedData.open(data), None)


def test_processes_of_one_machine_share_its_cores_and_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(machine.THREADS_VARIABLE, raising=False)
    single = machine.default_threads()
    in_world(monkeypatch, 2)
    assert machine.default_threads() == max(1, single // 2)
    gpus: Sequence[dict[str, str]] = [{"device": "cuda:0"}, {"device": "cuda:1"}]
    monkeypatch.setattr(machine, "devices", lambda: [*gpus, {"device": "cpu"}])
    assert machine.own_device("cuda") == "cuda:1"
    assert machine.own_device("cuda:0") == "cuda:0"
    assert machine.own_device("cpu") == "cpu"
