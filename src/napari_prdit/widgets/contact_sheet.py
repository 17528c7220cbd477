"""Small pictures of several volumes to pick from."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QListWidget, QListWidgetItem

if TYPE_CHECKING:
    from qtpy.QtGui import QResizeEvent

    from prdit_core import Volume

WIDTH, HEIGHT = 108, 39
ROW_HEIGHT, MOST_ROWS = HEIGHT + 24, 3


class ContactSheet(QListWidget):
    """One picture of three planes for each volume; hidden while there is none.

    Signals
    -------
    chosen : number of the volume that was clicked
    """

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setViewMode(QListWidget.ViewMode.IconMode)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setMovement(QListWidget.Movement.Static)
        self.setIconSize(QSize(WIDTH, HEIGHT))
        self.setToolTip("Click a volume to show it")
        self.itemClicked.connect(lambda item: self.chosen.emit(item.data(Qt.ItemDataRole.UserRole)))
        self.hide()

    def clear_volumes(self) -> None:
        """Forget all pictures."""
        self.clear()
        self.hide()

    def add_volume(self, number: int, volume: Volume, name: str = "volume") -> None:
        """Add the picture of a volume."""
        item = QListWidgetItem(QIcon(_picture(volume)), f"{name} {number + 1}")
        item.setData(Qt.ItemDataRole.UserRole, number)
        self.addItem(item)
        self.setCurrentItem(item)
        self.show()
        self._fit()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Pictures in a row are as many as the dock is wide for."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """As high as the rows that there are, up to some."""
        bottom = self.visualItemRect(self.item(self.count() - 1)).bottom() if self.count() else 0
        lowest = min(bottom + self.verticalOffset() + 1, MOST_ROWS * ROW_HEIGHT)
        self.setFixedHeight(max(lowest, ROW_HEIGHT) + 2 * self.frameWidth())


def _picture(volume: Volume) -> QPixmap:
    from prdit_core.pictures import Panel, draw

    low, high = volume.metadata["window_hu"]
    image = draw([Panel(volume.voxels_hu, volume.spacing_mm, (low, high), "")])
    stream = BytesIO()
    image.resize((WIDTH, HEIGHT)).save(stream, format="PNG")
    pixmap = QPixmap()
    pixmap.loadFromData(stream.getvalue())
    return pixmap
