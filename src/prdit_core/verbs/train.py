"""Train one stage of a PRDiT on prepared data, in a run folder that can be resumed.

A run folder holds config.json, metrics.jsonl, previews/ and checkpoints/iteration-NNNNNNNN, each of
which is a checkpoint like any other: `load` takes the run folder or one of them.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from prdit_core.checkpoints.catalog import RUN_CHECKPOINTS, find, newest, saved, set_aside
from prdit_core.checkpoints.store import (
    Header,
    load_tensors,
    read_header,
    read_weights,
    save_checkpoint,
    save_tensors,
)
from prdit_core.data.datasets import PreparedData
from prdit_core.data.sources import refuse_overlap
from prdit_core.errors import CheckpointError, NumericalError, OutputError, UsageError
from prdit_core.files import check_writable, shown, write_json
from prdit_core.machine import (
    check_memory,
    choose_device,
    default_threads,
    fast_precision,
    package_version,
    use_threads,
)
from prdit_core.models.prdit import training_memory
from prdit_core.models.prior import Prior
from prdit_core.models.zoo import model_config
from prdit_core.noise import unit_noise
from prdit_core.pictures import Panel, save_picture
from prdit_core.provenance import SYNTHETIC, torch_version
from prdit_core.schedule import CosineSchedule
from prdit_core.training.loop import Trainer, TrainStep, run_loop
from prdit_core.training.objective import add_noise
from prdit_core.training.stages import STAGES, prepare
from prdit_core.verbs.generate import generate_steps

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    import numpy as np
    from lightning_fabric import Fabric
    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.config import ModelConfig, TrainConfig

CONFIG, METRICS = "config.json", "metrics.jsonl"
RAW, MOMENTS = "raw.safetensors", "optimizer.safetensors"
KEPT = 2
PREVIEW_STEPS, PREVIEW_T = 20, 600.0
_PREVIEW_NOISE = 3
# What may differ between a run and its continuation.
_FREE = {"run", "iterations", "preview_every", "save_every", "device"}
# What may differ too, but then the result is not bit for bit that of one go.
_NOTED = {"threads", "version", "torch"}


@dataclass(frozen=True)
class Started:
    """The run begins at iteration `index` of `total`; `notes` say what was decided."""

    index: int
    total: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Previewed:
    """A picture was written after iteration `index`."""

    index: int
    path: Path


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written after iteration `index`."""

    index: int
    path: Path


Event = Started | TrainStep | Previewed | Saved
Begin = Literal["new", "resume"]


def train_steps(config: TrainConfig, begin: Begin = "new") -> Generator[Event]:
    """Train and yield every event; closing the iterator saves a checkpoint first.

    Parameters
    ----------
    config : settings of the run; None entries take the paper's value
    begin : ``new`` needs an unused run folder, ``resume`` goes on from its newest checkpoint, or
        from the start if nothing was saved yet

    Raises
    ------
    UsageError, InputRejected, CheckpointError, OutputError, NumericalError
        One line each; what was saved stays.
    """
    run = _Run.open(config, begin)
    total = run.total
    yield Started(run.start, total, run.notes)
    done = saved_at = run.start
    steps = run_loop(
        run.trainer,
        run.read,
        len(run.data.train),
        seed=config.seed,
        batch_size=run.batch_size,
        start=run.start,
        total=total,
    )
    try:
        for step in steps:
            done = step.index
            run.log(step)
            yield step
            if done % config.save_every == 0 or done == total:
                path, saved_at = run.save(done), done
                yield Saved(done, path)
            if done % config.preview_every == 0 or done == total:
                yield Previewed(done, run.preview(done))
    except (GeneratorExit, NumericalError):
        # Between iterations all is whole; after any other error it may not be.
        if done > saved_at:
            run.save(done)
        raise


def train(config: TrainConfig, begin: Begin = "new") -> Path:
    """Train to the end and return the newest checkpoint folder; see `train_steps`."""
    deque(train_steps(config, begin), maxlen=0)
    return newest(config.run)


