"""Volumes that emerge: buttons, progress, contact sheet, results as layers, and time travel."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtGui import QGuiApplication

from napari_prdit.generation import (
    Done,
    PreparedWalk,
    Progress,
    Watch,
    branch_work,
    generate_work,
)
from napari_prdit.jobs import Failed
from napari_prdit.keys import bind_keys, release_keys
from napari_prdit.last_run import LastRun
from napari_prdit.layers import OURS
from napari_prdit.paces import Setting, remember_paces
from napari_prdit.preferences import preferences
from napari_prdit.preview import MEAN, SPREAD, VOLUME, ResultLayer, kept_name
from napari_prdit.replay import Recording
from napari_prdit.saving import save_work
from napari_prdit.widgets.dock_place import open_dock
from napari_prdit.widgets.ending import ResultButtons
from napari_prdit.widgets.residual_inspector import ResidualInspector
from napari_prdit.widgets.time_travel import TimeTravel
from napari_prdit.widgets.work_panel import WorkPanel
from prdit_core.series import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_prdit.activity import Outcome
    from napari_prdit.jobs import Control
    from napari_prdit.request import Request
    from napari_prdit.widgets.generation_settings import GenerationSettings
    from prdit_core import Volume


class GenerationPanel(WorkPanel):
    """A series of volumes, the last of which can be gone back in; all are layers of the viewer."""

    def __init__(self, viewer: ViewerModel, settings: GenerationSettings) -> None:
        title = "Generating a CT volume"
        super().__init__(viewer, settings.model, "Generate", "volume", title)
        self.settings = settings
        self.results = {kind: ResultLayer(self.viewer, kind) for kind in (VOLUME, MEAN, SPREAD)}
        self.live = self.results[VOLUME]
        self.recording = Recording(preferences().replay_megabytes * 2**20)
        self.run: LastRun | None = None
        self._keyed: Layer | None = None
        self._failed = self._began = False
        self._build()

    def generate(self) -> None:
        """Start; a second call while it works does nothing."""
        request = self.settings.request()
        sizes = self.model.size_choice
        sizes.choose(sizes.edge)  # whatever the run teaches, what is shown is what was made
        self._work(generate_work, request)

    def branch(self, step: int, seed: int) -> None:
        """Go on from a recorded step of the last volume with another seed, in another layer."""
        if self.run is not None and self.run.last is not None:
            self._work(branch_work, self.run.branched(step, seed))

    def lost(self) -> list[str]:
        """What no layer holds."""
        steps, pictures = len(self.recording.indices), self.sheet.count()
        return [
            *["the volume that is being made"] * self.job.running,
            *[f"{steps} steps to go back to"] * (steps > 1),
            *[f"{pictures} volumes of the contact sheet, but for the one shown"] * (pictures > 1),
        ]

    def shut_down(self) -> None:
        """End work and timers, and forget what was recorded."""
        super().shut_down()
        self._bind_keys(None)
        self.recording = Recording(self.recording.budget)
        self.run = None

    # What the worker tells.

    def _work(self, work: Callable[[Request, Watch], Generator[Any]], request: Request) -> None:
        if self.job.running:
            return
        self.settings.paces.stop()
        self._failed = self._began = False
        recording = self.recording

        def watched(control: Control) -> Generator[Any]:
            return work(request, Watch(control, self.frames, recording))

        self._start(watched, request.count * request.config.steps)

    def _hear(self, event: object) -> None:
        if isinstance(event, PreparedWalk):
            self._begin(event)
        elif isinstance(event, Progress) and self.run is not None:
            self._go_on(event, self.run.prepared)
        elif isinstance(event, Done):
            self._take(event)
        elif isinstance(event, Summary):
            for kind, volume in ((MEAN, event.mean), (SPREAD, event.spread)):
                self.results[kind].finish(volume).visible = False
        elif isinstance(event, Failed):
            self._failed = True
            self.message.say(event.message, "error")

    def _begin(self, prepared: PreparedWalk) -> None:
        """What was made before stays as it is until here, where the model is loaded."""
        original = None if self.run is None else self.run.last
        if prepared.request.branches and original is not None and self.live.layer is not None:
            self.live.finish(original)
            self.live.keep()
        self._began = True
        self.run = LastRun(prepared, self.recording)
        self.travel.inspect.setVisible(prepared.in_parts)
        self.sheet.clear_volumes()
        self.live.begin()

    def _go_on(self, event: Progress, prepared: PreparedWalk) -> None:
        request = prepared.request
        self._show_progress(event, request.count)
        if event.index + 1 == event.total and request.tells_pace:
            setting = Setting(prepared.digest, request.device, prepared.threads)
            remember_paces(setting, {prepared.edge: event.seconds_per_step})

    def _take(self, done: Done) -> None:
        assert self.run is not None  # it was prepared
        self.run.volumes[done.volume] = done.result
        if self.run.many:
            self.sheet.add_volume(done.volume, done.result)

    def _ended(self) -> None:
        last = None if self.run is None else self.run.last
        if self._failed:
            if self._began:  # recorded steps of a volume that was never done lead nowhere
                self.recording.forget_from(0)
        elif self.run is not None and last is not None:
            self._bind_keys(self.live.finish(last))
            self.settings.condition.lay_on_top()
            self.message.say(self.run.ending(self._took))
            outcome: Outcome = "stopped" if self.job.control.stopped else "done"
            self.activity.end(self.message.text(), outcome)
        if self.run is not None and self.run.last is not None:
            self.travel.show_recording(self.recording, self.run.recorded)

    def _paint(self, frame: Volume) -> None:
        self.live.show(frame)
        self.settings.condition.lay_on_top()
        self._bind_keys(self.live.layer)

    def _show_volume(self, number: int) -> None:
        """One of a series in the live layer."""
        if self.run is not None and not self.job.running:
            self.live.finish(self.run.volumes[number])

    def _show_moment(self, index: int) -> None:
        """A recorded step in the live layer; the last one is the volume itself."""
        if self.run is None or self.run.last is None or self.job.running:
            return
        if self.live.layer is None:
            self.live.begin()
        self.live.show(self.run.at(index))
        self._bind_keys(self.live.layer)

    def _bind_keys(self, layer: Layer | None) -> None:
        """Let keys act for this dock while its layer is selected."""
        acts = {
            "Space": self.controls.pause.click,
            "Left": self.travel.back,
            "Right": self.travel.forward,
        }
        if self._keyed is not None and self._keyed is not layer:
            release_keys(self._keyed, acts)
        if layer is not None and layer is not self._keyed:
            bind_keys(layer, acts)
        self._keyed = layer

    def _inspect(self, index: int) -> None:
        """Hand a recorded state to the inspector of local and global part."""
        if self.run is None:
            return
        moment = self.recording.at(index)
        inspector = open_dock(self.viewer, ResidualInspector, "Inspect local and global part")
        checkpoint = self.run.prepared.request.checkpoint
        inspector.inspect_state(checkpoint, moment.x_t[0, 0], moment.t)

    # The controls.

    def _build(self) -> None:
        self.controls.wanted.connect(self.generate)
        self.ending = ResultButtons("generate")
        self.ending.save_wanted.connect(self._save)
        self.ending.keep_wanted.connect(self._keep)
        self.ending.another_wanted.connect(self._another)
        self.ending.command_wanted.connect(self._copy)
        self.ending.planes_wanted.connect(self.planes_wanted)
        self.sheet.chosen.connect(self._show_volume)
        self.travel = TimeTravel()
        self.travel.moved.connect(self._show_moment)
        self.travel.branched.connect(self.branch)
        self.travel.inspected.connect(self._inspect)
        for part in (self.controls, self.ending, self.sheet, self.travel):
            self.column.addWidget(part)
        self._show_running(False)

    def _save(self, format_name: str, place: str) -> None:
        layer = self.live.layer
        if layer is None:
            return
        data, attributes, kind = layer.as_layer_data_tuple()
        now = (np.array(data), attributes, kind)  # the next run fills the layer anew
        self.saving.save(partial(save_work, now, format_name, Path(place)))

    def _keep(self) -> None:
        self._bind_keys(None)
        kept = [result.keep() for result in self.results.values()]
        self.message.say(f"kept as {kept[0]}" if kept[0] else "there is no volume to keep")
        self._show_running(False)

    def _another(self) -> None:
        seed = self.settings.walk.seed
        seed.setValue(seed.value() + 1)
        self.generate()

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None  # there is one as soon as there are widgets
        request = self.settings.request() if self.run is None else self.run.prepared.request
        clipboard.setText(request.command())
        saved = "" if request.condition is None else f"; {request.condition.saved_first}"
        self.message.say(f"command copied{saved}")

    def _show_running(self, running: bool) -> None:
        super()._show_running(running)
        layer = self.live.layer
        self.ending.offer(layer is not None and not running)
        if layer is not None:
            self.ending.name = kept_name(layer.metadata.get(OURS, {})).replace(" ", "-")
        if running:
            self.travel.show_recording(None, "")
