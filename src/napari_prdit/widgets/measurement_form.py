"""What is measured: a scan by a simulated scanner, or a file; and how many samples to make."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QVBoxLayout, QWidget

from napari_prdit.measuring import (
    DOSES,
    MeasuredSource,
    MeasurementFile,
    Scanner,
    ScanTask,
    Setting,
    Simulation,
)
from napari_prdit.reconstruction import ITERATIONS, SAMPLES, STEPS
from napari_prdit.widgets.fold import Fold
from napari_prdit.widgets.parts import LARGEST_SEED, Form, PathDrop, button, choice, number, row
from napari_prdit.widgets.source_choice import SourceChoice
from prdit_core.errors import UsageError

if TYPE_CHECKING:
    from napari.components import ViewerModel

PATTERN = "Measurements (*.npz *.h5 *.hdf5 *.hdf *.nxs);;All files (*)"


class MeasurementForm(QWidget):
    """The controls above the model: what is measured.

    Signals
    -------
    changed : another scan, file or setting was chosen
    """

    changed = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.task: ScanTask | None = None
        self.data = Form("What is measured")
        self.source = SourceChoice(viewer)
        self.data.add("scan", self.source, "A CT scan in HU, which a scanner is simulated to see")
        self.file = PathDrop([])
        browse = button("...", "Choose a measurement file", self._browse)
        browse.setMaximumWidth(30)
        self.file_row = row(self.file, browse)
        self.data.add(
            "file",
            self.file_row,
            "A measurement of prdit-core simulate or of your own (.npz), or DXchange HDF5. Drop it "
            "here, or type its path.",
        )
        self._add_scanner()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.data)
        for chosen in (self.source.picked, self.file.changed):
            chosen.connect(lambda *_: self.changed.emit())

    def take(self, task: ScanTask | None) -> None:
        """Offer what a task heeds, at its usual settings; None: a file says it all."""
        self.task = task
        rows = self.data.rows
        rows.setRowVisible(self.source, task is not None)
        rows.setRowVisible(self.file_row, task is None)
        for setting, field in self.fields.items():
            rows.setRowVisible(field, task is not None and setting in task.settings)
        if task is not None:
            usual = task.scanner
            self.views.setValue(usual.views)
            self.arc.setValue(usual.arc_deg)
            self.dose.setCurrentText(usual.dose)
            self.factor.setValue(usual.factor)
            self.blur.setValue(usual.blur)

    def requested(self, checkpoint: str, size: int | None) -> MeasuredSource:
        """What the controls say, with the scan as it is now.

        Raises
        ------
        UsageError
            If there is no scan.
        """
        if self.task is None:
            return MeasurementFile(self.file.text)
        scan = self.source.chosen
        if not isinstance(scan, Image):
            raise UsageError(self.source.no_scan())
        return Simulation(scan.as_layer_data_tuple(), checkpoint, size, self.task, self.scanner())

    def scanner(self) -> Scanner:
        """The settings, of which a task heeds some."""
        return Scanner(
            views=self.views.value(),
            arc_deg=self.arc.value(),
            dose=self.dose.currentText(),
            seed=self.noise_seed.value(),
            factor=self.factor.value(),
            blur=self.blur.value(),
        )

    def leave(self) -> None:
        """Listen to the viewer no more."""
        self.source.leave()

    def _add_scanner(self) -> None:
        usual = Scanner()
        self.views = number(2, 720, usual.views)
        self.arc = number(10, 360, usual.arc_deg)
        self.arc.setSuffix("\N{DEGREE SIGN}")
        self.dose = choice(DOSES)
        self.noise_seed = number(0, LARGEST_SEED, usual.seed)
        self.factor = number(2, 16, usual.factor)
        self.blur = QDoubleSpinBox()
        self.blur.setRange(0.3, 20.0)
        self.blur.setSingleStep(0.1)
        self.fields: dict[Setting, QWidget] = {
            "views": self.views,
            "arc": self.arc,
            "dose": self.dose,
            "noise seed": self.noise_seed,
            "factor": self.factor,
            "blur": self.blur,
        }
        tips: dict[Setting, str] = {
            "views": "X-ray views, parallel beam, evenly spread over the arc",
            "arc": "Degrees that the views cover; 180 see all of it, 120 leave a wedge open",
            "dose": "Photons sent along each ray: fewer give noisier data",
            "noise seed": "Of the photons; the same seed gives the same data",
            "factor": "Voxels along each edge of the blocks that are averaged",
            "blur": "Standard deviation of the Gaussian, in voxels",
        }
        for setting, field in self.fields.items():
            self.data.add(setting, field, tips[setting])
            signal = field.currentTextChanged if setting == "dose" else field.valueChanged  # type: ignore[attr-defined]
            signal.connect(lambda _value: self.changed.emit())

    def _browse(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Measurement", self.file.text, PATTERN)
        if file:
            self.file.choose(file)


class SamplesForm(Form):
    """How a model reconstructs: samples and seed; steps and iterations under Advanced."""

    def __init__(self) -> None:
        super().__init__("Samples of the model")
        self.count = number(1, 64, SAMPLES)
        self.add(
            "samples",
            self.count,
            "Volumes that all fit the data. Where they differ, the data leave it open: take 4 or "
            "more to see that",
        )
        self.seed = number(0, LARGEST_SEED, 0)
        dice = button("Dice", "Another seed by chance", self._roll)
        self.add("seed", row(self.seed, dice), "Same seed, data and model: the same samples")
        self.steps = number(1, 1000, STEPS)
        self.iterations = number(1, 100, ITERATIONS)
        way = Form("From noise to a volume")
        way.add("steps", self.steps, "More steps take longer and give finer detail")
        way.add(
            "iterations",
            self.iterations,
            "Of conjugate gradients at every step, which make it fit the data: 10 to 15 where "
            "views are many. Too many fit the noise",
        )
        self.rows.addRow(Fold("Advanced", "How it walks from noise to a volume", way))

    def _roll(self) -> None:
        self.seed.setValue(random.SystemRandom().randint(0, LARGEST_SEED))
