"""What raw projections of a scanner do not say: flats, darks, geometry, axis, parts of the data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QHBoxLayout, QWidget

from napari_prdit.widgets.parts import Form, PathDrop, button, number, row

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = "Pictures (*.tif *.tiff);;All files (*)"
GEOMETRY = "Geometry (*.json);;All files (*)"
SEARCHED, UNKNOWN, ALL = "searched", "unknown", "all"


class FileField(QWidget):
    """A path that is typed, dropped or chosen; empty at first."""

    def __init__(self, title: str, pattern: str, changed: Callable[[], object]) -> None:
        super().__init__()
        self._title, self._pattern = title, pattern
        self.drop = PathDrop([])
        self.drop.changed.connect(lambda _text: changed())
        browse = button("...", f"Choose: {title}", self._browse)
        browse.setMaximumWidth(30)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        for part in (self.drop, browse):
            line.addWidget(part)

    @property
    def path(self) -> Path | None:
        """What was chosen."""
        return Path(self.drop.text).expanduser() if self.drop.text else None

    def choose(self, path: str) -> None:
        """Take a path."""
        self.drop.choose(path)

    def _browse(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, self._title, self.drop.text, self._pattern)
        if file:
            self.choose(file)


class RawForm(Form):
    """Options of raw projections; what is left alone is not stated.

    Signals
    -------
    changed : another file or setting was chosen
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__("What the files do not say")
        self.flats = FileField("Flats: pictures without object", PICTURES, self.changed.emit)
        self.darks = FileField("Darks: pictures without beam", PICTURES, self.changed.emit)
        self.scanner = FileField("Geometry of ASTRA as JSON", GEOMETRY, self.changed.emit)
        self.axis = _length(-1.0, 100_000.0, SEARCHED)
        self.first, self.end = number(0, 100_000, 0), number(0, 100_000, 0)
        self.end.setSpecialValueText(ALL)
        self.binning, self.every = number(1, 64, 1), number(1, 1000, 1)
        self.unit = _length(0.0, 1e6, UNKNOWN)
        numbers = (self.axis, self.first, self.end, self.binning, self.every, self.unit)
        for field in numbers:
            field.valueChanged.connect(lambda _value: self.changed.emit())
        stack = "TIFF: a stack, one file of a folder, or a folder typed here. HDF5 has its own"
        self.add("flats", self.flats, f"Pictures without object, {stack}")
        self.add("darks", self.darks, f"Pictures without beam, {stack}")
        self.add("geometry", self.scanner, "ASTRA's proj_geom as JSON; HDF5 is parallel without")
        self.add("axis", self.axis, "Bin that sees the axis of rotation, from 0")
        self.add("rows", row(self.first, self.end), "Of the detector, the first and the one after")
        self.add("binning", self.binning, "Bins side by side that are taken as one")
        self.add("every", self.every, "Take each so-many-th view only")
        self.add(
            "unit, mm",
            self.unit,
            "Of ASTRA's unit, or of a pixel of HDF5. Unknown: HU are relative, and no model of CT "
            "applies",
        )

    def stated(self) -> dict[str, Any]:
        """Fields of `RawOptions` that were given."""
        rows = (self.first.value(), self.end.value())
        given = {
            "flats": self.flats.path,
            "darks": self.darks.path,
            "geometry": self.scanner.path,
            "axis_bin": self.axis.value() if self.axis.value() >= 0 else None,
            "rows": rows if rows[1] else None,
            "binning": self.binning.value() if self.binning.value() > 1 else None,
            "every": self.every.value() if self.every.value() > 1 else None,
            "unit_mm": self.unit.value() or None,
        }
        return {name: value for name, value in given.items() if value is not None}


def _length(low: float, high: float, lowest: str) -> QDoubleSpinBox:
    """A number whose lowest value has a word."""
    made = QDoubleSpinBox()
    made.setDecimals(4)
    made.setRange(low, high)
    made.setValue(low)
    made.setSpecialValueText(lowest)
    return made
