"""Measures once, for each model, how long its volumes take here; a child does it, with torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_prdit.known_checkpoints import setting
from napari_prdit.paces import known_paces, remember_paces
from napari_prdit.widgets.child import Child
from prdit_core.errors import PrditError

if TYPE_CHECKING:
    from napari_prdit.paces import Setting


class PaceWatch(QObject):
    """Seconds of an evaluation by edge, for the model at hand.

    Signals
    -------
    measured : they are known now; see `known`
    """

    measured = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._child = Child(self)
        self._child.ended.connect(self._take)
        self._asked: Setting | None = None

    def known(self, checkpoint: str, device: str) -> dict[int, float]:
        """What was measured of this model on this device; nothing if it cannot be used."""
        try:
            return known_paces(setting(checkpoint, device))
        except PrditError:
            return {}

    def measure(self, checkpoint: str, device: str) -> None:
        """Measure it if that was never done; nothing happens while another is measured."""
        if self._child.running or self.known(checkpoint, device):
            return
        try:
            self._asked = setting(checkpoint, device)
        except PrditError:
            return
        words = ["bench", "--quick", "--json", "--checkpoint", checkpoint, "--device", device]
        self._child.start(words)

    def stop(self) -> None:
        """Leave the machine to other work."""
        self._child.kill()

    def _take(self, code: int, printed: str) -> None:
        if code or self._asked is None:
            return
        seconds = {int(edge): one for edge, one in json.loads(printed)["seconds"].items()}
        remember_paces(self._asked, seconds)
        self.measured.emit()
