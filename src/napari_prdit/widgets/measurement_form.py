"""What is measured: a scan by a simulated scanner, or a file; and how many samples to make."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QVBoxLayout, QWidget

from napari_prdit.measuring import (
    DOSES,
    WHOLE_ARC,
    Beam,
    MeasuredSource,
    MeasurementFile,
    Scanner,
    ScanTask,
    Setting,
    Simulation,
)
from napari_prdit.reconstruction import CALIBRATED, COUPLINGS, LAST_STEPS, SAMPLES, STEPS
from napari_prdit.widgets.fold import Fold
from napari_prdit.widgets.parts import LARGEST_SEED, Form, button, choice, number, row
from napari_prdit.widgets.raw_form import FileField, RawForm
from napari_prdit.widgets.source_choice import SourceChoice
from prdit_core.config import SamplingConfig, words_of
from prdit_core.errors import UsageError
from prdit_core.presets import paper_reconstruction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel

    from prdit_core.config import NetworkConfig

PATTERN = "Measurements (*.npz *.h5 *.hdf5 *.hdf *.nxs *.tif *.tiff);;All files (*)"
CALIBRATION = "Calibration (*.json);;All files (*)"
USUAL, PAPER = "usual", "paper"


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
        self.file = FileField("Measurement", PATTERN, self.changed.emit)
        self.data.add(
            "file",
            self.file,
            "A measurement of prdit-core simulate or of your own (.npz), DXchange HDF5, or raw "
            "projections as TIFF: a stack or a folder. Drop it here, or type its path.",
        )
        self.raw = RawForm()
        self.raw_fold = Fold("Raw projections", "What HDF5 and TIFF do not say", self.raw)
        self.data.rows.addRow(self.raw_fold)
        self._add_scanner()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.data)
        for chosen in (self.source.picked, self.raw.changed):
            chosen.connect(lambda *_: self.changed.emit())

    def take(self, task: ScanTask | None) -> None:
        """Offer what a task heeds, at its usual settings; None: a file says it all."""
        self.task = task
        rows = self.data.rows
        rows.setRowVisible(self.source, task is not None)
        for part in (self.file, self.raw_fold):
            rows.setRowVisible(part, task is None)
        rows.setRowVisible(self.scanner_fold, task is not None and task.has_rays)
        for setting, field in self.fields.items():
            rows.setRowVisible(field, task is not None and setting in task.settings)
        if task is not None:
            usual = task.scanner
            self.beam.setCurrentText(usual.beam)
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
            return MeasurementFile(self.file.drop.text, self.raw.stated())
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
            beam=list(WHOLE_ARC)[self.beam.currentIndex()],
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
            "views": "X-ray views, evenly spread over the arc",
            "arc": "Degrees that the views cover: 180 of parallel beam see all of it, 120 leave a "
            "wedge open; fan and cone beam need 360",
            "dose": "Photons sent along each ray: fewer give noisier data",
            "noise seed": "Of the photons; the same seed gives the same data",
            "factor": "Voxels along each edge of the blocks that are averaged",
            "blur": "Standard deviation of the Gaussian, in voxels",
        }
        for setting, field in self.fields.items():
            self.data.add(setting, field, tips[setting])
            signal = field.currentTextChanged if setting == "dose" else field.valueChanged  # type: ignore[attr-defined]
            signal.connect(lambda _value: self.changed.emit())
        self.beam = choice(WHOLE_ARC)
        self.beam.currentTextChanged.connect(self._take_arc)
        beams = Form("How its rays go")
        beams.add(
            "beam",
            self.beam,
            "Of rays. A cone takes minutes where parallel beam takes seconds",
        )
        self.scanner_fold = Fold("Scanner", "Which beam measures", beams)
        self.data.rows.addRow(self.scanner_fold)

    def _take_arc(self, beam: Beam) -> None:
        """What saw all of a volume, or more, sees all of it by another beam too."""
        if self.task is not None and self.arc.value() in WHOLE_ARC.values():
            self.arc.setValue(WHOLE_ARC[beam])
        self.changed.emit()


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
        self.iterations = number(0, 100, 0)
        self.iterations.setSpecialValueText(USUAL)
        self.coupling, self.last_step = choice(COUPLINGS), choice(LAST_STEPS)
        self.coupling.currentTextChanged.connect(self._offer_calibration)
        self.calibration = FileField("Error of the network", CALIBRATION, lambda: None)
        self.way = way = Form("From noise to a volume")
        self.walk = choice([USUAL, PAPER])
        self.walk.currentTextChanged.connect(self._take_steps)
        self._network: NetworkConfig | None = None
        way.add(
            "walk", self.walk, "As the model's own paper reconstructs: slow, and with fresh noise"
        )
        way.add("steps", self.steps, words_of(SamplingConfig, "steps"))
        way.add("coupling", self.coupling, f"What makes it fit the data. {_lines(COUPLINGS)}")
        way.add(
            "calibration",
            self.calibration,
            "What prdit-core calibrate wrote, how wrong the network is. Empty: beside the weights",
        )
        way.add(
            "iterations",
            self.iterations,
            "Of conjugate gradients at every step: 10 to 15 where views are many. Too many fit "
            "the noise. Usual: 5 of cg and dds, 10 of prox and pigdm, 3 of posterior",
        )
        way.add(
            "last step",
            self.last_step,
            f"After the walk, where rays were measured. {_lines(LAST_STEPS)}. Where samples shall "
            "vary as the model's do, take none",
        )
        self._offer_calibration(self.coupling.currentText())
        self._offer_walk()
        self.rows.addRow(Fold("Advanced", "How it walks from noise to a volume", way))

    @property
    def paper(self) -> SamplingConfig | None:
        """The walk of the model's paper, if that is chosen."""
        return paper_reconstruction(self._network) if self.walk.currentText() == PAPER else None

    def take_network(self, network: NetworkConfig | None) -> None:
        """Offer what the paper of its family does."""
        if network != self._network:
            self._network = network
            self._offer_walk()

    def _offer_walk(self) -> None:
        there = paper_reconstruction(self._network) is not None
        self.way.rows.setRowVisible(self.walk, there)
        if not there:
            self.walk.setCurrentText(USUAL)

    def _take_steps(self, _walk: str) -> None:
        self.steps.setValue(STEPS if self.paper is None else self.paper.steps)

    def _offer_calibration(self, coupling: str) -> None:
        self.way.rows.setRowVisible(self.calibration, coupling in CALIBRATED)

    def _roll(self) -> None:
        self.seed.setValue(random.SystemRandom().randint(0, LARGEST_SEED))


def _lines(words: Mapping[Any, str]) -> str:
    return "; ".join(f"{name}: {says}" for name, says in words.items())
