"""What all commands share, beneath any of them."""

from __future__ import annotations

import io
import signal
import sys

import pytest

from prdit_core.cli.console import say, stoppable


class Interrupted(io.RawIOBase):
    """A terminal at which Ctrl-C is pressed while a line is written."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        signal.raise_signal(signal.SIGINT)
        return len(data)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_is_answered_while_a_line_is_half_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stream that is at work refuses to write another line in between."""
    stream = io.TextIOWrapper(io.BufferedWriter(Interrupted()), encoding="utf-8")
    with monkeypatch.context() as patch, stoppable() as stop:
        patch.setattr(sys, "stderr", stream)
        say("a line")
    assert stop.code == 128 + signal.SIGINT
    assert "stopping after this step" in capfd.readouterr().err
