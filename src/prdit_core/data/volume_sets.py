"""A set of volumes on one grid, read one at a time: what a model made, or real volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from prdit_core.data.datasets import MANIFEST, PreparedData
from prdit_core.data.io import AS_STATED, find_cases, read_silently
from prdit_core.data.records import maker_of
from prdit_core.data.sources import named
from prdit_core.errors import InputRejected
from prdit_core.files import shown
from prdit_core.intensity import HU
from prdit_core.provenance import UNITS
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prdit_core.data.datasets import Case
    from prdit_core.data.io import ReadOptions

SetPart = Literal["all", "train", "validation"]
FEWEST = 2
_SAME_SPACING = 1e-3  # relative; NIfTI keeps the digits of float32


class VolumeSet:
    """Volumes of one shape and spacing in a folder.

    Attributes
    ----------
    path : the folder
    names : of the volumes, in order: paths below the folder, or ids of a prepared data set
    part : which cases of a prepared data set these are
    shape, spacing_mm : (z, y, x) of the first volume, which all others must have
    units : of the first volume's voxels

    Examples
    --------
    >>> fakes = VolumeSet.open("made")  # doctest: +SKIP
    >>> fakes.read(0).voxels_hu.shape  # doctest: +SKIP
    (64, 64, 64)
    """

    def __init__(self, path: Path, source: _Source, part: SetPart) -> None:
        self.path, self.part = path, part
        self._source = source
        self.names = source.names
        if len(self.names) < FEWEST:
            raise InputRejected(
                f"{self} holds {_counted(len(self.names), part)}; "
                f"to compare sets each needs {FEWEST} or more"
            )
        first = source.read(0)
        self.shape, self.spacing_mm, self.units = first.shape, first.spacing_mm, first.units

    @classmethod
    def open(
        cls, folder: str | Path, part: SetPart = "all", options: ReadOptions = AS_STATED
    ) -> VolumeSet:
        """Find the volumes of a folder; only the first is read.

        Parameters
        ----------
        folder
            What `generate` wrote, scans of any format, or a prepared data set.
        part
            Of a prepared data set: all cases, those to train on, or the held-out ones.
        options
            What the files do not say.

        Raises
        ------
        UsageError
            If the path is empty.
        InputRejected
            If there are fewer than two volumes, or the first cannot be read.
        """
        path = named(folder)
        if (path / MANIFEST).is_file():
            return cls(path, _Prepared(PreparedData.open(path), part), part)
        return cls(path, _Files(path, options), "all")

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return shown(self.path)

    def __iter__(self) -> Iterator[Volume]:
        """All volumes in order, one at a time."""
        return (self.read(number) for number in range(len(self)))

    def read(self, number: int) -> Volume:
        """Volume `number`, from 0.

        Raises
        ------
        InputRejected
            If it cannot be read, holds NaN, or lies on another grid than the first.
        """
        volume = self._source.read(number)
        if not np.all(np.isfinite(volume.voxels_hu)):
            raise InputRejected(f"{self._named(number)} holds NaN or infinite voxels; repair it")
        self._check_grid(volume, number)
        return volume

    def find(self, name: str) -> int:
        """Number of the volume of that name."""
        return self.names.index(name)

    def lies_on(self, shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> bool:
        """Whether this is the grid of the volumes, (z, y, x); spacings may differ by rounding."""
        return self.shape == shape and _alike(self.spacing_mm, spacing_mm)

    def check_comparable(self, other: VolumeSet) -> None:
        """Raise `InputRejected` unless both sets lie on the same grid."""
        if self.lies_on(other.shape, other.spacing_mm):
            return
        raise InputRejected(
            f"{other} has {_grid(other.shape, other.spacing_mm)}, but {self} has "
            f"{_grid(self.shape, self.spacing_mm)}; bring both to one grid first"
        )

    def checkpoint(self) -> str | None:
        """SHA-256 of the checkpoint that made all these volumes, where their records say so."""
        made = {self._source.checkpoint(number) for number in range(len(self))}
        return made.pop() if len(made) == 1 else None

    def _check_grid(self, volume: Volume, number: int) -> None:
        if volume.shape != self.shape:
            raise self._mixed(number, "voxels", str(volume.shape), str(self.shape))
        if not _alike(volume.spacing_mm, self.spacing_mm):
            actual, wanted = _millimetres(volume.spacing_mm), _millimetres(self.spacing_mm)
            raise self._mixed(number, "spacing", actual, wanted)

    def _mixed(self, number: int, what: str, actual: str, wanted: str) -> InputRejected:
        return InputRejected(
            f"{self._named(number)} has {what} {actual}, but {shown(self.names[0])} has {wanted}; "
            "a set has one grid: resample it, or put it elsewhere"
        )

    def _named(self, number: int) -> str:
        return f"{self}: {shown(self.names[number])}"


class _Source(Protocol):
    """Where the volumes of a set come from."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def read(self, number: int) -> Volume: ...

    def checkpoint(self, number: int) -> str | None: ...


class _Files:
    """Scans below a folder."""

    def __init__(self, folder: Path, options: ReadOptions) -> None:
        self._options = options
        self._paths = find_cases(folder)
        inside = folder.is_dir()
        self.names = tuple(
            path.relative_to(folder).as_posix() if inside else path.name for path in self._paths
        )

    def read(self, number: int) -> Volume:
        return read_silently(self._paths[number], self._options)

    def checkpoint(self, number: int) -> str | None:
        """As the record beside a generated volume says."""
        return maker_of(self._paths[number])


class _Prepared:
    """Cases of a prepared data set."""

    def __init__(self, data: PreparedData, part: SetPart) -> None:
        self._data = data
        parts: dict[SetPart, tuple[Case, ...]] = {
            "all": data.cases,
            "train": data.train,
            "validation": data.validation,
        }
        self._cases = parts[part]
        self.names = tuple(case.id for case in self._cases)

    def read(self, number: int) -> Volume:
        case = self._cases[number]
        units = self._data.intensity.units
        metadata = {"case": case.id} if units == HU else {"case": case.id, UNITS: units}
        return Volume(self._data.checked(case), np.array(case.affine), metadata)

    def checkpoint(self, number: int) -> str | None:
        return None


def _counted(count: int, part: SetPart) -> str:
    kind = {"all": "", "train": "training ", "validation": "held-out "}[part]
    return f"{count} {kind}volume{'' if count == 1 else 's'}"


def _alike(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return bool(np.allclose(a, b, rtol=_SAME_SPACING, atol=0))


def _grid(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> str:
    return f"{' x '.join(map(str, shape))} voxels of {_millimetres(spacing_mm)}"


def _millimetres(spacing_mm: tuple[float, ...]) -> str:
    return " x ".join(f"{edge:.4g}" for edge in spacing_mm) + " mm"
