"""Evaluations of a training run: what is asked of prdit-core, and where it lies.

evaluation/<checkpoint>/size-S-steps-N   what the run's model made
evaluation/<checkpoint>/report-N         report.html and evaluation.json, the highest N newest
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from napari_prdit.known_checkpoints import edges_mm, resolutions
from prdit_core.data.datasets import MANIFEST, read_manifest
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown
from prdit_core.geometry import by
from prdit_core.verbs.report import CONTENT, PAGE

if TYPE_CHECKING:
    from pathlib import Path

FOLDER, VOLUMES, REPORT = "evaluation", "size-{}-steps-{}", "report-{}"
_LONGEST_NAME = 40
_RECORDS = "seed-*_index-*.json"


@dataclass(frozen=True)
class EvaluationPlan:
    """What shall be evaluated.

    Attributes
    ----------
    run : folder of the training run
    checkpoint : the one of its checkpoints that is evaluated
    real : folder of volumes, or prepared data; held-out cases where the run was trained on them
    training : data that the run was trained on; None if they are gone
    generated : folder of volumes that were made already; None lets the model make `wanted`
    size : edge of the volumes to make; None until `fitted` found that of the real ones
    """

    run: Path
    checkpoint: Path
    real: Path
    training: Path | None
    generated: Path | None
    wanted: int
    steps: int
    device: str
    size: int | None = None

    @property
    def volumes(self) -> Path:
        """Folder of the generated volumes; those of other sizes and steps lie elsewhere."""
        return self.generated or self._folder / VOLUMES.format(self.size, self.steps)

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
        """Arguments of prdit-core; volumes made before stay, unless on another device."""
        return [
            *("generate", "--checkpoint", str(self.checkpoint), "--out", str(self.volumes)),
            *("--size", str(self.size), "--count", str(self.wanted), "--steps", str(self.steps)),
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


def too_few(real: Path, training: Path | None) -> str:
    """Why there are too few real scans to compare with; empty where there may be enough.

    Only prepared data say at once how many there are; of other folders `fitted` tells.
    """
    from prdit_core.evaluation.sets import FEWEST_REAL

    if not (real / MANIFEST).is_file():
        return ""
    try:
        manifest = read_manifest(real)
    except InputRejected:  # which `fitted` tells, too
        return ""
    held_out = training is not None and real.resolve() == training.resolve()
    count = len(manifest.validation) if held_out else len(manifest.cases)
    if count >= FEWEST_REAL:
        return ""
    scans = f"{count} {'held-out ' if held_out else ''}scan{'s' * (count != 1)}"
    return (
        f"{shown(real)} has {scans}, and comparing takes {FEWEST_REAL} or more: prepare more "
        "scans, or choose another folder of real scans that the model was not trained on"
    )


def fitted(plan: EvaluationPlan) -> EvaluationPlan:
    """The plan with the size of the real volumes, once all its folders were looked into.

    What cannot be compared is told here, not after hours of generating.

    Raises
    ------
    PrditError
        If a folder cannot be used, or the model makes no volumes like the real ones.
    """
    from prdit_core.evaluation.sets import open_sets

    # As long as the model has made none, the real volumes stand in for its own.
    sets = open_sets(plan.real, {plan.name: plan.generated or plan.real}, plan.training)
    if plan.generated is not None:
        return plan
    for edge, edge_mm in edges_mm(str(plan.checkpoint)).items():
        if sets.real.lies_on((edge,) * 3, (edge_mm,) * 3):
            return replace(plan, size=edge)
    real_mm = " x ".join(f"{mm:.4g}" for mm in sets.real.spacing_mm)
    made = " or ".join(resolutions(str(plan.checkpoint)).values())
    raise UsageError(
        f"{shown(plan.real)} holds volumes of {by(sets.real.shape)} voxels of {real_mm} mm, but "
        f"the model makes those of edge {made}; choose real scans prepared like its own"
    )


def newest_report(run: Path) -> Path | None:
    """Folder of the last finished evaluation of a run."""
    reports = run.glob(f"{FOLDER}/*/{REPORT.format('*')}/{CONTENT}")
    done = [file for file in reports if file.with_name(PAGE).is_file()]
    return max(done, key=lambda file: file.stat().st_mtime).parent if done else None
