"""Which cases of a data set are of one patient, kept from one command to the next.

The manifest numbers patients, which says nothing of a scan that is added later. `patients.json`
remembers them by what their ID alone can give again, slowly: scrypt (RFC 7914) with a salt of its
own. Who has that file can still try IDs one by one, so it is not for sharing, as `report.json`;
nothing needs it but adding scans.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from prdit_core.errors import OutputError
from prdit_core.files import shown, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prdit_core.data.datasets import Case

PATIENTS = "patients.json"
_N, _R, _P = 2**13, 8, 1  # 8 MiB and some 30 ms a patient


class Register(BaseModel):
    """Content of `patients.json`.

    Attributes
    ----------
    salt : hexadecimal; empty as long as no scan names its patient
    patients : what each case's patient became, by id of the case; empty where it is not known
    """

    model_config = ConfigDict(extra="forbid")

    notice: str = "not for sharing"
    salt: str = ""
    patients: dict[str, str] = {}

    @classmethod
    def read(cls, folder: Path) -> Register:
        """That of a data set; an empty one where there is none.

        Raises
        ------
        OutputError
            If it is damaged.
        """
        path = folder / PATIENTS
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            raise OutputError(f"{shown(path)} is damaged; {_REMEDY}") from error

    def enter(self, cases: Iterable[Case]) -> list[Case]:
        """Cases as they were prepared, with a patient that may be remembered."""
        return [self._entered(case) for case in cases]

    def recall(self, cases: Iterable[Case]) -> list[Case]:
        """Cases of a manifest, with the patients that they were entered with.

        Raises
        ------
        OutputError
            If one was never entered.
        """
        return [self._recalled(case) for case in cases]

    def write(self, folder: Path) -> None:
        """Keep it beside the manifest."""
        write_json(folder / PATIENTS, self.model_dump())

    def _entered(self, case: Case) -> Case:
        if case.id not in self.patients:
            self.patients[case.id] = self._disguised(case.patient) if is_known(case) else ""
        return self._recalled(case)

    def _recalled(self, case: Case) -> Case:
        if case.id not in self.patients:
            why = f"whose scan {case.id} is was not kept, and new scans may be of the same patient"
            raise OutputError(f"{why}; {_REMEDY}")
        patient = self.patients[case.id] or unknown_patient(case.source_sha256)
        return case.model_copy(update={"patient": patient})

    def _disguised(self, key: str) -> str:
        self.salt = self.salt or secrets.token_hex(16)
        salt = bytes.fromhex(self.salt)
        return hashlib.scrypt(key.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=16).hex()


_REMEDY = (
    "give the scans that are in the data set again with the new ones, or choose another folder"
)


def unknown_patient(source_sha256: str) -> str:
    """The patient of a scan that names none: its own."""
    return source_sha256[:16]


def is_known(case: Case) -> bool:
    """Whether the scan said whose it is; otherwise it counts as a patient of its own."""
    return case.patient != unknown_patient(case.source_sha256)
