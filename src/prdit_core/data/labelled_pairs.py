"""Pairs of volume and label map, in nnU-Net's raw layout or side by side.

nnU-Net's: `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz` and `dataset.json` of its version 2,
with labels from 0 without gaps (documentation/dataset_format.md of nnU-Net). Records lie in a
folder of their own there, since its reader knows no such files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from prdit_core.data.io import write_labels, write_volume
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import write_json
from prdit_core.intensity import HU
from prdit_core.provenance import volume_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from prdit_core.volume import Volume

LayoutName = Literal["nnunet", "nifti"]
DATASET = "dataset.json"
BACKGROUND = "background"


@dataclass(frozen=True)
class PairFiles:
    """Where a pair lies."""

    volume: Path
    labels: Path
    record: Path


@dataclass(frozen=True)
class PairFolder:
    """A folder of pairs.

    Attributes
    ----------
    names : of the labels, by number; 0 is background
    layout : "nnunet", or "nifti": `CASE.nii.gz`, `CASE_labels.nii.gz` and `CASE.json`

    Raises
    ------
    UsageError
        If two labels have one name, or 0 is named otherwise than `BACKGROUND`.
    """

    folder: Path
    names: Mapping[int, str]
    layout: LayoutName = "nnunet"

    def __post_init__(self) -> None:
        named = {number: name for number, name in self.names.items() if number}
        if len({BACKGROUND, *named.values()}) != len(named) + 1:
            raise UsageError("two labels have one name; give each its own, and none background")
        if self.names.get(0, BACKGROUND) != BACKGROUND:
            raise UsageError(
                f"label 0 is background, not {self.names[0]}; number the others from 1"
            )

    @property
    def numbers(self) -> dict[str, int]:
        """Of the labels as they are written: nnU-Net's have no gaps."""
        known = sorted(number for number in self.names if number)
        if self.layout == "nifti":
            return {BACKGROUND: 0, **{self.names[number]: number for number in known}}
        return {BACKGROUND: 0, **{self.names[n]: place for place, n in enumerate(known, 1)}}

    def files(self, case: str) -> PairFiles:
        """Where a case lies."""
        if self.layout == "nifti":
            paths = (self.folder / f"{case}{end}" for end in (".nii.gz", "_labels.nii.gz", ".json"))
            return PairFiles(*paths)
        return PairFiles(
            self.folder / "imagesTr" / f"{case}_0000.nii.gz",
            self.folder / "labelsTr" / f"{case}.nii.gz",
            self.folder / "records" / f"{case}.json",
        )

    def write(self, case: str, volume: Volume, labels: Volume) -> PairFiles:
        """Write a pair, and last the record, which says that it is whole.

        Raises
        ------
        InputRejected
            If they lie on different grids, or a label has no name.
        """
        if volume.shape != labels.shape or not np.allclose(volume.affine, labels.affine, atol=1e-3):
            raise InputRejected(
                f"{case}: the volume, {volume.shape} voxels, does not lie on the grid of its "
                f"labels, {labels.shape}; make it on that grid"
            )
        files = self.files(case)
        for file in (files.volume, files.labels, files.record):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_labels(replace(labels, voxels_hu=self._numbered(labels, case)), files.labels)
        write_volume(volume, files.volume)
        record = volume_record(volume, files.volume, files.volume)
        about = {"file": files.labels.name, "numbers": self.numbers, **labels.metadata}
        write_json(files.record, {**record, "labels": about})
        return files

    def write_description(self, count: int, units: str, about: str) -> Path | None:
        """Write nnU-Net's `dataset.json`; nothing beside other files.

        Parameters
        ----------
        count : of the cases
        units : of the volumes; nnU-Net treats channels called CT by their HU
        about : one line on what they are
        """
        if self.layout == "nifti":
            return None
        content: dict[str, Any] = {
            "channel_names": {"0": "CT" if units == HU else "MR"},
            "labels": self.numbers,
            "numTraining": count,
            "file_ending": ".nii.gz",
            "description": about,
        }
        return write_json(self.folder / DATASET, content)

    def _numbered(self, labels: Volume, case: str) -> Any:
        known = {number: self.numbers[name] for number, name in self.names.items() if number}
        table = np.full(256, -1)
        table[[0, *known]] = [0, *known.values()]
        there = np.unique(labels.voxels_hu)
        unknown = [int(label) for label in there if not 0 <= label <= 255 or table[int(label)] < 0]
        if unknown:
            raise InputRejected(
                f"{case}: label {', '.join(map(str, unknown))} has no name; name all of them"
            )
        return table[labels.voxels_hu.astype(np.intp)].astype(np.uint8)
