"""The list of training runs: state, progress and losses of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem
from superqt.utils import signals_blocked

from prdit_core.files import shown
from prdit_core.runs.status import duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_prdit.run_watch import Seen, State
    from prdit_core.runs.status import Status

COLOURS: dict[State, str] = {
    "starting": "#c98500",
    "running": "#2e9e5b",
    "stopping": "#c98500",
    "stopped": "#8a8f98",
    "finished": "#3d85c6",
    "failed": "#d9534f",
    "dead": "#d9534f",
}
STAGES = {
    "local": "local part",
    "global": "global part",
    "refine": "refiner",
    "finetune": "fine-tuning",
    "patch": "patch prior",
    "control": "control",
}
ALARMING = ("failed", "dead")
DOT = 12
TALLEST = 150
_PATH = Qt.ItemDataRole.UserRole


class RunList(QListWidget):
    """Runs, newest first; the selection stays with its run.

    Signals
    -------
    chosen : path of the run that somebody selected
    """

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setToolTip("Trainings in the runs folder, newest first. Select one to watch it.")
        self.currentItemChanged.connect(lambda _new, _old: self.chosen.emit(self.path))

    @property
    def path(self) -> str:
        """Of the selected run; empty if there is none."""
        item = self.currentItem()
        return "" if item is None else str(item.data(_PATH))

    def show_runs(self, root: Path, runs: Sequence[Seen]) -> None:
        """Replace what is listed; the first run is selected if the selected one is gone."""
        paths = [str(run.folder.path) for run in runs]
        if paths != self._paths():
            self._list_anew(paths, self.path)
        for row, run in enumerate(runs):
            item = self.item(row)
            assert item is not None  # one for each run
            _fill(item, _name(root, run), run)
        self._fit()

    def choose(self, path: str) -> None:
        """Select a run that is listed."""
        if path in self._paths():
            self.setCurrentRow(self._paths().index(path))

    def _fit(self) -> None:
        """As high as what is listed, so that there is room for the run below."""
        listed = max(self.count(), 1) * max(self.sizeHintForRow(0), 2 * self.fontMetrics().height())
        self.setFixedHeight(min(listed + 2 * self.frameWidth() + 2, TALLEST))

    def _paths(self) -> list[str]:
        items = (self.item(row) for row in range(self.count()))
        return [str(item.data(_PATH)) for item in items if item is not None]

    def _list_anew(self, paths: Sequence[str], selected: str) -> None:
        """Without a signal: whoever shows runs looks at the selection next."""
        with signals_blocked(self):
            self.clear()
            for path in paths:
                item = QListWidgetItem(self)
                item.setData(_PATH, path)
            self.choose(selected if selected in paths else "".join(paths[:1]))


def described(run: Seen) -> str:
    """Stage, progress and losses in one line; why it ended, where it ended badly."""
    status = run.status
    if status is None:
        return run.message
    parts = [
        STAGES.get(status.stage, status.stage),
        f"{status.iteration:,} of {status.total:,}",
        *_left(run, status),
        *([] if status.loss is None else [f"loss {status.loss:.3g}"]),
        *([] if status.validation_loss is None else [f"held-out {status.validation_loss:.3g}"]),
    ]
    return " · ".join(parts)


def _left(run: Seen, status: Status) -> list[str]:
    working = run.state == "running" and status.seconds_left is not None
    return [f"{duration(status.seconds_left or 0)} left"] if working else []


def _name(root: Path, run: Seen) -> str:
    path = run.folder.path
    return shown(path.relative_to(root) if path != root else path.name)


def _fill(item: QListWidgetItem, name: str, run: Seen) -> None:
    text = f"{run.state}: {name}\n{described(run)}"
    if item.text() == text:
        return
    item.setText(text)
    item.setIcon(_dot(COLOURS[run.state]))
    alarm = QBrush(QColor(COLOURS[run.state])) if run.state in ALARMING else None
    item.setData(Qt.ItemDataRole.ForegroundRole, alarm)
    item.setToolTip(f"{shown(run.folder.path)}\n{run.message}".strip())


def _dot(colour: str) -> QIcon:
    picture = QPixmap(DOT, DOT)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(colour))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.drawEllipse(1, 1, DOT - 2, DOT - 2)
    painter.end()
    return QIcon(picture)
