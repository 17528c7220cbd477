"""What is to be imagined anew: a scan, a painted region of it, and how many proposals."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import Signal

from napari_prdit.widgets.parts import LARGEST_SEED, Form, button, number, row
from napari_prdit.widgets.source_choice import RegionChoice, SourceChoice
from prdit_core.config import SamplingConfig, words_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

STEPS, PROPOSALS = 20, 3


class RegionForm(Form):
    """The controls above the button that regenerates.

    Signals
    -------
    paint_wanted : the user wants to paint
    """

    paint_wanted = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__("What to imagine anew")
        self.source, self.region = SourceChoice(viewer), RegionChoice(viewer)
        self.add("scan", self.source, "A CT scan in HU; choose a result to go on from it")
        paint = button(
            "Paint",
            "Take a brush and paint over what the model shall forget, in any plane",
            self.paint_wanted.emit,
        )
        self.add(
            "region",
            row(self.region, paint),
            "A labels layer on the grid of the scan: whatever is painted there is forgotten",
        )
        self.count = number(1, 50, PROPOSALS)
        self.add("proposals", self.count, "How many to make; more than one gives a contact sheet")
        self.seed = number(0, LARGEST_SEED, 0)
        dice = button("Dice", "Another seed by chance", self._roll)
        self.add("seed", row(self.seed, dice), "Same seed, region and model: the same proposals")
        self.steps = number(1, 1000, STEPS)
        self.add("steps", self.steps, words_of(SamplingConfig, "steps"))

    @property
    def scan(self) -> Image | None:
        """The image layer that is chosen."""
        chosen = self.source.chosen
        return chosen if isinstance(chosen, Image) else None

    def hide_region(self) -> None:
        """Hide the paint, which would cover what comes about below it."""
        if self.region.chosen is not None:
            self.region.chosen.visible = False

    def leave(self) -> None:
        """Listen to the viewer no more."""
        for one in (self.source, self.region):
            one.leave()

    def _roll(self) -> None:
        self.seed.setValue(random.SystemRandom().randint(0, LARGEST_SEED))