@dataclass
class _Run:
    """Everything a run needs, made ready before the first iteration."""

    config: TrainConfig
    data: PreparedData
    trainer: Trainer
    header: Header
    batch_size: int
    start: int
    total: int
    notes: tuple[str, ...]

    @classmethod
    def open(cls, config: TrainConfig, begin: Begin) -> _Run:
        stage = STAGES[config.stage]
        data = PreparedData.open(config.data)
        refuse_overlap([config.data], config.run)
        resolved, notes = _resolve(config, data)
        base = stage.model_config(model_config(resolved["model"]))
        device = choose_device(config.device)
        check_memory(
            training_memory(base, data.geometry.shape), device, f"training {resolved['model']}"
        )
        schedule = CosineSchedule(noise_std=config.noise_std)
        use_threads(resolved["threads"])
        network = prepare(base, stage, config.seed, _start_of(config, schedule, data))
        trainer = Trainer(
            network,
            schedule,
            _fabric(device, resolved["precision"]),
            lr=resolved["lr"],
            clip=resolved["clip"],
            decay=config.ema_decay,
        )
        recorded = {name: value for name, value in resolved.items() if name != "run"}
        header = Header(
            model=network.config,
            schedule=schedule,
            intensity=data.intensity,
            geometry=data.geometry,
            record={"training": recorded, "notice": SYNTHETIC},
        )
        claimed = _claim(config, resolved, begin)
        start, said = _resume(config.run, trainer) if begin == "resume" else (0, ())
        _trim_metrics(config.run / METRICS, start)
        said = (*notes, *claimed, *said)
        return cls(
            config,
            data,
            trainer,
            header,
            resolved["batch_size"],
            start,
            resolved["iterations"],
            said,
        )

    def read(self, number: int) -> NDArray[np.float32]:
        """Training volume in model units."""
        return self.data.intensity.to_model(self.data.volume(self.data.train[number]))

    def log(self, step: TrainStep) -> None:
        line = {
            "iteration": step.index,
            **{f"loss_{name}": value for name, value in step.losses.items()},
            "grad_norm": step.grad_norm,
            "lr": step.lr,
        }
        with (self.config.run / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def save(self, iteration: int) -> Path:
        """Write weights (EMA), raw weights and optimiser; keep the last two checkpoints."""

        def add(folder: Path) -> None:
            save_tensors(self.trainer.network.state_dict(), folder / RAW)
            save_tensors(self.trainer.state(), folder / MOMENTS)

        path = self.config.run / RUN_CHECKPOINTS / f"iteration-{iteration:08d}"
        record = {**self.header.record, "iteration": iteration}
        header = self.header.model_copy(update={"record": record})
        save_checkpoint(path, header, self.trainer.ema.weights, add)
        for old in saved(self.config.run)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def preview(self, iteration: int) -> Path:
        """A held-out volume, its noisy state, its prediction, and a generated volume."""
        prior = self._prior()
        cases = self.data.validation or self.data.train
        truth = torch.from_numpy(self.data.intensity.to_model(self.data.volume(cases[0])))
        x0 = truth[None, None].to(prior.device)
        noise = unit_noise(prior.shape, self.config.seed, _PREVIEW_NOISE).to(prior.device)
        x_t = add_noise(
            prior.schedule, x0, noise * prior.schedule.noise_std, torch.tensor([PREVIEW_T])
        )
        shown_x0 = prior.denoise(x_t, PREVIEW_T).x0
        (last,) = deque(generate_steps(prior, seed=self.config.seed, steps=PREVIEW_STEPS), maxlen=1)
        rows = [
            ("held-out volume" if self.data.validation else "training volume", x0),
            (f"with noise, t = {PREVIEW_T:g}", x_t),
            ("its predicted x0", shown_x0),
            (f"generated, {PREVIEW_STEPS} steps ({SYNTHETIC})", last.x0),
        ]
        panels = [
            Panel(x[0, 0].cpu().numpy(), self.data.geometry.spacing_mm, (-1.0, 1.0), caption)
            for caption, x in rows
        ]
        path = self.config.run / "previews" / f"iteration-{iteration:08d}.png"
        return save_picture(panels, path, f"stage {self.config.stage}, iteration {iteration}")

    def _prior(self) -> Prior:
        """The averaged weights as a prior; nothing of the training's random state is touched."""
        from prdit_core.models.prdit import PRDiT

        model = PRDiT(self.header.model)
        model.load_state_dict(self.trainer.ema.weights)
        return Prior(
            model=model.to(self.trainer.fabric.device).eval(),
            schedule=self.header.schedule,
            intensity=self.header.intensity,
            geometry=self.header.geometry,
            name="preview",
            digest="",
        )


def _resolve(config: TrainConfig, data: PreparedData) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings with every None replaced, as they are recorded; and what was decided."""
    stage = STAGES[config.stage]
    size, cases = data.geometry.shape[0], len(data.train)
    if cases == 0:
        raise UsageError(f"{shown(config.data)} has no training case")
    if config.stage == "global" and config.model is not None:
        _check_depth(config.model)
    name = config.model or ("small" if size < 128 else "PRDiT-B/12/4")
    model = stage.model_config(model_config(name))
    if any(edge % model.stride for edge in data.geometry.shape):
        raise UsageError(f"volumes of edge {size} do not fit {name}: its stride is {model.stride}")
    notes = []
    if config.batch_size > cases:
        notes.append(f"batch size {cases} instead of {config.batch_size}: there are no more cases")
    if not data.validation:
        notes.append("one patient only: nothing is held out")
    resolved = config.model_dump(mode="json") | {
        "model": name,
        "batch_size": min(config.batch_size, cases),
        "iterations": config.iterations or stage.iterations,
        "lr": config.lr or stage.learning_rate(model.depth),
        "clip": config.clip or stage.clip,
        "threads": config.threads or default_threads(),
        "precision": fast_precision(choose_device(config.device), config.precision),
        "data": data.digest,
        "start": _start_digest(config),
        "version": package_version(),
        "torch": torch_version(),
    }
    return resolved, tuple(notes)


def _check_depth(name: str) -> None:
    if model_config(name).depth == 0:
        raise UsageError(f"{name} has depth 0, so no global part; stage global trains one")


def _claim(config: TrainConfig, resolved: Mapping[str, Any], begin: Begin) -> list[str]:
    """Make the run folder ours, and say what differs from before without being refused."""
    file = config.run / CONFIG
    check_writable(config.run)
    noted: list[str] = []
    if file.exists():
        if begin == "new":
            raise OutputError(
                f"{shown(config.run)} already holds a run; add --resume, or choose another --run"
            )
        before = _read_settings(file)
        changed = {
            name: f"{name}: {before.get(name)!r} -> {value!r}"
            for name, value in resolved.items()
            if name not in _FREE and before.get(name) != value
        }
        refused = [text for name, text in changed.items() if name not in _NOTED]
        if refused:
            raise UsageError(
                f"{shown(config.run)} was started with other settings ({'; '.join(refused)}); "
                "resume with the same ones"
            )
        noted = [f"{text}, so not bit-identical to one go" for text in changed.values()]
    write_json(file, dict(resolved))
    return noted


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{shown(file)} is damaged; start anew in another --run") from error


def _start_digest(config: TrainConfig) -> str | None:
    stage = STAGES[config.stage]
    if config.start is None:
        if stage.needs_start:
            raise UsageError(
                f"stage {stage.name} starts from the stage before: "
                "give its run or checkpoint with --from"
            )
        return None
    return read_header(find(config.start)).digest


def _start_of(
    config: TrainConfig, schedule: CosineSchedule, data: PreparedData
) -> tuple[ModelConfig, Mapping[str, Tensor]] | None:
    """Network and averaged weights to go on from, refused if of another process or window."""
    if config.start is None:
        return None
    path = find(config.start)
    header = read_header(path)
    if header.schedule != schedule:
        raise UsageError(
            f"{shown(config.start)} was trained with {header.schedule!r}, this run has "
            f"{schedule!r}; a part cannot be shared"
        )
    if header.intensity != data.intensity:
        raise UsageError(
            f"{shown(config.start)} was trained in the window {header.intensity.window_hu} HU, the "
            f"data are in {data.intensity.window_hu}; prepare them with the same preset"
        )
    return header.model, read_weights(path, header)


def _resume(run: Path, trainer: Trainer) -> tuple[int, tuple[str, ...]]:
    """Take up the newest checkpoint that is whole; say which."""
    said: list[str] = []
    for folder in reversed(saved(run)):
        try:
            header = read_header(folder)
            weights = read_weights(folder, header)  # which verifies all files of the folder
            trainer.restore(load_tensors(folder / RAW), weights, load_tensors(folder / MOMENTS))
        except CheckpointError as error:
            aside = set_aside(folder)
            said.append(f"damaged, set aside as {shown(aside.name)}: {error}")
            continue
        iteration = int(header.record["iteration"])
        return iteration, (*said, f"resumed from iteration {iteration}")
    return 0, (*said, "nothing was saved yet: starting from the beginning")


def _trim_metrics(file: Path, iteration: int) -> None:
    """Drop lines past `iteration`, and partial ones; the iterations to come write them anew."""
    if not file.exists():
        return
    kept = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["iteration"] <= iteration:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    file.write_text("".join(kept), encoding="utf-8")


def _fabric(device: str, precision: str) -> Fabric:
    from lightning_fabric import Fabric

    kind, _, number = device.partition(":")
    return Fabric(
        accelerator=kind,
        devices=[int(number)] if number else 1,
        precision=precision,  # type: ignore[arg-type]  # a name of ours that is one of Fabric's
    )
