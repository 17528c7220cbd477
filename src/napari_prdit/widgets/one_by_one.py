"""Work of the GUI thread in pieces, so that windows are painted in between."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

SOON_MS = 50  # long enough for the main view to be painted first


class OneByOne(QObject):
    """Does what it is given, one thing at a time, with time to paint in between."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._waiting: deque[Callable[[], None]] = deque()
        self._timer = QTimer(self)
        self._timer.setInterval(SOON_MS)
        self._timer.timeout.connect(self._next)

    def later(self, act: Callable[[], None]) -> None:
        """Put `act` at the end of the queue."""
        self._waiting.append(act)
        self._timer.start()

    def _next(self) -> None:
        act = self._waiting.popleft()
        if not self._waiting:
            self._timer.stop()
        act()
