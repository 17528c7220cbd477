"""Pictures a run made on its way, as thumbnails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem

from prdit_core.files import shown

if TYPE_CHECKING:
    from pathlib import Path

EDGE = 96
HEIGHT = 132
# A run may make thousands; older ones are in its folder.
NEWEST = 24
TOOLTIP = (
    "What the model makes so far, newest first: a held-out scan, the same with noise, the model's "
    "guess of the scan, and a volume it generates. Click one to open it as a layer."
)
_FILE = Qt.ItemDataRole.UserRole


class Previews(QListWidget):
    """Thumbnails beside each other, newest first.

    Signals
    -------
    opened : file of the one that was clicked
    """

    opened = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(False)
        self.setMovement(QListView.Movement.Static)
        self.setIconSize(QSize(EDGE, EDGE))
        self.setFixedHeight(HEIGHT)
        self.setToolTip(TOOLTIP)
        self.itemClicked.connect(lambda item: self.opened.emit(item.data(_FILE)))
        self._shown: list[tuple[Path, int]] = []
        self.hide()

    def show_folder(self, folder: Path) -> None:
        """Show the newest pictures there; nothing is read again that did not change."""
        there = _pictures(folder)
        if there == self._shown:
            return
        self._shown = there
        self.clear()
        for path, _ in there:
            item = QListWidgetItem(_thumbnail(path), _caption(path), self)
            item.setData(_FILE, str(path))
        self.setVisible(bool(there))


def _pictures(folder: Path) -> list[tuple[Path, int]]:
    """Newest first, each with the time it was written, since a resumed run writes some again."""
    newest = sorted(folder.glob("iteration-*.png"), reverse=True)[:NEWEST]
    try:
        return [(path, path.stat().st_mtime_ns) for path in newest]
    except OSError:  # removed just now
        return []


def _thumbnail(path: Path) -> QIcon:
    smooth = Qt.TransformationMode.SmoothTransformation
    picture = QPixmap(str(path))
    if picture.isNull():
        return QIcon()
    return QIcon(picture.scaled(EDGE, EDGE, Qt.AspectRatioMode.KeepAspectRatio, smooth))


def _caption(path: Path) -> str:
    number = path.stem.removeprefix("iteration-")
    return f"{int(number):,}" if number.isdigit() else shown(path.stem)
