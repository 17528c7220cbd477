"""Which part of a model to train, and from where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_prdit.known_checkpoints import described
from napari_prdit.widgets.parts import Form, Message, PathDrop, choice
from prdit_core.errors import PrditError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

TITLES = {
    "Local part first": "local",
    "Global part on top of it": "global",
    "Refiner on top of both": "refine",
    "Fine-tune a finished model": "finetune",
    "Patch prior, all at once": "patch",
}
# Stages that begin a model of their own.
FIRST = ("local", "patch")
ABOUT = {
    "local": "A new model learns what is near each voxel: edges, vessels, texture. Begin here.",
    "global": "On top of a local part, which stays as it is, it learns what spans the whole "
    "chest. Then the model is complete.",
    "refine": "On top of a complete model, which stays as it is, it learns the details that only "
    "twice the resolution shows. The data must have twice the voxels of the model along each edge.",
    "finetune": "All of a complete model goes on learning, slowly, on your scans.",
    "patch": "A new model of another kind: it learns cubes of the volume, with the whole "
    "volume made small beside them. Made for reconstruction; its walks take much longer.",
}


class StageForm(Form):
    """The stage in plain words, and the checkpoint it starts from."""

    def __init__(self) -> None:
        super().__init__("What to train")
        self.stage = choice(TITLES)
        tip = (
            "A model has two parts, trained one after the other; a complete one can be refined, "
            "again and again, and fine-tuned"
        )
        self.add("stage", self.stage, tip)
        self.about_stage = Message()
        self.about_stage.setToolTip(tip)
        self.rows.addRow(self.about_stage)
        self.start = PathDrop([])
        self.start.changed.connect(lambda _text: self.describe())
        tip = "A run of the stage before, a checkpoint folder, or demo, the bundled model. Drop it"
        self.add("start from", self.start, tip)
        self.about_start = Message()
        self.about_start.setToolTip("What the model to start from is")
        self.rows.addRow(self.about_start)
        self.describe()
        self.stage.currentTextChanged.connect(lambda _title: self.describe())

    @property
    def name(self) -> str:
        """The stage as the command calls it."""
        return TITLES[self.stage.currentText()]

    def choose(self, stage: str) -> None:
        """Take a stage by the name that the command has for it."""
        self.stage.setCurrentText(next(title for title, name in TITLES.items() if name == stage))

    def checkpoint(self) -> str | None:
        """What to start from: a name or an absolute path; None where nothing is needed.

        Raises
        ------
        PrditError
            If a checkpoint is needed and there is none.
        """
        if self.name in FIRST:
            return None
        if not self.start.text:
            raise UsageError("choose a model to start from")
        path = Path(self.start.text).expanduser()
        chosen = str(path.absolute()) if path.exists() else self.start.text
        described(chosen)
        return chosen

    def offer_starts(self, models: Iterable[str]) -> None:
        """List what there is to start from."""
        before = self.start.text
        self.start.clear()
        self.start.addItems(list(models))
        if before:
            self.start.choose(before)
        self.describe()

    def describe(self) -> None:
        """Say what the stage does and what it starts from."""
        self.about_stage.say(ABOUT[self.name])
        needed = self.name not in FIRST
        for part in (self.start, self.rows.labelForField(self.start), self.about_start):
            assert part is not None  # all are in the form
            part.setVisible(needed)
        try:
            self.about_start.say(described(self.checkpoint() or "") if needed else "")
        except PrditError as error:
            self.about_start.say(str(error), "error")
