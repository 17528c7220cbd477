"""Which data to train on, chosen or made."""

from __future__ import annotations

from pathlib import Path

from napari_prdit.known_data import described_data, known_data
from napari_prdit.widgets.fold import Fold
from napari_prdit.widgets.parts import Form, Message, PathDrop, button, row
from napari_prdit.widgets.prepare import PrepareData
from prdit_core.errors import PrditError, UsageError

NONE_YET = "Choose a folder of prepared scans, or prepare some:"


class DataForm(Form):
    """A folder of prepared data, what is in it, and a way to make one.

    Parameters
    ----------
    folder
        Where data sets are looked for and made.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("Data")
        tip = "A folder of prepared scans, as made below or by prdit-core preprocess. Drop it here"
        self.data = PathDrop(known_data(folder))
        self.data.changed.connect(lambda _text: self.describe())
        browse = button("Browse ...", tip, lambda: self.data.browse("Prepared scans"))
        self.add("prepared scans", row(self.data, browse), tip)
        self.about = Message()
        self.about.setToolTip("What is in the folder. The model is made for volumes of this size")
        self.rows.addRow(self.about)
        self.prepare = PrepareData(folder)
        self.prepare.prepared.connect(self.data.choose)
        tip = "Make data to train on: out of CT scans, or out of nothing"
        self.preparing = Fold("Prepare scans ...", tip, self.prepare)
        self.rows.addRow(self.preparing)
        self.describe()

    def folder(self) -> Path:
        """The data set that is chosen.

        Raises
        ------
        PrditError
            If it is none.
        """
        if not self.data.text:
            raise UsageError("choose a folder of prepared scans first")
        folder = Path(self.data.text).expanduser().absolute()
        described_data(folder)
        return folder

    def describe(self) -> None:
        """Say what the chosen folder holds, or why it is of no use."""
        if not self.data.text:
            self.about.say(NONE_YET)
            return
        try:
            self.about.say(described_data(self.folder()))
        except PrditError as error:
            self.about.say(str(error), "error")
