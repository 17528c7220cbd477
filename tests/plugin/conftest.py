"""A display where there is none, and settings of napari that are nobody's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest
from toys import TINY_CHAIN, TINY_PATCH, patch_checkpoint, tiny_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCREEN = ["-screen", "0", "1600x1000x24", "+extension", "GLX", "-nolisten", "tcp"]
# Qt ends the process if the server goes first, so the server stays until this process is gone,
# however it went: then nobody holds the other end of the pipe that `cat` reads.
AS_LONG_AS_WE_ARE = 'Xvfb "$@" & server=$!; cat; kill $server'


@cache
def virtual_screen() -> tuple[str, subprocess.Popen[bytes]]:
    """Name of an X server of ours, as DISPLAY takes it, and the process that ends it."""
    reading, writing = os.pipe()
    command = ["sh", "-c", AS_LONG_AS_WE_ARE, "Xvfb", "-displayfd", str(writing), *SCREEN]
    keeper = subprocess.Popen(
        command,
        pass_fds=[writing],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for pytest alone
    )
    os.close(writing)
    with os.fdopen(reading) as answer:
        number = answer.readline().strip()
    assert number, "Xvfb did not start"
    return f":{number}", keeper


@pytest.fixture(scope="session")
def display() -> Iterator[None]:
    """Somewhere to show windows. Qt's own offscreen platform leaves canvases blank."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("QT_QPA_PLATFORM", raising=False)
        environment.setenv("QT_API", os.environ.get("QT_API", "pyqt6"))
        if sys.platform == "linux" and "DISPLAY" not in os.environ:
            if shutil.which("Xvfb") is None:
                pytest.skip("no display")
            environment.setenv("DISPLAY", virtual_screen()[0])
        yield


@pytest.fixture(scope="session")
def qapp_args(display: None) -> list[str]:
    """Of the application of pytest-qt, which finds the display when it is made."""
    return ["napari-prdit tests"]


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that makes 16^3, and 8^3 without its refiner."""
    return tiny_checkpoint(tmp_path_factory.mktemp("chain") / "tiny", size=16, model=TINY_CHAIN)


@pytest.fixture(scope="session")
def patch_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3D patch prior that knows volumes of 8^3."""
    return patch_checkpoint(tmp_path_factory.mktemp("patch") / "tiny", TINY_PATCH, (40, 40, 40))


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was measured of this machine, which is nothing yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("napari_prdit.paces.user_cache_path", lambda *_, **__: folder)
    return folder


@pytest.fixture(autouse=True)
def fresh_settings(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of napari as after its installation, in a folder of the test's own."""
    from napari import settings

    file = tmp_path_factory.mktemp("settings") / "settings.yaml"
    monkeypatch.setenv("NAPARI_CONFIG", str(file))
    monkeypatch.setenv("NAPARI_ASYNC", "0")
    where = settings.NapariSettings.model_fields["config_path"]
    monkeypatch.setattr(where, "default", file)
    monkeypatch.setattr(settings, "_CFG_PATH", str(file))
    monkeypatch.setattr(settings, "_SETTINGS", None)
    monkeypatch.setattr(settings, "_PLUGIN_SETTINGS", {})
    application = settings.get_settings().application
    application.first_time = application.confirm_close_window = False
