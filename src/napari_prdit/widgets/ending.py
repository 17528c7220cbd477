"""What can be done with a volume that is there: save it, keep it, make another."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QGridLayout, QMenu, QPushButton, QWidget

from napari_prdit.saving import FORMATS
from napari_prdit.widgets.help import HelpButton, Page
from napari_prdit.widgets.parts import button


class ResultButtons(QWidget):
    """Buttons for the volume that is shown; those that need one are off while there is none.

    Signals
    -------
    save_wanted : format, and where to; a file, or a folder for DICOM
    keep_wanted, another_wanted, command_wanted, planes_wanted : what the buttons say

    Parameters
    ----------
    page : of help
    instead : a button where no command can be copied
    """

    save_wanted = Signal(str, str)
    keep_wanted = Signal()
    another_wanted = Signal()
    command_wanted = Signal()
    planes_wanted = Signal()

    def __init__(self, page: Page, instead: QPushButton | None = None) -> None:
        super().__init__()
        self.name = "volume"  # offered for files
        self._folder = Path.home()
        self.save = QPushButton("Save ...")
        self.save.setToolTip(
            "Write this volume to a file or a DICOM series, with its place and how it was made"
        )
        menu = QMenu(self.save)
        for format_name in FORMATS:
            action = menu.addAction(f"{format_name} ...")
            assert action is not None  # Qt makes it
            action.triggered.connect(lambda _on=False, chosen=format_name: self._ask(chosen))
        self.save.setMenu(menu)
        self.keep = button(
            "Keep",
            "Leave this volume alone; the next one gets a layer of its own",
            self.keep_wanted.emit,
        )
        self.another = button(
            "Another",
            "One more with the next seed; it takes the place of this one unless you keep this one",
            self.another_wanted.emit,
        )
        self.copy = button(
            "Copy command",
            "The same volumes by the command line, to the clipboard",
            self.command_wanted.emit,
        )
        self.planes = button(
            "Planes", "Show coronal and sagittal planes too", self.planes_wanted.emit
        )
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for column, part in enumerate((self.save, self.keep, self.another)):
            grid.addWidget(part, 0, 2 * column, 1, 2)
        for column, part in enumerate((instead or self.copy, self.planes, HelpButton(page))):
            grid.addWidget(part, 1, 2 * column, 1, 2)

    def offer(self, there: bool) -> None:
        """Turn on what needs a volume, if there is one that nobody is working on."""
        for part in (self.save, self.keep, self.another):
            part.setEnabled(there)

    def _ask(self, format_name: str) -> None:
        suffix, *_ = (*FORMATS[format_name], "")
        # A series goes into a new folder, whose name can be typed where a file is asked for.
        title = f"Save as {format_name}" + ("" if suffix else ", in a new folder")
        pattern = f"{format_name} (*{suffix})" if suffix else ""
        suggested = str(self._folder / (self.name + suffix))
        place, _ = QFileDialog.getSaveFileName(self, title, suggested, pattern)
        if place:
            self._folder = Path(place).parent
            self.save_wanted.emit(format_name, place)
