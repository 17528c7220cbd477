"""Label maps of files, by what their numbers mean: for a model that knows labels by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.data.datasets import MANIFEST, PreparedData
from prdit_core.data.grid import rejected
from prdit_core.data.io import read_labels
from prdit_core.data.paired_labels import LabelFolder, whole_numbers
from prdit_core.errors import InputRejected
from prdit_core.files import sha256_of, shown
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from prdit_core.data.manifest import Case

SOURCE = "labels_from"  # in the metadata of a label map: its file and that file's SHA-256


def read_label_map(path: Path, names: Sequence[str], *, as_stored: bool = False) -> Volume:
    """A label map whose numbers are those of a model.

    Its numbers mean what `labels.json` beside it says ({"liver": 1, "spleen": 2}), or without such
    a file what they mean to the model: 1 is the first of `names`.

    Parameters
    ----------
    as_stored : leave its axes as the file has them

    Returns
    -------
    Volume
        uint8; its metadata name the file and its SHA-256.

    Raises
    ------
    InputRejected
        If the file is missing, damaged, empty, or holds anything but labels that are known.
    """
    name = shown(path.absolute().name)
    if not path.is_file():
        raise rejected(name, "there is no such file", "check the path")
    stored = read_labels(path, as_stored=as_stored)
    labels = whole_numbers(stored.voxels_hu, name)
    if not labels.any():
        raise rejected(name, "nothing is labelled, every voxel is 0", "paint at least one label")
    meant = LabelFolder.open(path.absolute().parent).names
    known = renumbered(labels, meant or numbered(names), names, name)
    source = {"file": path.name, "sha256": sha256_of(path)}
    return replace(stored, voxels_hu=known, metadata={SOURCE: source})


def label_maps(place: Path, names: Sequence[str]) -> list[Volume]:
    """All label maps of a folder, or of a prepared data set that has some; see `read_label_map`.

    Raises
    ------
    InputRejected
        If there is none, or one cannot be read or has a label that is not known.
    """
    if (place / MANIFEST).is_file():
        data = PreparedData.open(place)
        return [_of_case(data, case, names) for case in data.cases]
    files = sorted(file for end in ("*.nii", "*.nii.gz") for file in place.rglob(end))
    if not files:
        what = "there is no such folder" if not place.is_dir() else "it holds no .nii.gz or .nii"
        raise rejected(shown(place), what, "give a folder of label maps, or a prepared data set")
    return [read_label_map(file, names) for file in files]


def _of_case(data: PreparedData, case: Case, names: Sequence[str]) -> Volume:
    where = f"case {case.id} in {shown(data.folder)}"
    known = renumbered(data.labels_of(case), data.label_names, names, where)
    source = {"file": case.id, "sha256": case.labels_sha256}
    return Volume(known, np.array(case.affine), {SOURCE: source})


def in_words(names: Sequence[str]) -> str:
    """Labels of a model with their numbers."""
    return ", ".join(f"{number} {name}" for number, name in enumerate(names, 1))


def numbered(names: Sequence[str]) -> dict[str, int]:
    """What the numbers of a label map mean to a model with these labels."""
    return {name: number for number, name in enumerate(names, 1)}


def names_of(numbers: Mapping[str, int]) -> list[str]:
    """Names of labels in the order of their numbers, without background, which is 0."""
    return [name for name in sorted(numbers, key=lambda n: numbers[n]) if numbers[name]]


def renumbered(
    labels: NDArray[np.uint8],
    numbers: Mapping[str, int],
    names: Sequence[str],
    where: str = "the label map",
) -> NDArray[np.uint8]:
    """A label map whose numbers are those of its names: 1 is the first of `names`.

    Parameters
    ----------
    numbers : what each name has now
    where : the map, for people

    Raises
    ------
    InputRejected
        If it has a label that is none of them.
    """
    table = np.full(256, 255, np.uint8)
    table[0] = 0
    for name, number in numbers.items():
        if number and name in names:
            table[number] = names.index(name) + 1
    made = table[labels]
    if (made == 255).any():
        called = {number: name for name, number in numbers.items()}
        bad = [int(number) for number in np.unique(labels[made == 255])]
        words = ", ".join(f"{n} {called[n]}" if n in called else str(n) for n in bad)
        raise InputRejected(
            f"{where} has label {words}, which the model does not know; it knows "
            f"{in_words(names)}: number or name them so, or leave them out"
        )
    return made
