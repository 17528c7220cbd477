"""Long work as napari shows it: a bar in its activity dock, and a notification at the end."""

from __future__ import annotations

import time
from io import StringIO
from typing import TYPE_CHECKING, Literal

from napari.utils import progress
from napari.utils.notifications import show_error, show_info

if TYPE_CHECKING:
    from collections.abc import Callable

# Whoever waited for less than this is still looking.
LONG_S = 5.0
Outcome = Literal["done", "stopped", "failed"]


class Activity:
    """One piece of work after the other; all calls come from the GUI thread.

    Examples
    --------
    >>> activity = Activity()
    >>> activity.begin("Generating a CT volume", total=20)
    >>> activity.advance(7)
    >>> activity.end("Done in 34 s")
    """

    def __init__(self) -> None:
        self._bar: progress | None = None
        self._begun = 0.0

    @property
    def total(self) -> int | None:
        """Steps of the bar that is shown; None if there is none."""
        return None if self._bar is None else int(self._bar.total)

    def begin(self, title: str, total: int = 0) -> None:
        """Show a bar of `total` steps; 0 is for work whose length nobody knows.

        What begins before the last was ended is the next part of the same work.
        """
        if self._bar is None:
            self._begun = time.monotonic()
        self._close()
        # Without a window it would be painted in the terminal; TQDM_DISABLE is for terminals only.
        self._bar = progress(desc=title, total=total, file=StringIO(), disable=False)

    def advance(self, done: int) -> None:
        """Move the bar to so many steps."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def end(self, text: str = "", outcome: Outcome = "done") -> None:
        """Take the bar away; work that took long ends with `text` as a notification.

        What the user stopped needs no telling, and nothing is told without a text.
        """
        if self._bar is None:
            return
        self._close()
        if text and outcome != "stopped" and time.monotonic() - self._begun >= LONG_S:
            tell: Callable[[str], None] = show_error if outcome == "failed" else show_info
            tell(text)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
