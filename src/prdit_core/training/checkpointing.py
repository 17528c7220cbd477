"""Checkpoints of a run: what is saved, what is kept, and which one to go on from.

All randomness is a function of (seed, iteration), so the iteration in the record is the whole
state of generators and data order.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from prdit_core.checkpoints.catalog import saved, set_aside
from prdit_core.checkpoints.controls import save_control
from prdit_core.checkpoints.store import (
    OtherFormat,
    codec_weights,
    read_control,
    read_header,
    read_weights,
    save_checkpoint,
)
from prdit_core.errors import CheckpointError
from prdit_core.files import shown, sync
from prdit_core.models.families import expected_shapes
from prdit_core.models.tensor_files import load_tensors, save_tensors
from prdit_core.training.engine import by_first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from prdit_core.checkpoints.header import Header
    from prdit_core.runs.folder import RunFolder
    from prdit_core.training.contracts import Player
    from prdit_core.training.loop import Trainer
    from prdit_core.training.settings import Settings

RAW, MOMENTS = "raw.safetensors", "optimizer.safetensors"
KEPT = 2


def save(
    folder: RunFolder,
    trainer: Trainer,
    header: Header,
    averaged: Mapping[str, Tensor],
    codec: Mapping[str, Tensor] | None,
    base: Path | None,
) -> Path:
    """Write averaged weights, raw weights and optimisers; all processes must call.

    The newest `KEPT` checkpoints stay, and the one with the lowest validation loss.

    Parameters
    ----------
    codec : weights of what decodes the network's states; None: they are voxels
    base : checkpoint of what the network steers, which is copied; None: it stands alone
    """
    raw, moments = trainer.weights(), trainer.moments()
    path = folder.checkpoints / f"iteration-{header.record['iteration']:08d}"

    def add(part: Path) -> None:
        save_tensors(raw, part / RAW)
        save_tensors(moments, part / MOMENTS)

    def write() -> Path:
        for file in (folder.metrics, folder.history):  # before what says that they are whole
            if file.exists():
                sync(file)
        if header.control is not None and base is not None:
            save_control(path, base, header.control.config, averaged, header.record, add)
        else:
            save_checkpoint(path, header, averaged, add, codec=codec)
        _prune(folder.path)
        return path

    return by_first(trainer.fabric, write)


def restore(folder: RunFolder, trainer: Trainer) -> tuple[int, tuple[str, ...]]:
    """Take up the newest checkpoint that is whole; its iteration, and what to say of it."""
    path, notes = by_first(trainer.fabric, lambda: _newest_whole(folder.path))
    if path is None:
        return 0, (*notes, "nothing was saved yet: starting from the beginning")
    header = read_header(path)
    averaged = read_control(path, header) or read_weights(path, header)
    trainer.restore(load_tensors(path / RAW), averaged, load_tensors(path / MOMENTS))
    iteration = int(header.record["iteration"])
    return iteration, (*notes, f"resumed from iteration {iteration}")


def begun(start: Path | None, settings: Settings) -> dict[str, Tensor] | None:
    """Weights that are gone on from: of a checkpoint, its codec, or the lower part of a chain."""
    taken = settings.plan.begun
    if start is None or taken is None:
        return None
    header = read_header(start)
    if taken.model == header.codec:
        return codec_weights(start, header)
    weights = read_weights(start, header)
    if taken.model == header.model:
        return weights
    return {name: weights[name] for name in expected_shapes(taken.model)}


def go_on(players: Sequence[Player], start: Path) -> None:
    """Give players beyond the first the weights that a run's checkpoint kept of them, if it did."""
    if len(players) == 1 or not (start / RAW).is_file():
        return
    kept = load_tensors(start / RAW)
    for player in players[1:]:
        own = player.network.state_dict()
        weights = {name: kept.get(f"{player.name}.{name}") for name in own}
        if all(w is not None and w.shape == own[name].shape for name, w in weights.items()):
            player.network.load_state_dict(weights)


def _newest_whole(run: Path) -> tuple[Path | None, list[str]]:
    notes: list[str] = []
    for path in reversed(saved(run)):
        try:
            read_weights(path, read_header(path))  # which verifies all files of the folder
            load_tensors(path / RAW)
            load_tensors(path / MOMENTS)
        except OtherFormat:
            raise
        except CheckpointError as error:
            aside = set_aside(path)
            notes.append(f"damaged, set aside as {shown(aside.name)}: {error}")
            continue
        return path, notes
    return None, notes


def _prune(run: Path) -> None:
    folders = saved(run)
    losses = {path: loss for path in folders if (loss := _validation_loss(path)) is not None}
    kept = set(folders[-KEPT:])
    if losses:
        kept.add(min(losses, key=lambda path: losses[path]))
    for path in folders:
        if path not in kept:
            _remove(path)


def _remove(path: Path) -> None:
    """Hidden first: what is half removed must not look like a checkpoint."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path.rename(path.with_name(f".{path.name}.retired")))


def _validation_loss(path: Path) -> float | None:
    try:
        loss = read_header(path).record.get("validation_loss")
    except CheckpointError:
        return None
    return None if loss is None else float(loss)
