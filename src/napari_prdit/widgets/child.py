"""A command of prdit-core beside the window: its lines as they come, and how it ended.

Unlike a training it ends with its dock. What it needs, such as torch, napari need not load.
"""

from __future__ import annotations

import sys

from qtpy.QtCore import QObject, QProcess, Signal

GONE_WITHIN_MS = 3000


class Child(QObject):
    """One child process; it can be started again once it has ended.

    Signals
    -------
    printed : a line for people
    ended : exit code, and all it printed as its result
    """

    printed = Signal(str)
    ended = Signal(int, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process = QProcess(self)
        self._process.readyReadStandardError.connect(self._read)
        self._process.finished.connect(self._finish)

    @property
    def running(self) -> bool:
        """Whether it works."""
        return self._process.state() != QProcess.ProcessState.NotRunning

    def start(self, words: list[str]) -> None:
        """Run `prdit-core` with these arguments."""
        self._process.start(sys.executable, ["-m", "prdit_core.cli", *words])

    def stop(self) -> None:
        """Ask it to end after what it is at."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now; no signal comes any more."""
        self.blockSignals(True)
        self._process.kill()
        self._process.waitForFinished(GONE_WITHIN_MS)
        self.blockSignals(False)

    def _read(self) -> None:
        text = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
        for line in filter(None, text.splitlines()):
            self.printed.emit(line)

    def _finish(self, code: int) -> None:
        self._read()
        printed = bytes(self._process.readAllStandardOutput().data()).decode("utf-8", "replace")
        self.ended.emit(code, printed)
