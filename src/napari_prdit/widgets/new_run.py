"""The form for a new training: on which data, which part of a model, for how long."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from napari_prdit.known_checkpoints import known
from napari_prdit.preferences import preferences
from napari_prdit.training_runs import settings_of
from napari_prdit.widgets.data_form import DataForm
from napari_prdit.widgets.fold import Fold
from napari_prdit.widgets.parts import Form, button, choice, number
from napari_prdit.widgets.stage_form import StageForm
from prdit_core.config import words_of
from prdit_core.errors import PrditError, UsageError, first_fault
from prdit_core.prdit_config import Activations, TrainConfig
from prdit_core.runs.folder import RunFolder
from prdit_core.verbs.stages import settings_of_stage

if TYPE_CHECKING:
    from prdit_core.config import TrainingConfig

MOST = 100_000_000
LARGEST_SEED = 2**31 - 1  # of Qt's spin boxes; the command takes larger ones
# A first try within an hour on a CPU at 32^3.
ITERATIONS = {
    "local": 2000,
    "global": 5000,
    "refine": 2000,
    "finetune": 1000,
    "patch": 5000,
}


# Fields of the settings as the form calls them, where that is another name.
LABELS = {
    "lr": "learning rate",
    "batch_size": "batch size",
    "save_every": "save every",
    "preview_every": "picture every",
    "micro_batch": "scans at once",
    "start": "start from",
}


class NewRun(QWidget):
    """Everything `prdit-core train` needs.

    Signals
    -------
    start_wanted : the button was pressed
    """

    start_wanted = Signal()

    def __init__(self, runs_folder: Path) -> None:
        super().__init__()
        self.runs_folder = runs_folder
        self.data = DataForm(runs_folder.parent / "data")
        self.stage = StageForm()
        self.stage.stage.currentTextChanged.connect(lambda _title: self._take_stage())
        self.settings = RunForm()
        tip = "In a process of its own, which goes on when napari is closed"
        self.go = button("Start training", tip, self.start_wanted.emit)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (self.data, self.stage, self.settings, self.go):
            column.addWidget(part)
        self.use_runs_folder(runs_folder)
        self._take_stage()

    def config(self) -> TrainingConfig:
        """What the controls say.

        Raises
        ------
        PrditError
            In one line, naming what cannot be used.
        """
        given: dict[str, Any] = {
            "stage": self.stage.name,
            "data": self.data.folder(),
            "run": self.runs_folder / self.settings.run_name(),
            "start": self.stage.checkpoint(),
            **self.settings.given(),
        }
        settings = settings_of_stage(self.stage.name)
        try:
            return settings.model_validate(
                {name: value for name, value in given.items() if name in settings.model_fields}
            )
        except ValidationError as error:
            raise UsageError(first_fault(error, LABELS)) from error

    def use_runs_folder(self, folder: Path) -> None:
        """Put new runs there, and offer those that are there to start from."""
        self.runs_folder = folder
        models = known([folder, preferences().checkpoint_folder])
        self.stage.offer_starts(models)
        self.data.prepare.offer_models(models)
        self._propose_name()

    def propose_next(self, run: Path) -> None:
        """Fill in the stage that comes after the local part, on the data of that run."""
        self.stage.choose("global")
        self.stage.start.choose(str(run))
        with suppress(PrditError):  # it does not tell, so the user must choose
            self.data.data.choose(str(settings_of(RunFolder(run)).data.absolute()))

    def show_starting(self, starting: bool) -> None:
        """One run begins at a time; the next one will need another name."""
        if starting:
            self.settings.name.setModified(False)
        self.go.setEnabled(not starting)
        self.go.setText("Starting ..." if starting else "Start training")

    def _take_stage(self) -> None:
        self.settings.iterations.setValue(ITERATIONS[self.stage.name])
        self.settings.show_stage(self.stage.name)
        self._propose_name()

    def _propose_name(self) -> None:
        if not self.settings.name.isModified():
            self.settings.propose_name(self.stage.name, self.runs_folder)


class RunForm(Form):
    """How long, how, where, and under which name."""

    def __init__(self) -> None:
        super().__init__("Run")
        self.name = QLineEdit()
        self.add("name", self.name, "Of the folder of this run, below the runs folder")
        self.iterations = number(1, MOST, 1)
        self.add("iterations", self.iterations, words_of(TrainConfig, "iterations"))
        self.batch_size = number(1, 65_536, 4)
        self.add("batch size", self.batch_size, words_of(TrainConfig, "batch_size"))
        self.device = choice(["auto", "cpu", "cuda", "mps"])
        self.device.setCurrentText(preferences().device)
        self.add("device", self.device, "Where to compute; auto takes a GPU if there is one")
        tip = "Learning rate, seed, memory, how often to save"
        self.rows.addRow(Fold("Advanced", tip, self._advanced()))

    def run_name(self) -> str:
        """Name of a folder.

        Raises
        ------
        UsageError
            If it cannot be one.
        """
        name = self.name.text().strip()
        if name in ("", "..") or Path(name).name != name:
            raise UsageError(f"{name!r} cannot be the name of a folder; choose another run name")
        return name

    def given(self) -> dict[str, Any]:
        """Settings of all stages by their names; None takes the default."""
        return {
            "iterations": self.iterations.value(),
            "batch_size": self.batch_size.value(),
            "device": self._device(self.device.currentIndex()),
            "lr": self.lr.text().strip() or None,
            "seed": self.seed.value(),
            "save_every": self.save_every.value(),
            "preview_every": self.preview_every.value(),
            "micro_batch": self.micro_batch.value() or None,
            "activations": self.activations.currentText(),
            "consistency": self.consistency.text().strip() or None,
            "crop": self.crop.value() or None,
        }

    def show_stage(self, stage: str) -> None:
        """Offer what is for refiners only there, and forget what was set."""
        self.consistency.clear()
        self.crop.setValue(0)
        self._rows.setRowVisible(self.consistency, stage in ("refine", "finetune"))
        self._rows.setRowVisible(self.crop, stage == "refine")
        there = "activations" in settings_of_stage(stage).model_fields
        self._rows.setRowVisible(self.activations, there)

    def propose_name(self, stage: str, runs_folder: Path) -> None:
        """A name that no run has yet."""
        stem = f"{stage}-{datetime.now():%Y-%m-%d-%H%M}"
        names = (stem, *(f"{stem}-{again}" for again in range(2, 1000)))
        self.name.setText(next(name for name in names if not (runs_folder / name).exists()))

    def offer_devices(self, answer: str) -> None:
        """Take the answer of `prdit-core devices --json`."""
        before = self.device.currentText()
        self.device.clear()
        self.device.addItem("auto")
        for entry in json.loads(answer)["devices"]:
            memory = f", {entry['memory'] / 2**30:.0f} GiB" if entry["memory"] else ""
            words = f"{entry['device']}: {entry['description']}{memory}"
            self.device.addItem(words, entry["device"])
        # "cuda" of the preferences is the first of them
        same = [row for row in range(self.device.count()) if self._device(row).startswith(before)]
        self.device.setCurrentIndex(same[0] if same else 0)

    def _device(self, row: int) -> str:
        return str(self.device.itemData(row) or self.device.itemText(row))

    def _advanced(self) -> Form:
        form = Form("")
        self.lr = QLineEdit()
        self.lr.setPlaceholderText("as in the paper")
        form.add("learning rate", self.lr, words_of(TrainConfig, "lr"))
        self.seed = number(0, LARGEST_SEED, 0)
        form.add("seed", self.seed, words_of(TrainConfig, "seed"))
        self.save_every = number(1, MOST, 500)
        form.add("save every", self.save_every, words_of(TrainConfig, "save_every"))
        self.preview_every = number(1, MOST, 500)
        form.add("picture every", self.preview_every, words_of(TrainConfig, "preview_every"))
        self.micro_batch = number(0, 65_536, 0)
        self.micro_batch.setSpecialValueText("all")
        form.add("scans at once", self.micro_batch, words_of(TrainConfig, "micro_batch"))
        self.activations = choice(get_args(Activations))
        form.add("activations", self.activations, words_of(TrainConfig, "activations"))
        self._refining(form)
        return form

    def _refining(self, form: Form) -> None:
        self._rows = form.rows
        self.consistency = QLineEdit()
        self.consistency.setPlaceholderText("0.1 with a refiner")
        form.add("consistency", self.consistency, words_of(TrainConfig, "consistency"))
        self.crop = number(0, 4096, 0)
        self.crop.setSpecialValueText("whole volume")
        form.add("crop", self.crop, words_of(TrainConfig, "crop"))
