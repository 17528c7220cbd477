"""What is compared with what: real scans, and volumes to make or made before."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal

from napari_prdit.evaluations import EvaluationPlan, too_few
from napari_prdit.preferences import preferences
from napari_prdit.widgets.parts import Form, PathDrop, button, number, row
from prdit_core.checkpoints.catalog import newest
from prdit_core.config import SamplingConfig, words_of
from prdit_core.data.datasets import MANIFEST
from prdit_core.errors import UsageError

COUNT, STEPS = 200, SamplingConfig().steps


class EvaluationForm(Form):
    """Real scans, and how many volumes to make in how many steps, or where they are."""

    changed = Signal()  # of the real scans

    def __init__(self) -> None:
        super().__init__("")
        self._reason = ""
        self._judged: tuple[object, ...] = ()
        self.real = PathDrop([])
        self.real.changed.connect(lambda _text: self.changed.emit())
        tip = (
            "A folder of real scans on the model's grid, or prepared data. Of the data the run was "
            "trained on, only the held-out scans are taken. Drop it here"
        )
        browse = button("Browse ...", tip, lambda: self.real.browse("Real scans"))
        self.add("real scans", row(self.real, browse), tip)
        self.count = number(2, 1_000_000, COUNT)
        self.count.setSuffix(" volumes")
        tip = "How many to make, of the size of the real scans; fewer than 200 tell little"
        self.add("generate", self.count, tip)
        self.steps = number(2, 1000, STEPS)
        self.add("steps", self.steps, words_of(SamplingConfig, "steps"))
        self.made = PathDrop([""])
        self.made.changed.connect(self._need_none)
        edit = self.made.lineEdit()
        assert edit is not None  # it is editable
        edit.setPlaceholderText("none: generate them")
        self.add("made already", self.made, "A folder of generated volumes; then none are made")

    def plan(self, run: Path, training: Path | None) -> EvaluationPlan:
        """What the controls say of a run that was trained on `training`.

        Raises
        ------
        UsageError
            If no real scans are chosen.
        """
        if not self.real.text:
            raise UsageError("choose a folder of real scans to compare with")
        made = self.made.text
        return EvaluationPlan(
            run=run,
            checkpoint=newest(run),
            real=Path(self.real.text).expanduser().absolute(),
            training=training,
            generated=Path(made).expanduser().absolute() if made else None,
            wanted=self.count.value(),
            steps=self.steps.value(),
            device=preferences().device,
        )

    def why_not(self, training: Path | None) -> str:
        """Why the chosen real scans cannot do; their list is read again only after it changed."""
        if not self.real.text:
            return ""
        real = Path(self.real.text).expanduser().absolute()
        key = (real, training, _modified(real / MANIFEST))
        if key != self._judged:
            self._judged, self._reason = key, too_few(real, training)
        return self._reason

    def _need_none(self, folder: str) -> None:
        for control in (self.count, self.steps):
            control.setEnabled(not folder.strip())


def _modified(file: Path) -> int | None:
    """When a file was written, in ns; None if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None
