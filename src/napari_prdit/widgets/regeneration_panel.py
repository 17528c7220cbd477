"""Regenerate a painted region: a model imagines it anew, consistent with the rest of the scan."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_prdit.generation import Progress
from napari_prdit.jobs import Failed
from napari_prdit.layers import OURS
from napari_prdit.preferences import preferences
from napari_prdit.preview import REGENERATED, ResultLayer, kept_name
from napari_prdit.regeneration import (
    Begun,
    Proposal,
    Regeneration,
    Wish,
    keep_mask,
    mask_layer,
    paint_on,
    regenerate_work,
    save_work_with_mask,
    show_mask,
)
from napari_prdit.widgets.ending import ResultButtons
from napari_prdit.widgets.parts import bring_into_view, button
from napari_prdit.widgets.region_form import RegionForm
from napari_prdit.widgets.work_panel import WorkPanel
from prdit_core.errors import PrditError, UsageError
from prdit_core.provenance import ESTIMATE, SYNTHETIC

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_prdit.activity import Outcome
    from napari_prdit.widgets.generation_forms import ModelForm
    from prdit_core import Volume


class RegenerationPanel(WorkPanel):
    """Proposals for a region; the one that is shown is a layer beside the scan.

    Attributes
    ----------
    form : which lies above the model
    """

    def __init__(self, viewer: ViewerModel, model: ModelForm) -> None:
        super().__init__(viewer, model, "Regenerate", "proposal", "Imagining a region anew")
        self.live = ResultLayer(self.viewer, REGENERATED)
        self.run: Regeneration | None = None
        self.history: list[Regeneration] = []
        self._build()

    def paint(self) -> None:
        """Take a brush on the painted layer, or on a new one that fits the scan."""
        scan, region = self.form.scan, self.form.region.chosen
        if scan is None:
            self.message.say(self.form.source.no_scan(), "error")
            return
        if region is None or region.data.shape != scan.data.shape:
            region = paint_on(self.viewer, scan)
            self.form.region.choose(region)
        region.visible = True
        region.mode = "paint"
        self.viewer.layers.selection.active = region
        self.message.say(
            "paint over what shall be forgotten, in any plane; the keys [ and ] change the brush"
        )

    def wish(self) -> Wish:
        """What the controls say, with the layers as they are now.

        Raises
        ------
        UsageError
            If there is no scan, or no painted layer.
        """
        scan, region = self.form.scan, self.form.region.chosen
        if scan is None:
            raise UsageError(self.form.source.no_scan())
        if region is None:
            raise UsageError("press Paint, paint over a part of the scan, then Regenerate")
        goes_on = scan is self.live.layer  # which the next result will fill
        data, attributes, kind = scan.as_layer_data_tuple()
        painted, place, labels = region.as_layer_data_tuple()
        return Wish(
            checkpoint=self.model.checkpoint.text,
            size=self.model.size_choice.edge,
            device=preferences().device,
            scan=(np.array(data) if goes_on else data, attributes, kind),
            region=(np.array(painted), place, labels),
            earlier=self.history[-1].imagined if goes_on and self.history else None,
            steps=self.form.steps.value(),
            seed=self.form.seed.value(),
            count=self.form.count.value(),
        )

    def regenerate(self) -> None:
        """Start; a second call while it works does nothing."""
        if self.job.running:
            return
        try:
            wish = self.wish()
        except PrditError as error:
            self.message.say(str(error), "error")
            return
        self.run = None
        self._start(partial(regenerate_work, wish, self.frames), wish.count * wish.steps)

    def undo(self) -> None:
        """The result before comes back; before the first there is the scan."""
        if self.job.running or not self.history:
            return
        self.history.pop()
        self._show_last()
        back = "the result before" if self.history else "the scan as it was"
        self.message.say(f"back to {back}")
        self._show_running(False)

    def lost(self) -> list[str]:
        """What no layer holds."""
        pictures = self.sheet.count()
        return [
            *["the proposal that is being made"] * self.job.running,
            *[f"{pictures} proposals, but for the one shown"] * (pictures > 1),
        ]

    def shut_down(self) -> None:
        """End work and timers, and listen to the viewer no more."""
        super().shut_down()
        self.form.leave()

    # What the worker tells.

    def _hear(self, event: object) -> None:
        if isinstance(event, Begun):
            if not self.history:
                self._leave()  # a result of a dock that was closed
            self.run = Regeneration(event.wish, event.forgotten)
            self.sheet.clear_volumes()
            self.viewer.dims.point = self.run.centre
            self.form.hide_region()
            self.live.begin()
        elif isinstance(event, Progress) and self.run is not None:
            self._show_progress(event, self.run.wish.count)
        elif isinstance(event, Proposal) and self.run is not None:
            self.run.proposals[event.number] = event.imagined
            self.run.shown = event.number
            self._add_picture(self.run, event.number)
        elif isinstance(event, Failed):
            self.message.say(event.message, "error")

    def _ended(self) -> None:
        if self.run is not None and self.run.proposals:
            self.history.append(self.run)
            if self.message.kind != "error":
                self._say_done(self.run)
        if self.run is not None:
            self._show_last()
        elif self.history:  # it failed before anything was touched
            self.run = self.history[-1]

    def _say_done(self, run: Regeneration) -> None:
        took, metadata = self._took, run.proposals[run.shown].metadata
        outcome: Outcome = "stopped" if ESTIMATE in metadata else "done"
        self.activity.end("The region was imagined anew.", outcome)
        if ESTIMATE in metadata:
            at = f"step {metadata[ESTIMATE]} of {metadata['steps']}"
            self.message.say(f"Stopped after {at}; what is shown is the estimate there")
        elif len(run.proposals) > 1:
            self.message.say(f"Done in {took}: {SYNTHETIC}. Click a proposal below to show it")
        else:
            self.message.say(f"Done in {took}: {SYNTHETIC}")
        bring_into_view(self.sheet if len(run.proposals) > 1 else self.ending)

    def _show_last(self) -> None:
        """The newest result with its proposals; without any, the scan alone."""
        self.sheet.clear_volumes()
        self.run = self.history[-1] if self.history else None
        if self.run is None:
            show_mask(self.viewer, None)
            if self.live.layer is not None:
                self.viewer.layers.remove(self.live.layer)
            return
        shown = self.run.shown
        for number in self.run.proposals:
            self._add_picture(self.run, number)
        self._show_proposal(shown)
        self.sheet.setCurrentRow(list(self.run.proposals).index(shown))

    def _show_proposal(self, number: int) -> None:
        """One of several in the layer."""
        if self.run is not None and not self.job.running:
            self.run.shown = number
            self.live.finish(self.run.result())
            show_mask(self.viewer, self.run.mask())

    def _add_picture(self, run: Regeneration, number: int) -> None:
        if run.wish.count > 1:
            self.sheet.add_volume(number, run.picture(number), "proposal")

    def _paint(self, frame: Volume) -> None:
        self.live.show(frame)

    # The controls.

    def _build(self) -> None:
        self.controls.wanted.connect(self.regenerate)
        self.form = RegionForm(self.viewer)
        self.steps = self.form.steps
        self.form.paint_wanted.connect(self.paint)
        self.back = button("Undo", "Bring the result before back, or the scan as it was", self.undo)
        self.ending = ResultButtons("reconstruct", self.back)
        self.ending.save_wanted.connect(self._save)
        self.ending.keep_wanted.connect(self._keep)
        self.ending.another_wanted.connect(self._another)
        self.ending.planes_wanted.connect(self.planes_wanted)
        self.sheet.chosen.connect(self._show_proposal)
        for part in (self.controls, self.sheet, self.ending):
            self.column.addWidget(part)
        self._show_running(False)

    def _save(self, format_name: str, place: str) -> None:
        layer, mask = self.live.layer, mask_layer(self.viewer)
        if layer is None or mask is None:
            self.message.say("there is no result to save", "error")
            return
        data, attributes, kind = layer.as_layer_data_tuple()
        now = (np.array(data), attributes, kind)  # the next result fills the layer anew
        imagined = mask.as_layer_data_tuple()
        self.saving.save(partial(save_work_with_mask, now, imagined, format_name, Path(place)))

    def _keep(self) -> None:
        name = self._leave()
        self.message.say(f"kept as {name}" if name else "there is no result to keep")
        self.sheet.clear_volumes()
        self._show_running(False)

    def _leave(self) -> str | None:
        """Leave result and outline to the user; its name, or None if there is none."""
        name = self.live.keep()
        if name is not None:
            keep_mask(self.viewer, name)
            self.history.clear()
            self.run = None
        return name

    def _another(self) -> None:
        self.form.seed.setValue(self.form.seed.value() + 1)
        self.regenerate()

    def _show_running(self, running: bool) -> None:
        super()._show_running(running)
        layer = self.live.layer
        self.ending.offer(layer is not None and not running)
        self.back.setEnabled(bool(self.history) and not running)
        if layer is not None:
            name = kept_name(layer.metadata.get(OURS, {}))
            self.ending.name = name.replace(",", "").replace(" ", "-")
