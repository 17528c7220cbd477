"""Small parts that all docks share: rows with tooltips, a message line, the viewer's own window."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qtpy.QtGui import QDragEnterEvent, QDropEvent, QResizeEvent

_LAID_OUT = (QEvent.Type.LayoutRequest, QEvent.Type.StyleChange, QEvent.Type.Show)
LARGEST_SEED = 2**31 - 1  # of Qt's spin boxes; the command takes larger ones
COLOURS = {"note": "", "warning": "#c98500", "error": "#d9534f"}


class Message(QLabel):
    """Words for people, of which no line is cut; empty when there is nothing to say."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.kind = "note"

    def say(self, text: str, kind: str = "note") -> None:
        """Show `text`; `kind` is note, warning or error."""
        self.kind = kind
        self.setStyleSheet(f"color: {COLOURS[kind]}" if COLOURS[kind] else "")
        self.setText(text)

    def setText(self, text: str | None) -> None:
        """Show `text` as it is."""
        super().setText(text)
        self._keep_all_lines()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Wrap anew."""
        super().resizeEvent(event)
        self._keep_all_lines()

    def _keep_all_lines(self) -> None:
        """Qt takes a text of two short lines for one line and cuts it where room is scarce."""
        self.setMinimumHeight(self.heightForWidth(self.width()) if self.text() else 0)


class Form(QGroupBox):
    """A titled group of labelled rows; label and field share a tooltip."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self.rows = QFormLayout(self)
        self.rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)

    def add(self, label: str, field: QWidget, tooltip: str) -> None:
        """One row."""
        caption = QLabel(label)
        for widget in (caption, field, *field.findChildren(QWidget)):
            if not widget.toolTip():
                widget.setToolTip(tooltip)
        caption.setBuddy(field)
        self.rows.addRow(caption, field)


def button(text: str, tooltip: str, act: Callable[[], object]) -> QPushButton:
    """A button that calls `act` without arguments."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.clicked.connect(lambda _checked=False: act())
    return made


def choice(values: Iterable[str]) -> QComboBox:
    """A list to choose from, no wider than the dock."""
    made = QComboBox()
    made.addItems(list(values))
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(12)
    return made


def number(low: int, high: int, value: int) -> QSpinBox:
    """A whole number from `low` to `high`."""
    made = QSpinBox()
    made.setRange(low, high)
    made.setValue(value)
    made.setGroupSeparatorShown(True)
    return made


def row(*parts: QWidget) -> QWidget:
    """Parts beside each other."""
    made = QWidget()
    line = QHBoxLayout(made)
    line.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        line.addWidget(part)
    return made


class PathDrop(QComboBox):
    """An editable list of paths or names that also takes a dropped file or folder.

    Signals
    -------
    changed : the text, whenever another was chosen, typed or dropped
    """

    changed = Signal(str)

    def __init__(self, known: Iterable[str]) -> None:
        super().__init__()
        self.setEditable(True)
        self.setAcceptDrops(True)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.addItems(list(known))
        self.textActivated.connect(self.changed)
        edit = self.lineEdit()
        assert edit is not None  # it is editable
        edit.editingFinished.connect(lambda: self.changed.emit(self.text))

    @property
    def text(self) -> str:
        """Name or path that is chosen."""
        return self.currentText().strip()

    def choose(self, text: str) -> None:
        """Take a name or path, and remember it in the list."""
        if self.findText(text) < 0:
            self.addItem(text)
        self.setCurrentText(text)
        self.changed.emit(text)

    def browse(self, title: str) -> None:
        """Let the user choose a folder."""
        folder = QFileDialog.getExistingDirectory(self, title, self.text)
        if folder:
            self.choose(folder)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Accept whatever lies in the file system."""
        if event is not None and (mime := event.mimeData()) is not None and mime.hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Take the first file or folder."""
        if event is None or (mime := event.mimeData()) is None:
            return
        paths = [url.toLocalFile() for url in mime.urls() if url.isLocalFile()]
        if paths:
            self.choose(str(Path(paths[0])))


class _Column(QScrollArea):
    """Scrolls up and down only, so it is as wide as its content needs, whatever the style."""

    def __init__(self, inner: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(inner)
        inner.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the content when it is laid out, styled or shown anew."""
        if event is not None and event.type() in _LAID_OUT and isinstance(watched, QWidget):
            bar = self.verticalScrollBar()
            beside = 0 if bar is None else bar.sizeHint().width()
            self.setMinimumWidth(watched.minimumSizeHint().width() + beside)
        return super().eventFilter(watched, event)


def scrolled(*parts: QWidget) -> QScrollArea:
    """Parts below each other, with a scroll bar where the dock is too small."""
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(6, 6, 6, 6)
    for part in parts:
        column.addWidget(part)
    column.addStretch(1)
    return _Column(inner)


def bring_into_view(part: QWidget) -> None:
    """Scroll to a part of a dock that is too small for all of it."""
    above = part.parentWidget()
    while above is not None and not isinstance(above, QScrollArea):
        above = above.parentWidget()
    if above is not None:
        above.ensureWidgetVisible(part)
