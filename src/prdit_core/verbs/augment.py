"""Labelled pairs to train others on: label maps, deformed anew, and volumes that belong to them.

What makes a volume of a label map is given: it may be a model or anything else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from prdit_core.data.deformation import USUAL, deformed
from prdit_core.errors import OutputError, UsageError
from prdit_core.files import check_writable, read_json, sha256_of, shown, write_json
from prdit_core.machine import package_version
from prdit_core.provenance import DIGEST, SYNTHETIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prdit_core.data.deformation import Deformation
    from prdit_core.data.labelled_pairs import PairFiles, PairFolder
    from prdit_core.volume import Volume

    Paint = Callable[[Volume, int], Volume]

SETTINGS = "augment.json"


@dataclass(frozen=True)
class PairWritten:
    """A pair that is there.

    Attributes
    ----------
    index, total : number of the pair from 0, and how many there will be
    made : False: it was there already
    """

    index: int
    total: int
    files: PairFiles
    made: bool


def augment_steps(
    maps: Sequence[Volume],
    paint: Paint,
    pairs: PairFolder,
    *,
    count: int,
    painter: Mapping[str, Any],
    deformation: Deformation = USUAL,
    seed: int = 0,
) -> Iterator[PairWritten]:
    """Write so many pairs, one event for each; what is there already stays.

    Pair i is of map i modulo their number, deformed by (seed, i): any number of them, in any order,
    are the same.

    Parameters
    ----------
    maps : label maps
    paint : (labels, i) -> the volume that belongs to them, on their grid
    pairs : where they go, with the names of their labels
    painter : all that `paint` depends on, as JSON

    Raises
    ------
    UsageError
        If there is no map, or none is to be made.
    OutputError
        If the folder cannot be written, or holds pairs of other settings.
    InputRejected
        If a volume does not lie on the grid of its labels, or a label has no name.
    """
    if not maps or count < 1:
        raise UsageError("give at least one label map, and make at least one pair")
    settings = {
        "maps": [sha256(labels.voxels_hu.tobytes()).hexdigest() for labels in maps],
        "labels": pairs.numbers,
        "layout": pairs.layout,
        "painter": dict(painter),
        "deformation": asdict(deformation),
        "seed": seed,
        "version": package_version(),
    }
    _claim(pairs, settings)
    for index in range(count):
        files = pairs.files(f"synthetic_{index:05d}")
        made = not _whole(files)
        if made:
            labels = deformed(maps[index % len(maps)], deformation, seed=seed, index=index)
            painted = paint(labels, index)
            units = painted.units
            about = {"notice": SYNTHETIC, "description": SYNTHETIC}
            marked = replace(labels, metadata={**labels.metadata, **about})
            volume = replace(painted, metadata={**about, **painted.metadata})
            pairs.write(f"synthetic_{index:05d}", volume, marked)
            pairs.write_description(index + 1, units, SYNTHETIC)
        yield PairWritten(index, count, files, made)


def _claim(pairs: PairFolder, settings: dict[str, Any]) -> None:
    """Take a folder that is empty, or that holds pairs of the same settings."""
    check_writable(pairs.folder)
    file = pairs.folder / SETTINGS
    known = read_json(file)
    if known is None and any(pairs.folder.iterdir()):
        raise OutputError(f"{shown(pairs.folder)} holds something else; choose an empty folder")
    if known is not None and known != settings:
        unlike = ", ".join(key for key in settings if known.get(key) != settings[key])
        raise OutputError(
            f"{shown(pairs.folder)} holds pairs of other settings ({unlike}); choose another folder"
        )
    write_json(file, settings)


def _whole(files: PairFiles) -> bool:
    """Whether a pair is there as its record says."""
    record = read_json(files.record)
    if record is None or not (files.volume.is_file() and files.labels.is_file()):
        return False
    return bool(record.get(DIGEST) == sha256_of(files.volume))
