"""Several prepared data sets and the classes of what they show, named by one file.

{"chest": ["chest-64", "chest-128"], "head": ["head-64"]}

Folders are relative to the file. The order of the classes numbers them. Sets may have other sizes
and fields of view; those of one class share its units.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prdit_core.data.datasets import PreparedData
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from prdit_core.data.manifest import Case
    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity

FILE_BYTES = 2**20
_CLASS = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class ClassedSet:
    """A prepared data set and what it shows.

    Attributes
    ----------
    label : name of its class
    number : of its class, from 0
    place : its folder as the file names it
    """

    label: str
    number: int
    place: str
    data: PreparedData


@dataclass(frozen=True)
class ClassedCase:
    """A case with its class, grid and units.

    Attributes
    ----------
    home : the set it lies in
    """

    home: ClassedSet
    case: Case

    @property
    def name(self) -> str:
        """The set's folder and the id: unique among all sets."""
        return f"{self.home.place}/{self.case.id}"

    @property
    def label(self) -> str:
        """Name of the class."""
        return self.home.label

    @property
    def number(self) -> int:
        """Number of the class, from 0."""
        return self.home.number

    @property
    def geometry(self) -> Geometry:
        """Shape (D, H, W) and spacing."""
        return self.home.data.geometry

    @property
    def intensity(self) -> Intensity:
        """Between the units of the voxels and the model's."""
        return self.home.data.intensity

    def checked(self) -> NDArray[Any]:
        """As `PreparedData.checked`: voxels (D, H, W), or latents (C, d, h, w), proved sound.

        Raises
        ------
        InputRejected
            If the file is missing, damaged or was changed since.
        """
        return self.home.data.checked(self.case)

    def labels(self) -> NDArray[np.uint8]:
        """Label map (D, H, W), numbers as the set's `label_names`; see `PreparedData.labels_of`."""
        return self.home.data.labels_of(self.case)


class ClassedData:
    """The sets that a file names, open for reading.

    Attributes
    ----------
    path : the file
    classes : names in the order of the file; a class's number is its place here
    sets : in the order of the file

    Examples
    --------
    >>> data = ClassedData.open("classes.json")  # doctest: +SKIP
    >>> [(case.label, case.geometry.shape) for case in data.train]  # doctest: +SKIP
    [('chest', (64, 64, 64)), ('chest', (128, 128, 128)), ('head', (64, 64, 64))]
    """

    def __init__(self, path: Path, sets: Sequence[ClassedSet]) -> None:
        self.path = path
        self.sets = tuple(sets)
        self.classes = tuple(dict.fromkeys(one.label for one in sets))

    @classmethod
    def alone(cls, data: PreparedData, label: str) -> ClassedData:
        """One data set, all of it of one class."""
        return cls(data.folder, [ClassedSet(label, 0, data.folder.name, data)])

    @classmethod
    def open(cls, path: str | Path, kind: type[PreparedData] = PreparedData) -> ClassedData:
        """Read the file and open every set, as `PreparedData.open` does.

        Parameters
        ----------
        kind : what the sets hold

        Raises
        ------
        InputRejected
            If the file is damaged or says anything else; if a set is missing, damaged or named
            twice; if sets of one class differ in window or units; if two sets hold the same
            volume; if a case is to train on in one and held out in another.
        """
        path = Path(path)
        named = _read(path)
        sets = [
            ClassedSet(label, number, place, kind.open(path.parent / place))
            for number, (label, places) in enumerate(named.items())
            for place in places
        ]
        _check_places(path, sets)
        _check_units(path, sets)
        _check_cases(path, sets)
        return cls(path, sets)

    @cached_property
    def train(self) -> tuple[ClassedCase, ...]:
        """Cases to train on, set by set in the order of the file."""
        return tuple(ClassedCase(one, case) for one in self.sets for case in one.data.train)

    @cached_property
    def validation(self) -> tuple[ClassedCase, ...]:
        """Held-out cases, set by set in the order of the file."""
        return tuple(ClassedCase(one, case) for one in self.sets for case in one.data.validation)

    @cached_property
    def digest(self) -> str:
        """SHA-256 that changes with any set, any class and their order, not with folders' names."""
        content = [(one.label, one.data.digest) for one in self.sets]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def intensity(self, label: str) -> Intensity:
        """Units of a class."""
        return next(one.data.intensity for one in self.sets if one.label == label)

    def verify(self) -> None:
        """Compare the hash of every file with its manifest; see `PreparedData.verify`."""
        for one in self.sets:
            one.data.verify()


