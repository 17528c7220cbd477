"""What there is of a measurement: its volumes, and the rows of a table of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_prdit.reconstruction import (
    MEAN,
    METHODS,
    MODEL,
    PARTS,
    TRUTH,
    psnr_in_words,
    share_in_words,
)
from napari_prdit.reconstruction_layers import LOOKS, MEASURED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_prdit.measuring import MeasuredData
    from prdit_core.verbs.assess import Assessment
    from prdit_core.volume import Volume

ORDER = (TRUTH, MEASURED, MEAN, MODEL, *METHODS, *PARTS)


@dataclass(frozen=True)
class ResultRow:
    """A volume to look at, with its numbers in words."""

    key: str
    words: str
    says: str
    psnr: str = ""
    misfit: str = ""


@dataclass(eq=False)
class Results:
    """All that is known of one measurement.

    Attributes
    ----------
    samples : of the model, by number
    assessments : by method
    shown : number of the sample in the layer
    begun : methods at work whose first picture has come
    """

    measured: MeasuredData
    samples: dict[int, Volume] = field(default_factory=dict)
    assessments: dict[str, Assessment] = field(default_factory=dict)
    shown: int = 0
    begun: set[str] = field(default_factory=set)

    def same_as(self, other: MeasuredData) -> bool:
        """Whether another measurement has the same data, so that results can stay."""
        return self.measured.measurement.digest == other.measurement.digest

    def forget_model(self) -> None:
        """The samples before the next ones."""
        self.samples.clear()
        self.assessments.pop(MODEL, None)
        self.shown = 0

    def volumes(self) -> dict[str, Volume]:
        """All of them but truth and data, by key."""
        volumes = {key: one.volume for key, one in self.assessments.items() if key != MODEL}
        if self.samples:
            volumes[MODEL] = self.samples[self.shown]
        model = self.assessments.get(MODEL)
        if model is not None:
            volumes |= model.parts
            if model.count > 1:
                volumes[MEAN] = model.volume
        return volumes

    def rows(self, keys: set[str]) -> list[ResultRow]:
        """Those of the keys, in their order."""
        return [self._row(key) for key in ORDER if key in keys]

    def _row(self, key: str) -> ResultRow:
        from prdit_core.verbs.assess import suffixed

        look, model = LOOKS[key], self.assessments.get(MODEL)
        words = look.layer
        if key in PARTS and model is not None:
            units = model.volume.units
            size = model.numbers[suffixed("size", units)][key]
            return ResultRow(key, words, look.says, f"{size:.0f} {units}")
        if key == MEAN and model is not None:
            return _numbered(key, f"model, mean of {model.count}", model.numbers["volume"])
        if key == MODEL:
            numbers = None if model is None else model.numbers["volumes"][self._place]
            return _numbered(key, f"model, sample {self.shown + 1}", numbers)
        assessment = self.assessments.get(key)
        return _numbered(key, words, None if assessment is None else assessment.numbers["volume"])

    @property
    def _place(self) -> int:
        return list(self.samples).index(self.shown)


def _numbered(key: str, words: str, numbers: Mapping[str, Any] | None) -> ResultRow:
    if numbers is None:
        return ResultRow(key, words, LOOKS[key].says)
    misfit = share_in_words(numbers["misfit"])
    return ResultRow(key, words, LOOKS[key].says, psnr_in_words(numbers), misfit)
