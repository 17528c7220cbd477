"""The dock "Generate CT volume": choose a model, watch a volume emerge, go back in time."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QVBoxLayout

from napari_prdit.activity import Activity
from napari_prdit.generation import (
    Done,
    PreparedWalk,
    Progress,
    Watch,
    branch_work,
    generate_work,
)
from napari_prdit.jobs import Failed, Job, Mailbox
from napari_prdit.keys import bind_keys, release_keys
from napari_prdit.last_run import LastRun
from napari_prdit.layers import OURS
from napari_prdit.paces import Setting, remember_paces
from napari_prdit.preferences import preferences
from napari_prdit.preview import MEAN, SPREAD, VOLUME, Refresher, ResultLayer, kept_name
from napari_prdit.replay import Recording
from napari_prdit.saving import save_work
from napari_prdit.widgets.contact_sheet import ContactSheet
from napari_prdit.widgets.dock_place import OpensAsTab
from napari_prdit.widgets.ending import ResultButtons
from napari_prdit.widgets.generation_settings import GenerationSettings
from napari_prdit.widgets.parts import scrolled
from napari_prdit.widgets.run_controls import RunControls
from napari_prdit.widgets.saver import Saver
from napari_prdit.widgets.time_travel import TimeTravel
from napari_prdit.widgets.working_dock import WorkingDock
from prdit_core.runs.status import duration
from prdit_core.series import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import napari.viewer
    from napari.layers import Layer
    from qtpy.QtGui import QShowEvent

    from napari_prdit.jobs import Control
    from napari_prdit.request import Request
    from prdit_core import Volume

MEASURE_AFTER_MS = 1500  # the window has been painted then


class GenerateDock(WorkingDock):
    """Settings above, what happens below; all results are layers of the viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        # napari hands out a proxy, whose layers are proxies too.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.results = {kind: ResultLayer(self.viewer, kind) for kind in (VOLUME, MEAN, SPREAD)}
        self.live = self.results[VOLUME]
        self.frames: Mailbox[Volume] = Mailbox()
        self.recording = Recording(preferences().replay_megabytes * 2**20)
        self.job = Job(self)
        self.job.yielded.connect(self._hear)
        self.job.ended.connect(self._ended)
        self.refresher = Refresher(self._tick, preferences().preview_rate, self)
        self.run: LastRun | None = None
        self._activity = Activity()
        self._keyed: Layer | None = None
        self._failed = self._began = False
        self._asked_at = 0.0
        self._steps_done = 0
        self._planes_shown = False
        self._build()
        OpensAsTab(self)
        self.choose_checkpoint("demo")

    def choose_checkpoint(self, name: str) -> None:
        """Take a catalogue name, a checkpoint folder or a run folder."""
        self.model.checkpoint.choose(name)

    def request(self) -> Request:
        """What the controls say."""
        return self.settings.request()

    def generate(self) -> None:
        """Start; a second call while it works does nothing."""
        request = self.request()
        sizes = self.model.size_choice
        sizes.choose(sizes.edge)  # whatever the run teaches, what is shown is what was made
        self._start(partial(generate_work, request))

    def branch(self, step: int, seed: int) -> None:
        """Go on from a recorded step of the last volume with another seed, in another layer."""
        if self.run is not None and self.run.last is not None:
            self._start(partial(branch_work, self.run.branched(step, seed)))

    def lost(self) -> list[str]:
        """What no layer holds."""
        steps, pictures = len(self.recording.indices), self.sheet.count()
        return [
            *["the volume that is being made"] * self.job.running,
            *[f"{steps} steps to go back to"] * (steps > 1),
            *[f"{pictures} volumes of the contact sheet, but for the one shown"] * (pictures > 1),
        ]

    def showEvent(self, event: QShowEvent | None) -> None:
        """The three planes belong together: open the other two with the dock, once."""
        super().showEvent(event)
        if not self._planes_shown:
            self._planes_shown = True
            QTimer.singleShot(0, self._open_planes)
            QTimer.singleShot(MEASURE_AFTER_MS, self._measure)

    def shut_down(self) -> None:
        """End work and timers, and forget what was recorded."""
        self.refresher.stop()
        self.settings.shut_down()
        self._bind_keys(None)
        self.job.abandon()
        self.saving.abandon()
        self.recording = Recording(self.recording.budget)
        self.run = None
        self._activity.end()

    # What the worker tells.

    def _start(self, work: Callable[[Watch], Generator[Any]]) -> None:
        if self.job.running:
            return
        self.settings.paces.stop()
        self.frames.take()
        self._failed = self._began = False
        self._asked_at = time.monotonic()
        self.controls.show_loading()
        recording = self.recording

        def watched(control: Control) -> Generator[Any]:
            return work(Watch(control, self.frames, recording))

        self.job.start(watched)
        self._show_running(True)
        self.refresher.start()

    def _hear(self, event: object) -> None:
        if isinstance(event, PreparedWalk):
            self._begin(event)
        elif isinstance(event, Progress):
            self._show_progress(event)
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
        self._steps_done = 0
        self.run = LastRun(prepared, self.recording)
        self.sheet.clear_volumes()
        self.live.begin()

    def _take(self, done: Done) -> None:
        assert self.run is not None  # it was prepared
        self.run.volumes[done.volume] = done.result
        if self.run.many:
            self.sheet.add_volume(done.volume, done.result)

    def _ended(self) -> None:
        self.refresher.stop()
        self._paint()
        last = None if self.run is None else self.run.last
        if self._failed:
            if self._began:  # recorded steps of a volume that was never done lead nowhere
                self.recording.forget_from(0)
        elif self.run is not None and last is not None:
            self._bind_keys(self.live.finish(last))
            self.condition.lay_on_top()
            self.message.say(self.run.ending(duration(time.monotonic() - self._asked_at)))
        self._show_running(False)
        self._show_recording()
        self._show_times()
        self._tell_end()

    def _tell_end(self) -> None:
        if self._failed:
            self._activity.end(self.message.text(), "failed")
        else:
            self._activity.end(
                self.message.text(), "stopped" if self.job.control.stopped else "done"
            )

    def _tick(self) -> None:
        self._paint()
        self._show_activity()

    def _show_activity(self) -> None:
        """Never from an event of the worker: to paint a bar napari handles all that wait."""
        if self.run is None or not self._began:
            return
        request = self.run.prepared.request
        total = request.count * request.config.steps
        if self._activity.total != total:
            self._activity.begin("Generating a CT volume", total)
        self._activity.advance(self._steps_done)
        if not self.job.running:  # it ended meanwhile
            self._activity.end()

    def _paint(self) -> None:
        frame = self.frames.take()
        if frame is not None:
            self.live.show(frame)
            self.condition.lay_on_top()
            self._bind_keys(self.live.layer)

    def _show_progress(self, event: Progress) -> None:
        assert self.run is not None  # it was prepared
        request = self.run.prepared.request
        self.controls.show_progress(event, request.count)
        self._steps_done = event.volume * event.total + event.index + 1
        if event.index + 1 == event.total and request.tells_pace:
            self._remember(event)

    def _remember(self, event: Progress) -> None:
        assert self.run is not None
        prepared = self.run.prepared
        setting = Setting(prepared.digest, prepared.request.device, prepared.threads)
        remember_paces(setting, {prepared.edge: event.seconds_per_step})

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
        acts = {"Space": self.pause.click, "Left": self.travel.back, "Right": self.travel.forward}
        if self._keyed is not None and self._keyed is not layer:
            release_keys(self._keyed, acts)
        if layer is not None and layer is not self._keyed:
            bind_keys(layer, acts)
        self._keyed = layer

    def _show_recording(self) -> None:
        if self.run is None or self.run.last is None:
            self.travel.show_recording(None, "")
        else:
            self.travel.show_recording(self.recording, self.run.recorded)

    def _inspect(self, index: int) -> None:
        """Hand a recorded state to the inspector of local and global part."""
        if self.run is None:
            return
        moment = self.recording.at(index)
        place, inspector = self.viewer.window.add_plugin_dock_widget(
            "napari-prdit", "Inspect local and global part", tabify=True
        )
        place.raise_()
        checkpoint = self.run.prepared.request.checkpoint
        inspector.inspect_state(checkpoint, moment.x_t[0, 0], moment.t)

    def _open_planes(self) -> None:
        from napari_prdit.widgets.planes import show_planes

        show_planes(self.viewer)

    # What volumes will take.

    def _measure(self) -> None:
        """Find out how long volumes of this model take here, while nothing else is done."""
        if self.isVisible() and not self.job.running:
            self.settings.measure()

    def _show_times(self) -> None:
        if not self.job.running:
            self.settings.show_times()

    def _settings_changed(self) -> None:
        """A fault may be mended by what was changed, and another model takes another time."""
        if self.message.kind == "error":
            self.message.say("")
        self._show_times()
        self._measure()

    # The controls.

    def _build(self) -> None:
        self.controls = RunControls(self.job)
        self.controls.wanted.connect(self.generate)
        self.message, self.progress = self.controls.message, self.controls.progress
        self.saving = Saver(self.message, self)
        self.go, self.pause = self.controls.go, self.controls.pause
        self.one, self.halt = self.controls.one, self.controls.halt
        self.settings = GenerationSettings(self.viewer, self)
        self.model, self.walk = self.settings.model, self.settings.walk
        self.condition = self.settings.condition
        self.settings.changed.connect(self._settings_changed)
        self.model.refused.connect(self._show_refusal)
        self.settings.measured.connect(self._show_times)
        self.ending = ResultButtons("generate")
        self.ending.save_wanted.connect(self._save)
        self.ending.keep_wanted.connect(self._keep)
        self.ending.another_wanted.connect(self._another)
        self.ending.command_wanted.connect(self._copy)
        self.ending.planes_wanted.connect(self._open_planes)
        self.sheet = ContactSheet()
        self.sheet.chosen.connect(self._show_volume)
        self.travel = TimeTravel()
        self.travel.moved.connect(self._show_moment)
        self.travel.branched.connect(self.branch)
        self.travel.inspected.connect(self._inspect)
        below = (self.controls, self.ending, self.sheet, self.travel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(scrolled(self.model, self.condition, self.walk, *below))
        self._show_running(False)

    def _show_refusal(self, why: str) -> None:
        if why:
            self.message.say(why, "error")

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
        self.walk.seed.setValue(self.walk.seed.value() + 1)
        self.generate()

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None  # there is one as soon as there are widgets
        request = self.request() if self.run is None else self.run.prepared.request
        clipboard.setText(request.command())
        saved = "" if request.condition is None else f"; {request.condition.saved_first}"
        self.message.say(f"command copied{saved}")

    def _show_running(self, running: bool) -> None:
        self.controls.show_running(running)
        layer = self.live.layer
        self.ending.offer(layer is not None and not running)
        if layer is not None:
            self.ending.name = kept_name(layer.metadata.get(OURS, {})).replace(" ", "-")
        if running:
            self.travel.show_recording(None, "")
