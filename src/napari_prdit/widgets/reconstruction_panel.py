"""Reconstruct a measurement with a model, and beside it by methods that know no anatomy."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QFileDialog, QLabel

from napari_prdit.generation import Progress
from napari_prdit.jobs import Failed
from napari_prdit.layers import OURS
from napari_prdit.measuring import MeasuredData, described
from napari_prdit.preferences import preferences
from napari_prdit.reconstruction import (
    COUPLINGS,
    LAST_STEPS,
    MEAN,
    METHODS,
    MODEL,
    OF_KSPACE,
    OF_RAYS,
    PARTS,
    Assessed,
    Frame,
    Misfits,
    Reconstruction,
    Sample,
    compare_work,
    ending,
    ending_of_method,
    reconstruct_work,
    save_measurement_work,
)
from napari_prdit.reconstruction_layers import LOOKS, MEASURED, ReconstructionLayers
from napari_prdit.reconstruction_results import Results
from napari_prdit.saving import save_work
from napari_prdit.widgets.ending import ResultButtons
from napari_prdit.widgets.measurement_form import MeasurementForm, SamplesForm
from napari_prdit.widgets.misfit_plot import MisfitPlot
from napari_prdit.widgets.parts import Message, bring_into_view, button, row
from napari_prdit.widgets.result_table import ResultTable
from napari_prdit.widgets.work_panel import WorkPanel
from prdit_core.errors import PrditError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_prdit.measuring import MeasuredSource, ScanTask
    from napari_prdit.widgets.generation_forms import ModelForm
    from prdit_core.verbs.classical import ClassicalMethod

TIPS: dict[ClassicalMethod, str] = {
    "fbp": "Filtered backprojection; done at once",
    "sirt": "Algebraic iterations; seconds",
    "zero-filling": "Of k-space: what was not sampled is 0; done at once",
    "cg": "Conjugate gradients, least squares; seconds",
    "tv": "Total variation; half a minute or so, of which tuning it to the views may be the most",
}


class ReconstructionPanel(WorkPanel):
    """Samples of a model that fit the data, and the methods they are to be compared with.

    Attributes
    ----------
    form : which lies above the model
    results : of the measurement that the layers are of
    """

    def __init__(self, viewer: ViewerModel, model: ModelForm) -> None:
        super().__init__(viewer, model, "Reconstruct", "sample", "Reconstructing a CT volume")
        self.layers = ReconstructionLayers(viewer)
        self.results: Results | None = None
        self.misfits = Misfits()
        self._working_at = MODEL
        self._build()

    def take(self, task: ScanTask | None) -> None:
        """Offer the settings of a task; None: those of a file."""
        self.form.take(task)
        for method in OF_RAYS:
            self.methods[method].setVisible(task is None or task.has_rays)
        for method in OF_KSPACE:
            self.methods[method].setVisible(task is None)

    def requested(self) -> Reconstruction:
        """What the controls say, with the scan as it is now; raises as `MeasurementForm`."""
        return Reconstruction(
            source=self._source(),
            checkpoint=self.model.checkpoint.text,
            size=self._size,
            device=preferences().device,
            steps=self.own.steps.value(),
            coupling=list(COUPLINGS)[self.own.coupling.currentIndex()],
            iterations=self.own.iterations.value() or None,
            calibration=self.own.calibration.drop.text,
            last_step=list(LAST_STEPS)[self.own.last_step.currentIndex()],
            paper=self.own.paper,
            seed=self.own.seed.value(),
            count=self.own.count.value(),
        )

    def reconstruct(self) -> None:
        """Start; a second call while it works does nothing."""
        if self.job.running:
            return
        try:
            request = self.requested()
        except PrditError as error:
            self.message.say(str(error), "error")
            return
        self.misfits, self._working_at = Misfits(), MODEL
        work = partial(reconstruct_work, request, self.frames, self.misfits)
        self._start(work, request.count * request.steps)

    def compare(self, method: ClassicalMethod) -> None:
        """Reconstruct the same without a model."""
        if self.job.running:
            return
        try:
            source = self._source()
        except PrditError as error:
            self.message.say(str(error), "error")
            return
        self._working_at = method
        self._start(partial(compare_work, source, method, self.frames), 0)
        self.message.say(f"measuring, then {METHODS[method]} ...")

    def lost(self) -> list[str]:
        """What no layer holds."""
        count = self.sheet.count()
        return [
            *["the reconstruction that is being made"] * self.job.running,
            *[f"{count} samples, but for the one shown"] * (count > 1),
        ]

    def shut_down(self) -> None:
        """End work and timers, and listen to the viewer no more."""
        super().shut_down()
        self.form.leave()

    # What the worker tells.

    def _hear(self, event: object) -> None:
        if isinstance(event, MeasuredData):
            self._take_measured(event)
        elif isinstance(event, Progress):
            self._show_progress(event, self.own.count.value() if self._at_model else 1)
        elif isinstance(event, Sample) and self.results is not None:
            self.results.samples[event.number] = event.volume
            self.results.shown = event.number
            self.layers.show(MODEL, event.volume)
            self.sheet.add_volume(event.number, event.volume, "sample")
        elif isinstance(event, Assessed) and self.results is not None:
            self.results.assessments[event.method] = event.assessment
        elif isinstance(event, Failed):
            self.message.say(event.message, "error")

    def _take_measured(self, measured: MeasuredData) -> None:
        """Results of the same data stay; those of others go, unless they were kept."""
        same = self.results is not None and self.results.same_as(measured)
        if self.results is None or not same:
            for key in LOOKS:
                self.layers.drop(key)
            self.results = Results(measured)
            self.layers.show_measured(measured)
            self.layers.look_inside(MEASURED)
            self.sheet.clear_volumes()
        if self._at_model:
            self.results.forget_model()
            self.sheet.clear_volumes()
            for key in (MODEL, MEAN, *PARTS):
                self.layers.drop(key)
        self.about.say("\n".join((described(measured), *measured.notes)))
        self._show_rows(MEASURED)

    def _paint(self, frame: Frame) -> None:
        """What comes about, in a layer that its first picture makes."""
        if self.results is None:
            return
        if self._at_model:
            self.plot.draw(self.misfits.curves)
        if frame.method not in self.results.begun:
            self.results.begun.add(frame.method)
            self.layers.show(frame.method, frame.volume)
            self._show_rows(frame.method)
            bring_into_view(self.plot if self._at_model else self.table)
        else:
            self.layers.show_live(frame.method, frame.volume)

    def _ended(self) -> None:
        if self._at_model:
            self.plot.draw(self.misfits.curves)
        if self.results is None:
            return
        self.results.begun.clear()
        seen = self.results.assessments.get(self._working_at)
        if seen is None:  # it failed, or was stopped before there was anything
            if not self._at_model or not self.results.samples:
                self.layers.drop(self._working_at)
            if self.message.kind != "error":
                self.message.say("Stopped; nothing of it is kept")
            self._show_rows(self.table.key)
            return
        for key, volume in self.results.volumes().items():
            if self.layers.get(key) is None or key == self._working_at:
                self.layers.show(key, volume)
        if self.message.kind != "error":
            words = ending(seen, self._took) if self._at_model else ending_of_method(seen)
            self.message.say(words)
            self.activity.end("The volume is reconstructed.")
        key = MEAN if self._at_model and seen.count > 1 else self._working_at
        self._show_rows(key)
        self._explain(key)
        bring_into_view(self.ending)

    # What is seen.

    @property
    def _at_model(self) -> bool:
        return self._working_at == MODEL

    @property
    def _size(self) -> int | None:
        """Of a chain; None for a file, which has a grid of its own."""
        return None if self.form.task is None else self.model.size_choice.edge

    def _source(self) -> MeasuredSource:
        return self.form.requested(self.model.checkpoint.text, self._size)

    def _show_rows(self, key: str) -> None:
        """All layers that are there, one of them visible."""
        if self.results is None:
            return
        there = {key for key in LOOKS if self.layers.get(key) is not None}
        self.table.show_rows(self.results.rows(there), key)
        self._flip(key)

    def _flip(self, key: str) -> None:
        if self.layers.flip(key):
            self._explain(key)
        elif not self.job.running and key:
            self.message.say("that layer was deleted; reconstruct again to have it back", "warning")
        self._name_file(key)

    def _explain(self, key: str) -> None:
        self.says.say(LOOKS[key].says)

    def _show_sample(self, number: int) -> None:
        """One of several in the layer of samples."""
        if self.results is None or self.job.running:
            return
        self.results.shown = number
        self.layers.show(MODEL, self.results.samples[number])
        self._show_rows(MODEL)

    # The controls.

    def _build(self) -> None:
        self.form, self.own = MeasurementForm(self.viewer), SamplesForm()
        self.steps = self.own.steps
        self.form.changed.connect(self._forgive)
        self.model.changed.connect(lambda: self.own.take_network(self.model.network))
        self.controls.wanted.connect(self.reconstruct)
        self.methods = {
            method: button(words, TIPS[method], partial(self.compare, method))
            for method, words in METHODS.items()
        }
        beside = QLabel("without a model:")
        beside.setToolTip("The same data by methods that know no anatomy, and imagine none")
        self.about, self.says, self.plot = Message(), Message(), MisfitPlot()
        self.table = ResultTable()
        self.table.chosen.connect(self._flip)
        self.sheet.chosen.connect(self._show_sample)
        data = button(
            "Save data ...",
            "Write the measurement to an .npz file, for prdit-core reconstruct or another day",
            self._ask_for_data,
        )
        self.data = data
        self.ending = ResultButtons("reconstruct", data)
        self.ending.save_wanted.connect(self._save)
        self.ending.keep_wanted.connect(self._keep)
        self.ending.another_wanted.connect(self._another)
        self.ending.planes_wanted.connect(self.planes_wanted)
        methods = row(beside, *self.methods.values())
        seen = (self.about, self.plot, self.table, self.says, self.sheet, self.ending)
        for part in (self.own, self.controls, methods, *seen):
            self.column.addWidget(part)
        self._show_running(False)

    def _forgive(self) -> None:
        """A fault may be mended by what was changed."""
        if self.message.kind == "error":
            self.message.say("")

    def _save(self, format_name: str, place: str) -> None:
        layer = self.layers.get(self.table.key)
        if layer is None or self.table.key == MEASURED:
            self.message.say("choose a volume in the table first; data have their own button")
            return
        data, attributes, kind = layer.as_layer_data_tuple()
        now = (np.array(data), attributes, kind)  # the next run fills the layer anew
        self.saving.save(partial(save_work, now, format_name, Path(place)))

    def _ask_for_data(self) -> None:
        suggested = str(Path.home() / "measurement.npz")
        place, _ = QFileDialog.getSaveFileName(self, "Save the data", suggested, "(*.npz)")
        if place:
            self.save_data(place)

    def save_data(self, place: str) -> None:
        """Write the measurement that was made last."""
        if self.results is not None:
            measurement = self.results.measured.measurement
            self.saving.save(partial(save_measurement_work, measurement, Path(place)))

    def _keep(self) -> None:
        count = self.layers.keep(f"seed {self.own.seed.value()}")
        self.results = None
        self.table.show_rows([], "")
        self.sheet.clear_volumes()
        for text in (self.says, self.about):
            text.say("")
        self.plot.draw([])
        self.message.say(f"{count} layers are yours; the next reconstruction makes new ones")
        self._show_running(False)

    def _another(self) -> None:
        self.own.seed.setValue(self.own.seed.value() + self.own.count.value())
        self.reconstruct()

    def _name_file(self, key: str) -> None:
        layer = self.layers.get(key)
        if layer is not None:
            name = layer.name.replace(",", "").replace(" ", "-")
            self.ending.name = f"{name}-seed-{layer.metadata[OURS].get('seed', 0)}"

    def _show_running(self, running: bool) -> None:
        super()._show_running(running)
        there = self.results is not None and not running
        for part in (*self.methods.values(), self.table):
            part.setEnabled(not running)
        self.ending.offer(there)
        self.data.setEnabled(there)