def open_data(path: str | Path) -> PreparedData | ClassedData:
    """What `--data` names: the folder of a prepared data set, or a file that names several.

    Raises
    ------
    InputRejected
        See `PreparedData.open` and `ClassedData.open`.
    """
    path = Path(path)
    names_sets = path.is_file() or (path.suffix == ".json" and not path.is_dir())
    return ClassedData.open(path) if names_sets else PreparedData.open(path)


def one_grid(data: PreparedData | ClassedData, what: str) -> PreparedData:
    """The data for what knows one grid and no classes, as `what` does ("stage local").

    Raises
    ------
    UsageError
        If they are several sets.
    """
    if isinstance(data, PreparedData):
        return data
    places = ", ".join(one.place for one in data.sets)
    raise UsageError(
        f"{what} takes one data set of one grid; {shown(data.path)} names several: give --data "
        f"one of {shown(places)}"
    )


def folders_of(data: PreparedData | ClassedData) -> list[Path]:
    """Folders of the data set, or of all that a file names."""
    return [data.folder] if isinstance(data, PreparedData) else [s.data.folder for s in data.sets]


def _read(path: Path) -> dict[str, list[str]]:
    """Class to folders, as the file has them."""
    try:
        if path.stat().st_size > FILE_BYTES:
            raise _refused(path, f"it is larger than {FILE_BYTES} bytes")
        content = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except OSError as error:
        raise _refused(path, f"it cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _refused(path, str(error)) from error
    if not isinstance(content, dict) or not content:
        raise _refused(path, "it has no class")
    for label, places in content.items():
        if not _CLASS.fullmatch(label):
            raise _refused(path, f"{label!r} is no name of a class (a-z, 0-9 and -)")
        if not _is_places(places):
            raise _refused(path, f"{label} has no list of folders")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once; JSON itself would keep the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"it has {double!r} twice")
    return content


def _is_places(places: Any) -> bool:
    if not isinstance(places, list) or not places:
        return False
    return all(isinstance(place, str) and place.strip() for place in places)


def _check_places(path: Path, sets: Sequence[ClassedSet]) -> None:
    seen: dict[Path, str] = {}
    for one in sets:
        folder = one.data.folder.resolve()
        if folder in seen:
            raise _refused(path, f"{seen[folder]} and {one.place} are one folder")
        seen[folder] = one.place


def _check_units(path: Path, sets: Sequence[ClassedSet]) -> None:
    """Sets of one class are in the units of its first."""
    first: dict[str, ClassedSet] = {}
    for one in sets:
        other = first.setdefault(one.label, one)
        if one.data.intensity != other.data.intensity:
            units = ", ".join(f"{s.place} has {s.data.intensity}" for s in (other, one))
            raise _refused(path, f"sets of class {one.label} differ in units: {units}")


def _check_cases(path: Path, sets: Sequence[ClassedSet]) -> None:
    """No volume is there twice, and no patient that one set holds out is trained on in another.

    Ids come from the scan, so one scan at two sizes has one id.
    """
    volumes: dict[str, str] = {}
    parts: dict[str, tuple[bool, str]] = {}
    for one in sets:
        held_out = {case.id for case in one.data.validation}
        for case in one.data.cases:
            other = volumes.setdefault(case.sha256, one.place)
            if other != one.place:
                raise _refused(path, f"{other} and {one.place} hold the same {case.id}")
            part, place = parts.setdefault(case.id, (case.id in held_out, one.place))
            if part != (case.id in held_out):
                here, there = (one.place, place) if part else (place, one.place)
                raise _refused(
                    path,
                    f"{case.id} is to train on in {here}, held out in {there}; prepare both "
                    "of the same scans with one seed, or of others",
                )


def _refused(path: Path, why: str) -> InputRejected:
    return InputRejected(shown(f"{path.name} names no classes of data sets: {why}"))
