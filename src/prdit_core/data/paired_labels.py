"""Label maps that belong to scans: found by name, checked against their scan, numbers with names.

A folder of them has, for each scan, a NIfTI file of the scan's name and place below its folder:
`a/b.nii.gz` for the scan `a/b.nrrd` or the DICOM folder `a/b`, also where the scan is `a/b_0000` as
nnU-Net calls it. `labels.json` beside them may say what numbers mean: {"liver": 1, "spleen": 2}.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.discovery import SUFFIXES, suffix_of
from prdit_core.data.grid import rejected
from prdit_core.data.io import read_labels
from prdit_core.errors import InputRejected
from prdit_core.files import read_json, sha256_of, shown
from prdit_core.geometry import by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from prdit_core.data.manifest import Case
    from prdit_core.data.sources import ScanSource
    from prdit_core.volume import Volume

NAMES = "labels.json"
RECORD = "labels"  # where the record of a case says what its label map was made from
HIGHEST = 255
_FIRST_CHANNEL = "_0000"
_SAME_PLACE = 0.01  # of a voxel, by which files may round


@dataclass(frozen=True)
class LabelFolder:
    """Label maps of scans.

    Attributes
    ----------
    folder : where they are
    names : label name to number; None: nothing says what numbers mean
    """

    folder: Path
    names: dict[str, int] | None

    @classmethod
    def open(cls, folder: Path) -> LabelFolder:
        """See what is there.

        Raises
        ------
        InputRejected
            If it is no folder, or its names are no names of numbers of 0 to 255.
        """
        if not folder.is_dir():
            raise rejected(shown(folder), "there is no such folder", "check the path")
        place = folder / NAMES
        names = read_json(place)
        if names is None and not place.exists():
            return cls(folder, None)
        if not names or not all(_is_label(number) for number in names.values()):
            why = f"it does not name numbers of 0 to {HIGHEST}"
            raise rejected(shown(place), why, 'write it as {"liver": 1, "spleen": 2}')
        if len(set(names.values())) < len(names):
            raise rejected(shown(place), "two names have one number", "number them anew")
        return cls(folder, {"background": 0, **names} if 0 not in names.values() else names)

    def of(self, source: ScanSource) -> Path:
        """The label map of a scan.

        Raises
        ------
        InputRejected
            If there is none.
        """
        stem = _stem(source)
        stems = dict.fromkeys([stem, stem.with_name(stem.name.removesuffix(_FIRST_CHANNEL))])
        places = [
            self.folder / one.with_name(one.name + suffix)
            for one in stems
            for suffix in (".nii.gz", ".nii")
        ]
        for place in places:
            if place.is_file():
                return place
        raise InputRejected(
            f"it has no label map {shown(places[0].relative_to(self.folder))} in "
            f"{shown(self.folder)}; add it, or leave the scan out"
        )

    def read(self, source: ScanSource, scan: Volume) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """The label map on the grid of its scan, and what to record of it.

        Returns
        -------
        labels : (D, H, W), as the scan lies
        record : JSON: hash of the file, and which numbers there are

        Raises
        ------
        InputRejected
            If it is missing or damaged, lies on another grid, or holds anything but whole numbers
            of 0 to 255 that have a name.
        """
        place = self.of(source)
        volume = read_labels(place)
        _check_place(volume, scan, shown(place.name))
        labels = whole_numbers(volume.voxels_hu, shown(place.name))
        numbers = np.unique(labels).tolist()
        if self.names is not None:
            if unknown := sorted(set(numbers) - set(self.names.values())):
                why = f"{NAMES} has no name for its label {unknown[0]}"
                raise rejected(shown(place.name), why, "name it, or correct the map")
        return labels, {RECORD: {"source_sha256": sha256_of(place), "numbers": numbers}}

    def is_current(self, source: ScanSource, record: Mapping[str, Any]) -> bool:
        """Whether a case was made with the label map as it is now."""
        return bool(record.get(RECORD, {}).get("source_sha256") == sha256_of(self.of(source)))


def names_found(cases: Iterable[Case]) -> dict[str, int]:
    """Names for the numbers that label maps hold, where nothing says what they mean."""
    numbers = {
        number for case in cases for number in case.record.get(RECORD, {}).get("numbers", ())
    }
    return {f"label-{number}" if number else "background": number for number in sorted(numbers)}


def _stem(source: ScanSource) -> Path:
    """Path of a scan below the folder that the user gave, without suffix."""
    parts = Path(source.name).parts
    inside = Path(*parts[1:]) if len(parts) > 1 else Path(source.name)
    suffix = suffix_of(inside)
    return inside.with_name(inside.name[: -len(suffix)]) if suffix in SUFFIXES else inside


def _check_place(labels: Volume, scan: Volume, name: str) -> None:
    """Refuse another grid, and one that lies elsewhere in the patient or is turned."""
    if labels.shape != scan.shape:
        why = f"it has {by(labels.shape)} voxels (z, y, x), its scan {by(scan.shape)}"
        raise rejected(name, why, "resample it to the scan's grid")
    corners = np.array([(x, y, z, 1) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    corners[:, :3] *= np.array(scan.shape[::-1]) - 1
    away = np.linalg.norm((corners @ (labels.affine - scan.affine).T)[:, :3], axis=1).max()
    if away > _SAME_PLACE * min(scan.spacing_mm):
        why = f"it lies elsewhere than its scan, or turned: its corners are {away:.3g} mm off"
        raise rejected(name, why, "give the map of this scan, with the scan's geometry")


def whole_numbers(voxels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Labels as uint8; `InputRejected` for what is none."""
    bad = ~np.isfinite(voxels) | (voxels < 0) | (voxels > HIGHEST)
    bad |= np.where(bad, 0, voxels) % 1 != 0
    if bad.any():
        why = f"it holds {voxels[bad].flat[0]:g}, but labels are whole numbers of 0 to {HIGHEST}"
        raise rejected(name, why, "correct the map; probabilities are no labels")
    return np.asarray(voxels, np.uint8)


def _is_label(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= HIGHEST
