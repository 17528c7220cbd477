"""Files that `generate` and `reconstruct` write; how a rerun finds out what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prdit_core.data.discovery import SUFFIXES as VOLUME_SUFFIXES
from prdit_core.data.discovery import suffix_of
from prdit_core.data.io import canonical, write_volume
from prdit_core.data.nifti import read_nifti
from prdit_core.data.records import recorded
from prdit_core.errors import OutputError, UsageError
from prdit_core.files import check_writable, read_json, sha256_of, shown, write_json
from prdit_core.intensity import HU
from prdit_core.machine import package_version
from prdit_core.pictures import WINDOW_HU, Panel, save_picture
from prdit_core.provenance import CLASS, SYNTHETIC, UNITS, torch_version, volume_record

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from prdit_core.config import SamplingConfig
    from prdit_core.volume import Volume

SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
REPORT = "report.json"


@dataclass(frozen=True)
class VolumeSettings:
    """What a generated volume depends on besides seed and index; equals may share a folder."""

    config: SamplingConfig
    checkpoint_sha256: str
    shape: list[int]
    device: str
    threads: int
    linear: str
    branches: list[str] | None  # as records have them
    label: str | None = None
    condition: dict[str, Any] | None = None

    def recorded(self) -> dict[str, Any]:
        """As the JSON records name them, with the versions."""
        apart = ("config", "label")
        about = {name: value for name, value in vars(self).items() if name not in apart}
        about |= {} if self.label is None else {CLASS: self.label}
        versions = {"version": package_version(), "torch": torch_version()}
        return {**self.config.model_dump(), **about, **versions}


class Outputs:
    """Places of `count` volumes from index `first`: one named file, or numbered in a folder."""

    def __init__(self, out: Path, *, seed: int, first: int, count: int) -> None:
        self.single = out if out.name.lower().endswith(SUFFIXES) else None
        if self.single is not None and count != 1:
            raise UsageError(f"{shown(out)} is one file, but --count is {count}; give a folder")
        if self.single is None and out.is_file():
            raise UsageError(f"{shown(out)} is a file; give a folder, or a name ending in .nii.gz")
        if self.single is None and suffix_of(out) in VOLUME_SUFFIXES and not out.is_dir():
            choices = ", ".join(SUFFIXES)
            raise UsageError(f"cannot generate {shown(out.name)}: choose {choices}, or a folder")
        self.folder = out.parent if self.single is not None else out
        self.seed = seed
        self.indices = range(first, first + count)

    def check_writable(self) -> None:
        """Raise `OutputError` before anything is computed if nothing could be written."""
        check_writable(self.folder)

    def volume_file(self, index: int) -> Path:
        """Where volume `index` lies."""
        name = f"seed-{self.seed}_index-{index:04d}.nii.gz"
        return self.single if self.single is not None else self.folder / name

    def unfinished(self, wanted: Mapping[str, Any], *, overwrite: bool) -> list[int]:
        """Indices still to be made.

        Parameters
        ----------
        wanted : what records of volumes of the same settings have

        Raises
        ------
        OutputError
            If a volume there was made with other settings, and is not to be overwritten.
        """
        if not overwrite:
            self._refuse_foreign_files()
        for file in self._records():
            unlike = _unlike(file, wanted)
            if unlike and overwrite:
                self._remove(file)
            elif unlike:
                raise OutputError(
                    f"{shown(file)} tells of other settings ({unlike}); "
                    "choose another --out, or add --overwrite"
                )
        return [index for index in self.indices if not self._intact(index)]

    def write(self, index: int, volume: Volume) -> Path:
        """Write volume, picture and, last, the record that says they are complete."""
        file = write_volume(volume, self.volume_file(index))
        low, high = volume.metadata.get("window_hu", WINDOW_HU)
        upright = canonical(volume)  # one on the grid of a label map may lie in any way
        panel = Panel(
            upright.voxels_hu, upright.spacing_mm, (low, high), _caption(volume.metadata, index)
        )
        save_picture([panel], _beside(file, ".png"))
        write_json(_beside(file, ".json"), volume_record(volume, file, file))
        return file

    def read(self, index: int) -> Volume:
        """A volume that was written, axes as they were."""
        file = self.volume_file(index)
        stored = read_nifti(file, frame=None, assume_orientation=None)
        return replace(stored, metadata=recorded(file))

    def files(self, indices: Sequence[int]) -> list[dict[str, str]]:
        """Paths of some of the volumes asked for."""
        return [
            {
                "volume": str(file),
                "picture": str(_beside(file, ".png")),
                "record": str(_beside(file, ".json")),
            }
            for file in map(self.volume_file, indices)
        ]

    def _records(self) -> list[Path]:
        """Records of all volumes that may not be mixed with those to come."""
        if self.single is not None:
            return [_beside(self.single, ".json")]
        return sorted(self.folder.glob("seed-*_index-*.json"))

    def _intact(self, index: int) -> bool:
        file = self.volume_file(index)
        record = read_json(_beside(file, ".json"))
        if record is None or not file.is_file() or not _beside(file, ".png").is_file():
            return False
        return sha256_of(file) == record.get("sha256")

    def _refuse_foreign_files(self) -> None:
        """Refuse a named file, or one where its picture or record goes, that is somebody's.

        Numbered names are this command's own; a stopped run may have left some without a record.
        """
        file = self.single
        if file is None or (read_json(_beside(file, ".json")) or {}).get("volume") == file.name:
            return
        for place in (file, _beside(file, ".png"), _beside(file, ".json")):
            if place.exists():
                raise OutputError(
                    f"{shown(place)} exists, and no record says that it belongs to a volume "
                    f"{shown(file.name)}; choose another --out, or add --overwrite"
                )

    def _remove(self, record: Path) -> None:
        """Delete a volume to be overwritten, its record first so that it never looks whole."""
        record.unlink(missing_ok=True)
        record.with_suffix(".png").unlink(missing_ok=True)
        volume = self.single or record.with_suffix(".nii.gz")
        volume.unlink(missing_ok=True)


def refuse_other_report(folder: Path, wanted: Mapping[str, Any], names: Collection[str]) -> None:
    """Refuse a folder that is to be replaced, unless a report there has the settings wanted.

    Parameters
    ----------
    names : of the files that may be in it

    Raises
    ------
    OutputError
        If it holds something else.
    """
    if not folder.exists():
        return
    report = folder / REPORT
    known = folder.is_dir() and {file.name for file in folder.iterdir()} <= set(names)
    unlike = (
        _unlike(report, wanted) if known and read_json(report) is not None else "no report of ours"
    )
    if unlike:
        raise OutputError(
            f"{shown(folder)} is there and holds something else ({unlike}); choose another --out, "
            "or add --overwrite"
        )


def _caption(metadata: Mapping[str, Any], index: int) -> str:
    """One line above a picture."""
    notice = metadata.get("notice", SYNTHETIC)
    if "checkpoint" not in metadata:
        units = "" if metadata.get(UNITS, HU) == HU else f" | {metadata[UNITS]}"
        return f"{notice}{units} | {metadata['method']}"
    what = [f" {metadata[key]}" for key in (CLASS, UNITS) if key in metadata]
    return (
        f"{notice} | {metadata['checkpoint']}{''.join(what)} seed {metadata['seed']} "
        f"index {index} | {metadata['sampler']} {metadata['steps']} steps"
    )


def _unlike(record: Path, wanted: Mapping[str, Any]) -> str:
    """In what a recorded volume differs from the settings wanted; empty if in nothing."""
    there = read_json(record)
    if there is None:
        return ""
    return ", ".join(
        f"{name} {there.get(name)} instead of {value}"
        for name, value in wanted.items()
        if there.get(name) != value
    )


def _beside(file: Path, suffix: str) -> Path:
    stem = next(file.name[: -len(s)] for s in SUFFIXES if file.name.lower().endswith(s))
    return file.with_name(stem + suffix)
