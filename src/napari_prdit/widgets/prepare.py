"""From a folder of scans, or from nothing, to data that can be trained on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_prdit.activity import Activity
from napari_prdit.widgets.child import Child
from napari_prdit.widgets.log_view import LogView
from napari_prdit.widgets.parts import Form, Message, PathDrop, button, choice, number, row
from prdit_core.checkpoints.expected_data import sizes_for
from prdit_core.data.datasets import MANIFEST
from prdit_core.data.presets import PRESETS
from prdit_core.errors import PrditError
from prdit_core.intensity import HU

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZES: tuple[str, ...] = ("8", "16", "32", "64", "128", "256")
PHANTOMS = 100
DEFAULT_PRESET, DEFAULT_SIZE = "chest-320", "64"
SOME_REJECTED = 4  # the exit code where some scans were of no use and the others were prepared
PRESET, LIKE = "--preset", "--like"


class PrepareData(QWidget):
    """Runs `prdit-core preprocess` or `prdit-core phantoms`; it ends with the dock.

    Signals
    -------
    prepared : folder of a data set that is complete
    """

    prepared = Signal(str)

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._activity = Activity()
        self.child = Child(self)
        self.child.printed.connect(lambda line: self.log.add_lines([line]))
        self.child.ended.connect(self._ended)
        self._build(folder)
        self.offer_models([])
        self._show_running(False)

    def prepare(self) -> None:
        """Make a data set of the scans; the same again goes on where it was stopped."""
        scans = self.scans.text
        if not scans:
            self.message.say("choose a folder of CT scans first", "error")
            return
        option, name = self.fit.currentData()
        self._start(["preprocess", scans, option, name, "--size", self.edge.currentText()])

    def make_phantoms(self) -> None:
        """Make a data set of invented chests."""
        size, count = self.edge.currentText(), str(self.count.value())
        self._start(["phantoms", "--count", count, "--size", size])

    def shut_down(self) -> None:
        """End preparing; the same again goes on from there."""
        self._activity.end()
        self.child.kill()

    def offer_models(self, models: Iterable[str]) -> None:
        """List what data can be made fit for: a new model, or one that is there."""
        before = self.fit.currentText()
        with signals_blocked(self.fit):
            self.fit.clear()
            ct = [name for name, preset in PRESETS.items() if preset.units == HU]
            for name in ct:  # MR is prepared by the command, with --modality mr
                preset = PRESETS[name]
                words = f"{name}: {preset.field_of_view_mm:g} mm cube, {preset.intensity}"
                self.fit.addItem(words, (PRESET, name))
            for model in models:
                self.fit.addItem(f"like model {model}", (LIKE, model))
            kept = self.fit.findText(before) if before else ct.index(DEFAULT_PRESET)
            self.fit.setCurrentIndex(max(kept, 0))
        if self.fit.currentText() != before:
            self._offer_sizes()

    def _start(self, words: list[str]) -> None:
        if self.child.running:
            return
        if not self.out.text:
            self.message.say("say which folder the prepared data shall go to", "error")
            return
        self.log.clear()
        self.log.show()
        self.message.say("preparing ...")
        self.child.start([*words, "--out", str(Path(self.out.text).expanduser())])
        self._show_running(True)
        self._activity.begin("Preparing data to train on")

    def _ended(self, code: int, result: str) -> None:
        self._show_running(False)
        self.log.add_lines(result.splitlines())
        folder = Path(self.out.text).expanduser()
        if code in (0, SOME_REJECTED) and (folder / MANIFEST).is_file():
            bad = code == SOME_REJECTED
            note = "; some scans were rejected, see below and report.json there" if bad else ""
            self.message.say(f"prepared {folder}{note}", "warning" if bad else "note")
            self.prepared.emit(str(folder))
            self._activity.end(f"Prepared {folder}{note}")
        else:
            printed = self.log.toPlainText().splitlines()[-1:]
            why = (printed or [f"ended with code {code}"])[0].removeprefix("prdit-core: ")
            self.message.say(why, "error")
            self._activity.end(f"Preparing failed: {why}", "failed")

    def _show_running(self, running: bool) -> None:
        for control in (self.go, self.phantoms):
            control.setEnabled(not running)
        self.halt.setEnabled(running)
        self.busy.setVisible(running)

    def _offer_sizes(self) -> None:
        """Any size for a new model; those of a model, and of its next refiner, to be like it."""
        option, name = self.fit.currentData()
        wanted, sizes = self.edge.currentText(), SIZES
        if option == LIKE:
            with suppress(PrditError):  # the command will say what is wrong with it
                sizes = tuple(map(str, sizes_for(name)))
                wanted = sizes[-2]
        self.edge.clear()
        self.edge.addItems(sizes)
        self.edge.setCurrentText(wanted if wanted in sizes else DEFAULT_SIZE)

    # The controls.

    def _build(self, folder: Path) -> None:
        form = Form("")
        self._add_scans(form)
        self.out = PathDrop([str(folder / "my-data")])
        form.add("into folder", self.out, "Where the prepared data go; made if it is not there")
        self.go = button("Prepare scans", "Cut, resample and store all scans", self.prepare)
        self.halt = button(
            "Stop", "End after the scan at hand; Prepare goes on from there", self.child.stop
        )
        form.rows.addRow(row(self.go, self.halt))
        self.count = number(2, 1_000_000, PHANTOMS)
        form.add("phantoms", self.count, "How many invented chests, to try things without scans")
        self.phantoms = button(
            "Make phantoms", "Invent chests of the size above, free of patients", self.make_phantoms
        )
        form.rows.addRow(self.phantoms)
        self.busy = QProgressBar()
        self.busy.setRange(0, 0)
        self.busy.setToolTip("Preparing goes on")
        self.message = Message()
        self.log = LogView("What was noted about single scans")
        self.log.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for part in (form, self.busy, self.message, self.log):
            column.addWidget(part)

    def _add_scans(self, form: Form) -> None:
        self.scans = PathDrop([])
        tip = "A folder with DICOM series, NIfTI, NRRD, MetaImage or RAD-ChestCT .npz. Drop it here"
        browse = button("Browse ...", tip, lambda: self.scans.browse("Folder of CT scans"))
        form.add("scans", row(self.scans, browse), tip)
        self.fit = choice([])
        form.add(
            "fit for",
            self.fit,
            "Which part of the body and which HU to keep. To fine-tune a model, the data must be "
            "like those it was trained on.",
        )
        self.edge = choice(SIZES)
        self.edge.setCurrentText(DEFAULT_SIZE)
        form.add(
            "voxels",
            self.edge,
            "Along each edge of the cube; 128 needs a GPU to train on. Twice the size of a model "
            "is for a refiner on top of it",
        )
        self.fit.currentIndexChanged.connect(lambda _row: self._offer_sizes())
