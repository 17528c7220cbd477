"""The DICOM scan that a volume was made from: its images, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from prdit_core.data.dicom import series_slices
from prdit_core.data.dicom_dataset import invalid_header_named, quiet, read_dataset
from prdit_core.data.dicom_geometry import geometry_faults, stack
from prdit_core.data.grid import rejected
from prdit_core.files import shown

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from prdit_core.volume import Volume

# Patient and study, as a new series of the same study must repeat them.
IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
)
_NEEDED = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, eq=False)
class SourceScan:
    """A DICOM series on disk.

    Attributes
    ----------
    name : its folder, safe to print
    images : SOP class and instance UID of each slice, in the order of their positions
    identity : the attributes of `IDENTITY` that it states
    shape, affine : its grid, as a `Volume` has them
    synthetic : whether it says that it is synthetic
    """

    name: str
    images: tuple[tuple[str, str], ...]
    identity: Dataset
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    synthetic: bool

    def check_place(self, volume: Volume) -> None:
        """Raise `InputRejected` unless the middle of the volume lies within the scan."""
        middle = volume.affine @ [*((n - 1) / 2 for n in reversed(volume.shape)), 1]
        index = np.linalg.solve(self.affine, middle)[:3]
        if np.any(index < -0.5) or np.any(index > np.array(self.shape[::-1]) - 0.5):
            why = "the volume does not lie where this scan lies"
            raise rejected(self.name, why, "give the scan it was made from")

    def check_identity(self) -> None:
        """Raise `InputRejected` unless the scan says whose it is, of which study and frame."""
        missing = [tag for tag in _NEEDED if not self.identity.get(tag)]
        if missing:
            why = f"it does not state {' and '.join(missing)}"
            raise rejected(self.name, why, "leave out --keep-identity")


def read_source(path: Path, series: str | None) -> SourceScan:
    """The headers of the one DICOM series at or below `path`; `series` chooses among several.

    Raises
    ------
    InputRejected
        If it is no DICOM series, or none that is a volume with UIDs.
    """
    name = shown(path.absolute().name)
    slices = series_slices(path, series)
    for fault in geometry_faults(slices):
        raise rejected(name, fault.why, fault.remedy)
    places, affine = stack(slices)
    tags = ["SOPClassUID", "SOPInstanceUID", *IDENTITY]
    headers = [read_dataset(first.path, first.name, tags=tags) for first, *_ in places]
    with invalid_header_named(name, modality="CT"):
        images = [(str(h.get("SOPClassUID")), str(h.get("SOPInstanceUID"))) for h in headers]
        identity = _identity(headers[0])
    if any("" in pair or "None" in pair for pair in images):
        raise rejected(name, "its slices have no SOP UIDs", "leave it out")
    shape = (len(places), slices[0].rows, slices[0].columns)
    synthetic = any(header.synthetic for header in slices)
    return SourceScan(name, tuple(images), identity, shape, affine, synthetic)


def _identity(header: Dataset) -> Dataset:
    """The values as text, so that they can be written in another character set."""
    identity = Dataset()
    with quiet():
        for tag in IDENTITY:
            setattr(identity, tag, str(header.get(tag) or ""))
    return identity
