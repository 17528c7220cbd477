"""Evaluations of a training run: what is asked of prdit-core, and where it lies.

evaluation/<checkpoint>/volumes    what the run's model made
evaluation/<checkpoint>/report-N   report.html and evaluation.json, the highest N newest
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from prdit_core.verbs.report import CONTENT, PAGE

if TYPE_CHECKING:
    from pathlib import Path

FOLDER, VOLUMES, REPORT = "evaluation", "volumes", "report-{}"
_LONGEST_NAME = 40
_RECORDS = "seed-*_index-*.json"


@dataclass(frozen=True)
class Plan:
    """What shall be evaluated.

    Attributes
    ----------
    run : folder of the training run
    checkpoint : the one of its checkpoints that is evaluated
    real : folder of volumes, or prepared data; held-out cases where the run was trained on them
    training : data that the run was trained on; None if they are gone
    generated : folder of volumes that were made already; None lets the model make `wanted`
    """

    run: Path
    checkpoint: Path
    real: Path
    training: Path | None
    generated: Path | None
    wanted: int
    steps: int
    device: str

    @property
    def volumes(self) -> Path:
        """Folder of the generated volumes."""
        return self.generated or self._folder / VOLUMES

    @property
    def report(self) -> Path:
        """Folder of the report to come, in which nothing lies yet."""
        places = (self._folder / REPORT.format(number) for number in count(1))
        return next(place for place in places if not place.exists() or not any(place.iterdir()))

    @property
    def made(self) -> int:
        """How many volumes there are already."""
        return sum(1 for _ in self.volumes.glob(_RECORDS))

    @property
    def name(self) -> str:
        """Of the generated set in the report."""
        kept = "".join(c if c.isprintable() and c != "=" else "-" for c in self.run.name)
        return f"run {kept[:_LONGEST_NAME]}"

    @property
    def generate_words(self) -> list[str]:
        """Arguments of prdit-core; volumes made before stay, unless with other settings."""
        return [
            *("generate", "--checkpoint", str(self.checkpoint), "--out", str(self.volumes)),
            *("--count", str(self.wanted), "--steps", str(self.steps)),
            *("--device", self.device, "--overwrite"),
        ]

    @property
    def evaluate_words(self) -> list[str]:
        """Arguments of prdit-core; a W-score compares models, and here is one."""
        training = [] if self.training is None else ["--training", str(self.training)]
        return [
            *("evaluate", "--real", str(self.real), "--fake", f"{self.name}={self.volumes}"),
            *(*training, "--no-wscore", "--device", self.device, "--out", str(self.report)),
        ]

    @property
    def _folder(self) -> Path:
        return self.run / FOLDER / self.checkpoint.name


def newest_report(run: Path) -> Path | None:
    """Folder of the last finished evaluation of a run."""
    found = run.glob(f"{FOLDER}/*/{REPORT.format('*')}/{CONTENT}")
    done = [file for file in found if file.with_name(PAGE).is_file()]
    return max(done, key=lambda file: file.stat().st_mtime).parent if done else None
