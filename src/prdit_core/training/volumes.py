"""The cases of prepared data as the loop reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.data.classed import ClassedData
from prdit_core.data.datasets import PreparedData
from prdit_core.data.labelled_sets import LabelledData
from prdit_core.geometry import fewest_voxels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from prdit_core.data.classed import ClassedCase
    from prdit_core.data.datasets import Case
    from prdit_core.intensity import Intensity
    from prdit_core.training.batches import Shape, Source

AnyData = PreparedData | ClassedData


@dataclass(frozen=True)
class Volumes:
    """Some cases in the units of `intensity`, each checked against its hash whenever it is read."""

    data: PreparedData
    cases: tuple[Case, ...]
    intensity: Intensity

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the cases."""
        return tuple(case.id for case in self.cases)

    @property
    def labels(self) -> tuple[int, ...]:
        """There is one class."""
        return (0,) * len(self.cases)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """There is one grid."""
        return (self.data.geometry.shape,) * len(self.cases)

    def read(self, number: int) -> NDArray[np.float32]:
        """Volume (1, D, H, W) in model units.

        Raises
        ------
        InputRejected
            If its file is missing, damaged or was changed.
        """
        return self.intensity.to_model(self.data.checked(self.cases[number]))[None]

    def condition(self, number: int) -> None:
        """They are learnt as they are."""
        del number


@dataclass(frozen=True)
class ClassedVolumes:
    """Cases of several sets, each as its own set gives it to a network."""

    cases: tuple[ClassedCase, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Set and id of the cases."""
        return tuple(case.name for case in self.cases)

    @property
    def labels(self) -> tuple[int, ...]:
        """Numbers of their classes."""
        return tuple(case.number for case in self.cases)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Grids of their volumes."""
        return tuple(case.geometry.shape for case in self.cases)

    def read(self, number: int) -> NDArray[np.float32]:
        """Volume or latents (C, D, H, W); errors as of `Volumes`."""
        case = self.cases[number]
        return case.home.data.model_units(case.case)

    def condition(self, number: int) -> NDArray[np.uint8] | None:
        """They are learnt as they are."""
        del number
        return None


@dataclass(frozen=True)
class LabelledVolumes(ClassedVolumes):
    """The same with the label maps that they are to belong to."""

    data: LabelledData

    def condition(self, number: int) -> NDArray[np.uint8]:
        """Label map (D, H, W); errors as of `read`."""
        return self.data.condition(self.cases[number])


def _of(data: ClassedData, cases: tuple[ClassedCase, ...]) -> ClassedVolumes:
    if isinstance(data, LabelledData):
        return LabelledVolumes(cases, data)
    return ClassedVolumes(cases)


def trained_on(data: AnyData, intensity: Intensity) -> Source:
    """Cases to train on; those of one set in the units of `intensity`."""
    if isinstance(data, PreparedData):
        return Volumes(data, data.train, intensity)
    return _of(data, data.train)


def held_out(data: AnyData, intensity: Intensity) -> Source:
    """Cases to validate with, of several sets one after the other in turn."""
    if isinstance(data, PreparedData):
        return Volumes(data, data.validation, intensity)
    by_set = [[case for case in data.validation if case.home is one] for one in data.sets]
    longest = max(map(len, by_set))
    in_turn = (cases[turn] for turn in range(longest) for cases in by_set if turn < len(cases))
    return _of(data, tuple(in_turn))


def leading(data: AnyData) -> PreparedData:
    """The set whose grid, units and preset a checkpoint names."""
    return data if isinstance(data, PreparedData) else data.sets[0].data


def shapes_of(data: AnyData) -> Sequence[Shape]:
    """Every grid that there is, the largest last."""
    sets = [leading(data)] if isinstance(data, PreparedData) else [s.data for s in data.sets]
    shapes = {one.geometry.shape for one in sets}
    return sorted(shapes, key=fewest_voxels)
