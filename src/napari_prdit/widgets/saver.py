"""Saving beside the window, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_prdit.jobs import Failed, Job
from napari_prdit.saving import SavedFile
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qtpy.QtWidgets import QWidget

    from napari_prdit.widgets.parts import Message


class Saver(Job):
    """One saving at a time, told of in a message line."""

    def __init__(self, message: Message, parent: QWidget) -> None:
        super().__init__(parent)
        self._message = message
        self._places: list[str] = []
        self.yielded.connect(self._hear)

    def save(self, work: Callable[[], Generator[Any]]) -> None:
        """Begin, unless something is being saved."""
        if not self.running:
            self._places = []
            self._message.say("saving ...")
            self.start(lambda _control: work())

    def _hear(self, event: object) -> None:
        if isinstance(event, SavedFile):
            self._places.append(str(shown(event.place)))
            self._message.say(f"saved as {' and '.join(self._places)}")
        elif isinstance(event, Failed):
            self._message.say(event.message, "error")
