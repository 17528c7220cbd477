"""What the user chose on the page of Preferences arrives, and its absence does no harm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import npe2
import pytest
from napari import settings
from npe2 import PluginManifest

from napari_prdit.preferences import PLUGIN, Preferences, preferences

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

PAGE = PluginManifest.from_distribution(PLUGIN).contributions.configurations["prdit"]
DEFAULTS = Preferences()


@pytest.fixture
def page() -> Any:
    """What the Preferences dialog changes."""
    npe2.PluginManager.instance().discover(include_npe1=False)
    return settings.get_plugin_settings(PLUGIN).prdit


def test_the_page_has_exactly_our_preferences_and_defaults() -> None:
    defaults = {name: entry.default for name, entry in PAGE.properties.items()}
    assert Preferences(**defaults) == DEFAULTS
    assert defaults.keys() == Preferences.model_fields.keys()


def test_every_preference_says_what_it_is_for() -> None:
    assert all(entry.title and entry.description for entry in PAGE.properties.values())


def test_what_was_chosen_arrives_and_outlasts_napari(page: Any) -> None:
    page.device, page.preview_rate, page.runs_folder = "cpu", 4.0, "~/scans"
    assert preferences() == Preferences(
        device="cpu", preview_rate=4.0, runs_folder=Path.home() / "scans"
    )
    settings._PLUGIN_SETTINGS.clear()  # as if napari was started anew
    assert preferences().device == "cpu"


def test_an_emptied_folder_is_the_default(page: Any) -> None:
    page.checkpoint_folder = ""
    assert preferences() == DEFAULTS


def test_a_damaged_settings_file_gives_defaults(page: Any) -> None:
    page.device = "cpu"
    page_file = settings.get_plugin_settings(PLUGIN).config_path
    page_file.write_text("prdit:\n  preview_rate: -3\n  device: abacus\n")
    settings._PLUGIN_SETTINGS.clear()
    assert preferences() == DEFAULTS


@pytest.mark.parametrize("missing", ["module", "plugin"])
def test_without_napari_s_pages_there_are_defaults(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Before napari 0.9 nothing holds settings of plugins."""
    if missing == "module":
        monkeypatch.delattr(settings, "get_plugin_settings")
    else:
        monkeypatch.setattr(settings, "plugin_configuration_generator", dict)
    assert preferences() == DEFAULTS


@pytest.mark.slow
def test_the_dialog_of_napari_shows_and_takes_them(qtbot: QtBot, page: Any) -> None:
    from napari._qt.dialogs.preferences_dialog import PreferencesDialog
    from qtpy.QtWidgets import QComboBox

    dialog = PreferencesDialog()
    qtbot.addWidget(dialog)
    names = [dialog._list.item(row).text() for row in range(dialog._list.count())]
    dialog._list.setCurrentRow(names.index("PRDiT CT synthesis"))
    shown = dialog._stack.currentWidget()
    (device,) = [box for box in shown.findChildren(QComboBox) if box.findText("cuda") >= 0]
    device.setCurrentText("cpu")
    assert preferences().device == "cpu"
    dialog.reject()
    assert preferences() == DEFAULTS
