"""The sets of volumes of an evaluation: one real set, fakes, and perhaps what they learnt from."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from prdit_core.data.datasets import MANIFEST
from prdit_core.data.io import AS_STATED
from prdit_core.data.sources import named
from prdit_core.data.volume_sets import VolumeSet
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown
from prdit_core.intensity import HU

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prdit_core.data.io import ReadOptions

REAL, TRAINING = "real", "training"
LONGEST_NAME = 60
NAMES = f"1 to {LONGEST_NAME} printable characters"
NONE_BESIDE: Mapping[str, tuple[str | Path, str | Path]] = MappingProxyType({})
FEWEST_REAL = 3  # two have one distance, whose median with the zeros is none


@dataclass(frozen=True, eq=False)
class ClassSets:
    """Volumes of another class, on a grid of their own: real ones, and what a model made."""

    real: VolumeSet
    fake: VolumeSet


@dataclass(frozen=True, eq=False)
class EvaluatedSets:
    """Sets of volumes on one grid; see `open_sets`.

    Attributes
    ----------
    real : volumes that no model was trained on
    fakes : what models made, by name
    training : what the models were trained on; None where copies are not looked for
    label : class of all these; None: they are told apart by no classes
    beside : other classes of the first model, by name, to lie beside this one on a plane
    """

    real: VolumeSet
    fakes: Mapping[str, VolumeSet]
    training: VolumeSet | None
    label: str | None = None
    beside: Mapping[str, ClassSets] = field(default_factory=dict)

    @property
    def judged(self) -> dict[str, VolumeSet]:
        """The real set and the fakes by name."""
        return {REAL: self.real, **self.fakes}

    @property
    def all(self) -> dict[str, VolumeSet]:
        """All sets by name."""
        return self.judged | ({} if self.training is None else {TRAINING: self.training})


def open_sets(
    real: str | Path,
    fakes: Mapping[str, str | Path],
    training: str | Path | None = None,
    options: ReadOptions = AS_STATED,
    *,
    label: str | None = None,
    beside: Mapping[str, tuple[str | Path, str | Path]] = NONE_BESIDE,
) -> EvaluatedSets:
    """Open the folders of an evaluation.

    Parameters
    ----------
    real
        Real volumes that no model was trained on. Where it is the same prepared data set as
        `training`, its held-out cases are taken.
    fakes
        Folder of each model's volumes, by a name of your choice.
    training
        What the models were trained on; of a prepared data set the cases to train on.
    options
        What the files do not say.
    label
        Class of all these volumes, for a model of several.
    beside
        Folders of real volumes and of the first model's, of its other classes by name.

    Raises
    ------
    UsageError
        If there is no fake, or a name cannot be used.
    InputRejected
        If a folder holds fewer than two volumes, the real one fewer than three, grids differ, or
        the volumes are no CT.
    """
    _check_names(fakes)
    _check_classes(label, beside)
    shared = training is not None and named(real).resolve() == named(training).resolve()
    held_out = shared and (named(real) / MANIFEST).is_file()
    sets = EvaluatedSets(
        VolumeSet.open(real, "validation" if held_out else "all", options),
        {name: VolumeSet.open(folder, "all", options) for name, folder in fakes.items()},
        None if training is None else VolumeSet.open(training, "train", options),
        label,
        {
            name: ClassSets(*(VolumeSet.open(folder, "all", options) for folder in folders))
            for name, folders in beside.items()
        },
    )
    if len(sets.real) < FEWEST_REAL:
        raise InputRejected(
            f"{sets.real} holds {len(sets.real)} real volumes; {FEWEST_REAL} or more are needed, "
            "for a scale of how much they differ"
        )
    for other in sets.all.values():
        _check_ct(other)
        sets.real.check_comparable(other)
    for pair in sets.beside.values():
        _check_ct(pair.real)
        _check_ct(pair.fake)
        pair.real.check_comparable(pair.fake)
    return sets


def _check_ct(volumes: VolumeSet) -> None:
    """Refuse volumes of other units: windows, tissues and distances are those of CT."""
    if volumes.units != HU:
        raise InputRejected(f"{volumes} is in {volumes.units}; evaluations are of CT in HU")


def _check_classes(label: str | None, beside: Mapping[str, object]) -> None:
    if beside and label is None:
        raise UsageError("say which class is evaluated, for others to lie beside it")
    for name in (label, *beside):
        if name is not None and not _is_name(name):
            raise UsageError(f"{shown(name)[:LONGEST_NAME]!r} is no name for a class: {NAMES}")
    if label in beside:
        raise UsageError(f"class {label} cannot lie beside itself; give other classes")


def _is_name(name: str) -> bool:
    return bool(name.strip()) and len(name) <= LONGEST_NAME and name.isprintable()


def _check_names(fakes: Mapping[str, str | Path]) -> None:
    if not fakes:
        raise UsageError("nothing to evaluate: name at least one set of generated volumes")
    for name in fakes:
        if name in (REAL, TRAINING):
            raise UsageError(f"{name!r} is the name of another set; call the fake something else")
        if not _is_name(name):
            raise UsageError(f"{shown(name)[:LONGEST_NAME]!r} is no name for a set: {NAMES}")
