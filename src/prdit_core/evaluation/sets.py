"""The sets of volumes of an evaluation: one real set, fakes, and perhaps what they learnt from."""

from __future__ import annotations

from dataclasses import dataclass
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
FEWEST_REAL = 3  # two have one distance, whose median with the zeros is none


@dataclass(frozen=True, eq=False)
class EvaluatedSets:
    """Sets of volumes on one grid; see `open_sets`.

    Attributes
    ----------
    real : volumes that no model was trained on
    fakes : what models made, by name
    training : what the models were trained on; None where copies are not looked for
    """

    real: VolumeSet
    fakes: Mapping[str, VolumeSet]
    training: VolumeSet | None

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

    Raises
    ------
    UsageError
        If there is no fake, or a name cannot be used.
    InputRejected
        If a folder holds fewer than two volumes, the real one fewer than three, grids differ, or
        the volumes are no CT.
    """
    _check_names(fakes)
    shared = training is not None and named(real).resolve() == named(training).resolve()
    held_out = shared and (named(real) / MANIFEST).is_file()
    sets = EvaluatedSets(
        VolumeSet.open(real, "validation" if held_out else "all", options),
        {name: VolumeSet.open(folder, "all", options) for name, folder in fakes.items()},
        None if training is None else VolumeSet.open(training, "train", options),
    )
    if len(sets.real) < FEWEST_REAL:
        raise InputRejected(
            f"{sets.real} holds {len(sets.real)} real volumes; {FEWEST_REAL} or more are needed, "
            "for a scale of how much they differ"
        )
    for other in sets.all.values():
        _check_ct(other)
        sets.real.check_comparable(other)
    return sets


def _check_ct(volumes: VolumeSet) -> None:
    """Refuse volumes of other units: windows, tissues and distances are those of CT."""
    if volumes.units != HU:
        raise InputRejected(f"{volumes} is in {volumes.units}; evaluations are of CT in HU")


def _check_names(fakes: Mapping[str, str | Path]) -> None:
    if not fakes:
        raise UsageError("nothing to evaluate: name at least one set of generated volumes")
    for name in fakes:
        if name in (REAL, TRAINING):
            raise UsageError(f"{name!r} is the name of another set; call the fake something else")
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise UsageError(
                f"{shown(name)[:LONGEST_NAME]!r} is no name for a set: "
                f"1 to {LONGEST_NAME} printable characters"
            )
