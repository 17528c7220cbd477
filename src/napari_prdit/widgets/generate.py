"""The dock "Generate CT volume": choose a model, watch a volume emerge, go back in time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from napari_prdit.generation import (
    Done,
    Prepared,
    Progress,
    Request,
    Summary,
    Watch,
    branch_work,
    generate_work,
)
from napari_prdit.jobs import Failed, Job, Mailbox
from napari_prdit.layers import image_layer
from napari_prdit.preferences import preferences
from napari_prdit.preview import LiveLayer, Refresher
from napari_prdit.replay import Recording
from napari_prdit.widgets.contact_sheet import ContactSheet
from napari_prdit.widgets.generation_forms import ModelForm, WalkForm
from napari_prdit.widgets.parts import (
    Message,
    button,
    duration,
    row,
    scrolled,
)
from napari_prdit.widgets.time_travel import TimeTravel
from napari_prdit.widgets.working_dock import WorkingDock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import napari.viewer
    from qtpy.QtGui import QShowEvent

    from napari_prdit.generation import Frame
    from napari_prdit.jobs import Control
    from prdit_core import Volume


class GenerateDock(WorkingDock):
    """Settings above, what happens below; all results are layers of the viewer."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.live = LiveLayer(napari_viewer)
        self.frames: Mailbox[Frame] = Mailbox()
        self.recording = Recording(preferences().replay_megabytes * 2**20)
        self.job = Job(self)
        self.job.told.connect(self._hear)
        self.job.ended.connect(self._ended)
        self.refresher = Refresher(self._paint, preferences().preview_rate, self)
        self._last: Request | None = None
        self._grid: Prepared | None = None
        self._volumes: dict[int, Volume] = {}
        self._planes_shown = False
        self._build()
        self.choose_checkpoint("demo")

    def choose_checkpoint(self, name: str) -> None:
        """Take a catalogue name, a checkpoint folder or a run folder."""
        self.model.checkpoint.choose(name)

    def request(self) -> Request:
        """What the controls say."""
        return self.walk.request(self.model.checkpoint.text, self.model.size_choice.edge)

    def generate(self) -> None:
        """Start; a second call while it works does nothing."""
        request = self.request()
        self._start(request, partial(generate_work, request))

    def branch(self, step: int, seed: int) -> None:
        """Go on from a step of the last run with another seed."""
        if self._last is not None:
            self._start(self._last, partial(branch_work, self._last, step, seed))

    def showEvent(self, event: QShowEvent | None) -> None:
        """The three planes belong together: open the other two with the dock, once."""
        super().showEvent(event)
        if not self._planes_shown:
            self._planes_shown = True
            QTimer.singleShot(0, self._open_planes)

    def shut_down(self) -> None:
        """End work and timers."""
        self.refresher.stop()
        self.job.stop_and_wait()

    # What the worker tells.

    def _start(self, request: Request, work: Callable[[Watch], Generator[Any]]) -> None:
        if self.job.running:
            return
        self._last, self._volumes = request, {}
        self.frames.take()
        self.sheet.clear_volumes()
        self.message.say("loading the model ...")
        self._show_running(True)

        def watched(control: Control) -> Generator[Any]:
            return work(Watch(control, self.frames, self.recording))

        self.job.start(watched)
        self.refresher.start()

    def _hear(self, event: object) -> None:
        if isinstance(event, Prepared):
            self._grid = event
            self.live.prepare(event)
        elif isinstance(event, Progress):
            self._show_progress(event)
        elif isinstance(event, Done):
            self._show_done(event)
        elif isinstance(event, Summary):
            self._show_summary(event)
        elif isinstance(event, Failed):
            self.message.say(event.message, "error")

    def _ended(self) -> None:
        self.refresher.stop()
        self._paint()
        for volume in list(self._volumes.values())[-1:]:
            self._show_volume(volume)
        self._show_running(False)
        self.travel.show_recording(self.recording)

    def _paint(self) -> None:
        frame = self.frames.take()
        if frame is not None:
            self.live.show(frame.voxels_hu)

    def _show_progress(self, event: Progress) -> None:
        self.progress.setMaximum(event.total)
        self.progress.setValue(event.index + 1)
        many = self._grid is not None and self._grid.count > 1
        which = f"volume {event.volume + 1} of {self._grid.count}, " if many and self._grid else ""
        if self.job.control.paused:
            self.message.say(f"{which}paused at step {event.index + 1} of {event.total}")
        else:
            self.message.say(
                f"{which}step {event.index + 1} of {event.total}, "
                f"{event.seconds_per_step:.2g} s a step, {duration(event.seconds_left)} left"
            )

    def _show_done(self, event: Done) -> None:
        self._volumes[event.volume] = event.result
        if self._grid is not None and self._grid.count > 1:
            self.sheet.add_volume(event.volume, event.result)
        after = f"stopped after step {event.result.metadata.get('stopped_after')}; " * event.partial
        self.message.say(f"{after}seed {event.result.metadata['seed']}, index {event.volume}")

    def _show_summary(self, event: Summary) -> None:
        for name, volume in (("mean", event.mean), ("spread", event.spread)):
            data, attributes, _ = image_layer(volume, f"{name} of {event.count} volumes")
            if name == "spread":
                attributes |= {
                    "colormap": "inferno",
                    "contrast_limits": (0, float(data.max()) or 1),
                }
            self.viewer.add_image(data, **attributes, visible=False)
        self.message.say(f"{event.count} volumes; their mean and spread are hidden layers")

    def _show_volume(self, volume: Volume) -> None:
        if self._grid is None:
            return
        if self.live.layer is None and volume.shape != self._grid.shape:
            return
        self.live.finish(volume)

    def _show_moment(self, index: int) -> None:
        """A recorded step in the live layer."""
        if self._grid is None or self.job.running:
            return
        moment = self.recording.at(index)
        if self.live.layer is None:
            self.live.prepare(self._grid)
        self.live.show(self._grid.intensity.to_hu(moment.x0[0, 0]))

    def _inspect(self, index: int) -> None:
        """Hand a recorded state to the inspector of local and global part."""
        if self._last is None:
            return
        moment = self.recording.at(index)
        place, inspector = self.viewer.window.add_plugin_dock_widget(
            "napari-prdit", "Inspect local and global part", tabify=True
        )
        place.raise_()
        inspector.inspect_state(self._last.checkpoint, moment.x_t[0, 0], moment.t)

    def _open_planes(self) -> None:
        from napari_prdit.widgets.planes import show_planes

        show_planes(self.viewer)

    # The controls.

    def _build(self) -> None:
        self.message = Message()
        self.model, self.walk = ModelForm(), WalkForm()
        self.model.refused.connect(lambda why: self.message.say(why, "error" if why else "note"))
        self.progress = QProgressBar()
        self.progress.setToolTip("Steps of the volume at hand")
        self.sheet = ContactSheet()
        self.sheet.chosen.connect(lambda number: self._show_volume(self._volumes[number]))
        self.travel = TimeTravel()
        self.travel.moved.connect(self._show_moment)
        self.travel.branched.connect(self.branch)
        self.travel.inspected.connect(self._inspect)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(
            scrolled(
                self.model,
                self.walk,
                self._buttons(),
                self.progress,
                self.message,
                self._results(),
                self.sheet,
                self.travel,
            )
        )
        self._show_running(False)

    def _buttons(self) -> QWidget:
        self.go = button("Generate", "Start", self.generate)
        self.pause = button("Pause", "Rest after this step", self._pause_or_resume)
        self.one = button("Step", "Go one step further and rest", self.job.step)
        self.halt = button("Stop", "End after this step and keep what is there", self.job.stop)
        return row(self.go, self.pause, self.one, self.halt)

    def _results(self) -> QWidget:
        self.keep = button(
            "Keep", "Leave this volume alone; the next one gets a layer of its own", self._keep
        )
        self.copy = button(
            "Copy command", "The same volumes by the command line, to the clipboard", self._copy
        )
        planes = button("Planes", "Show coronal and sagittal planes too", self._open_planes)
        return row(self.keep, self.copy, planes)

    def _pause_or_resume(self) -> None:
        control = self.job.control
        if control.paused:
            control.resume()
        else:
            control.pause()
        self._show_pause()

    def _show_pause(self) -> None:
        resting = self.job.running and self.job.control.paused
        self.pause.setText("Resume" if resting else "Pause")

    def _keep(self) -> None:
        layer = self.live.layer
        if layer is None:
            self.message.say("there is no volume to keep yet", "warning")
            return
        said = layer.metadata.get("prdit", {})
        name = f"PRDiT seed {said.get('seed', '?')} index {said.get('index', '?')}"
        self.live.keep(name)
        self.message.say(f"kept as {name}")

    def _copy(self) -> None:
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None  # there is one as soon as there are widgets
        clipboard.setText((self._last or self.request()).command())
        self.message.say("command copied")

    def _show_running(self, running: bool) -> None:
        self.go.setEnabled(not running)
        for control in (self.pause, self.one, self.halt):
            control.setEnabled(running)
        self.keep.setEnabled(not running)
        self.travel.setEnabled(not running)
        self._show_pause()
