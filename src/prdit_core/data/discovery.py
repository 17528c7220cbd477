"""Which scans lie below a folder."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from prdit_core.data.dicom_slices import (
    each_once,
    looks_like_dicom,
    series_and_instance,
    walk_files,
)
from prdit_core.data.grid import rejected
from prdit_core.files import shown

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz")


def find_cases(source: str | Path) -> list[Path]:
    """The scans at or below `source`, sorted: volume files and folders of DICOM series.

    A series that is spread over folders is found as the folder that holds them all, and loose
    slices beside folders with slices as single files, so that none is counted twice.

    Raises
    ------
    InputRejected
        If `source` does not exist, or a folder in it cannot be listed.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise rejected(shown(source.name), "there is no such file or folder", "check the path")
    slices: dict[Path, list[Path]] = defaultdict(list)
    visible = [file for file in walk_files(source) if not file.name.startswith(".")]
    # Before links are sorted out, since the file behind one need not have a suffix.
    volumes = {file for file in visible if suffix_of(file) in SUFFIXES}
    for file in each_once(file for file in visible if file not in volumes):
        if looks_like_dicom(file):
            slices[file.parent].append(file)
    return sorted({*each_once(sorted(volumes)), *_series_folders(slices)})


def suffix_of(path: Path) -> str:
    """The lower-case suffix, ".nii.gz" taken as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _series_folders(slices: dict[Path, list[Path]]) -> set[Path]:
    """One path per series, judged by the first file of each folder to stay fast."""
    outer = {parent for folder in slices for parent in folder.parents}
    instances: set[str] = set()
    by_series: dict[str | Path, list[Path]] = defaultdict(list)
    for folder, files in slices.items():
        for file in files if folder in outer else files[:1]:
            series, instance = series_and_instance(file)
            copied = instance != "" and instance in instances
            instances.add(instance)
            by_series[folder if series is None or copied else series].append(file)
    return {_home(files, outer) for files in by_series.values()}


def _home(files: list[Path], outer: set[Path]) -> Path:
    """The closest folder that holds all files; the file itself where it is alone among others."""
    folder = files[0].parent
    while not all(file.is_relative_to(folder) for file in files):
        folder = folder.parent
    return files[0] if len(files) == 1 and folder in outer else folder
