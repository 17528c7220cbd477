"""What there is to see of a reconstruction, with its numbers; a click shows it alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_prdit.reconstruction_results import ResultRow

HEADINGS = ("shown", "PSNR", "misfit")
TIPS = (
    "Click a row to see it; the arrow keys flip through them",
    "Peak signal-to-noise ratio against the truth: grey from 0 to 1, both clipped to the window "
    "of the model. Higher is nearer. Of parts: their size, root mean square in HU",
    "Share of the data that the volume does not explain. A small one is no sign of truth",
)
_KEY = Qt.ItemDataRole.UserRole
ROW_HEIGHT, MOST_ROWS = 22, 11


class ResultTable(QTableWidget):
    """Rows to flip through; hidden while there are none.

    Signals
    -------
    chosen : key of the row that is to be seen
    """

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__(0, len(HEADINGS))
        self.setHorizontalHeaderLabels(list(HEADINGS))
        for column, tip in enumerate(TIPS):
            heading = self.horizontalHeaderItem(column)
            assert heading is not None  # it was set
            heading.setToolTip(tip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        assert rows is not None and columns is not None  # a table has both
        rows.hide()
        rows.setDefaultSectionSize(ROW_HEIGHT)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.currentCellChanged.connect(lambda row, *_: self._tell(row))
        self.hide()

    @property
    def key(self) -> str:
        """Of the row that is chosen; empty if there is none."""
        item = self.item(self.currentRow(), 0)
        return "" if item is None else str(item.data(_KEY))

    def show_rows(self, rows: Sequence[ResultRow], key: str) -> None:
        """List these, with one of them chosen, which is not told."""
        self.blockSignals(True)
        self.setRowCount(len(rows))
        for place, row in enumerate(rows):
            for column, text in enumerate((row.words, row.psnr, row.misfit)):
                item = QTableWidgetItem(text)
                item.setData(_KEY, row.key)
                item.setToolTip(row.says)
                if column:
                    item.setTextAlignment(
                        Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                    )
                self.setItem(place, column, item)
        keys = [row.key for row in rows]
        self.setCurrentCell(keys.index(key) if key in keys else -1, 0)
        self.blockSignals(False)
        self.setVisible(bool(rows))
        self._fit()

    def choose(self, key: str) -> None:
        """Show a row, as a click on it does."""
        places = [row for row in range(self.rowCount()) if self.item(row, 0).data(_KEY) == key]  # type: ignore[union-attr]
        if places:
            self.setCurrentCell(places[0], 0)

    def _tell(self, row: int) -> None:
        if row >= 0:
            self.chosen.emit(self.key)

    def _fit(self) -> None:
        """As high as its rows, up to some."""
        head = self.horizontalHeader()
        assert head is not None  # a table has one
        rows = min(self.rowCount(), MOST_ROWS)
        self.setFixedHeight(
            rows * ROW_HEIGHT + head.sizeHint().height() + 2 * self.frameWidth() + 2
        )
