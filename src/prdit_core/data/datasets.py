"""The prepared data set: a folder of cubes that training reads, and nothing about any patient.

manifest.json        what was done, and one entry per case
volumes/<id>.npy     int16 HU, (size, size, size), C order
labels/<id>.npy      uint8, where the data has labels
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.manifest import MANIFEST, Case, Manifest, read_manifest, write_manifest
from prdit_core.data.npy import map_array, write_array
from prdit_core.errors import InputRejected
from prdit_core.files import sha256_of, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.data.transforms import Conformed
    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity

__all__ = [
    "CASES",
    "DTYPES",
    "LABELS",
    "MANIFEST",
    "VOLUMES",
    "Case",
    "Manifest",
    "PreparedData",
    "case_path",
    "is_intact",
    "read_manifest",
    "write_case",
    "write_manifest",
]

VOLUMES, LABELS, CASES = "volumes", "labels", "cases"
LATENTS = "latents"  # kind of a set whose files are no volumes but made of such
DTYPES: dict[str, np.dtype[Any]] = {VOLUMES: np.dtype("<i2"), LABELS: np.dtype("u1")}


class PreparedData:
    """A prepared data set, open for reading.

    Examples
    --------
    >>> data = PreparedData.open("prepared")  # doctest: +SKIP
    >>> x = data.intensity.to_model(data.volume(data.train[0]))  # doctest: +SKIP
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path) -> PreparedData:
        """Read the manifest and see that each file it names is there, of right shape and length.

        Raises
        ------
        InputRejected
            If the folder is no prepared data set, or a file is missing, damaged or outside it.
        """
        manifest = read_manifest(Path(folder))
        cls._check_kind(Path(folder), manifest)
        data = cls(Path(folder), manifest)
        for case in data.cases:
            data.volume(case)
            data.labels(case)
        return data

    @classmethod
    def _check_kind(cls, folder: Path, manifest: Manifest) -> None:
        """Refuse what is no set of volumes."""
        if manifest.settings.get("kind") == LATENTS:
            raise InputRejected(
                f"{shown(folder)} holds latents, not volumes; they are for train --stage latent"
            )

    @property
    def train(self) -> tuple[Case, ...]:
        """Cases to train on, sorted by id."""
        return self.manifest.train

    @property
    def validation(self) -> tuple[Case, ...]:
        """Cases of patients that training never sees; empty where there is one patient only."""
        return self.manifest.validation

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, those to train on first."""
        return self.manifest.cases

    @property
    def intensity(self) -> Intensity:
        """The window as a map between HU and model units."""
        return self.manifest.preset.intensity

    @property
    def geometry(self) -> Geometry:
        """Grid of every volume."""
        return self.manifest.preset.geometry(self.manifest.size)

    @property
    def label_names(self) -> dict[str, int]:
        """Label name to value, empty without labels."""
        return self.manifest.label_names

    @cached_property
    def digest(self) -> str:
        """SHA-256 that changes with any voxel, any setting and the split."""
        return self.manifest.digest

    def volume(self, case: Case) -> NDArray[Any]:
        """HU of a case, (D, H, W) int16, memory-mapped and read-only.

        Raises
        ------
        InputRejected
            If its file is missing, damaged or outside the folder.
        """
        return self._mapped(VOLUMES, case)

    def checked(self, case: Case) -> NDArray[Any]:
        """As `volume`, once the bytes of the file proved to be those of the manifest.

        Raises
        ------
        InputRejected
            If the file is missing, damaged or was changed since.
        """
        return self._proved(VOLUMES, case, case.sha256)

    def model_units(self, case: Case) -> NDArray[np.float32]:
        """What a network sees of a case, (C, D, H, W); errors as `checked`."""
        return self.intensity.to_model(self.checked(case))[None]

    def labels(self, case: Case) -> NDArray[np.uint8] | None:
        """Label map of a case, (D, H, W), memory-mapped; None where it has none."""
        return None if case.labels_sha256 is None else self._mapped(LABELS, case)

    def labels_of(self, case: Case) -> NDArray[np.uint8]:
        """Label map of a case, (D, H, W), once its bytes proved to be those of the manifest.

        Raises
        ------
        InputRejected
            If it has none, or the file is missing, damaged or was changed since.
        """
        if case.labels_sha256 is None:
            raise InputRejected(
                f"case {case.id} in {shown(self.folder)} has no labels; prepare the data with "
                "preprocess --labels"
            )
        return self._proved(LABELS, case, case.labels_sha256)

    def verify(self) -> None:
        """Compare the hash of every file with the manifest.

        Raises
        ------
        InputRejected
            Naming the first file that differs.
        """
        for case in self.cases:
            if not is_intact(self.folder, case):
                raise InputRejected(
                    f"a file of case {case.id} in {shown(self.folder)} differs from the manifest; "
                    "prepare the data again"
                )

    def _proved(self, kind: str, case: Case, digest: str) -> NDArray[Any]:
        array, path = self._mapped(kind, case), case_path(self.folder, kind, case.id)
        if sha256_of(path) != digest:
            raise InputRejected(f"{shown(path)} was damaged or changed; prepare the data again")
        return array

    def _mapped(self, kind: str, case: Case) -> NDArray[Any]:
        path = case_path(self.folder, kind, case.id)
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise InputRejected(
                f"{shown(path)} leads outside the data set; put the file itself there"
            )
        return map_array(path, *self._layout(kind))

    def _layout(self, kind: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Number format and shape of the files of a kind."""
        return DTYPES[kind], self.geometry.shape


def case_path(folder: Path, kind: str, case_id: str) -> Path:
    """File of a case; `kind` is `VOLUMES` or `LABELS`."""
    return folder / kind / f"{case_id}.npy"


def write_case(
    folder: Path, case_id: str, conformed: Conformed, *, patient: str, source_sha256: str
) -> Case:
    """Write the files of a case; its manifest entry."""
    labels = conformed.labels
    return Case(
        id=case_id,
        patient=patient,
        source_sha256=source_sha256,
        sha256=_write(folder, VOLUMES, case_id, conformed.volume.voxels_hu),
        labels_sha256=None if labels is None else _write(folder, LABELS, case_id, labels),
        affine=conformed.volume.affine.tolist(),
        record=conformed.record,
        notes=conformed.notes,
    )


def is_intact(folder: Path, case: Case) -> bool:
    """Whether the files of a case are there and have the hashes of its entry."""
    files = ((VOLUMES, case.sha256), (LABELS, case.labels_sha256))
    try:
        return all(
            expected is None or sha256_of(case_path(folder, kind, case.id)) == expected
            for kind, expected in files
        )
    except OSError:
        return False


def _write(folder: Path, kind: str, case_id: str, array: NDArray[Any]) -> str:
    return write_array(case_path(folder, kind, case_id), array.astype(DTYPES[kind], copy=False))
