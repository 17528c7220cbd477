"""Every dock has a page of help that speaks of all its controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QWidget

from napari_prdit.widgets.generate import GenerateDock
from napari_prdit.widgets.help import HelpButton, HelpWindow, page_text
from napari_prdit.widgets.planes import PlanesDock
from napari_prdit.widgets.reconstruct import ReconstructDock
from napari_prdit.widgets.residual_inspector import ResidualInspector
from napari_prdit.widgets.training_dock import TrainingDock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytestqt.qtbot import QtBot

PAGES = ("generate", "reconstruct", "inspect", "train", "planes")
SECTIONS = (
    "First steps",
    "What each control means",
    "hortcuts",
    "What the pictures mean",
    "Common problems",
)
DOCKS = {
    "reconstruct": ReconstructDock,
