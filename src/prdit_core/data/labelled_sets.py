"""Prepared sets with their label maps, numbered as one model numbers classes and labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from prdit_core.data.classed import ClassedData
from prdit_core.data.label_maps import names_of, renumbered
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from prdit_core.data.classed import ClassedCase

MOST_LABELS = 254


class LabelledData(ClassedData):
    """Sets whose every case has a label map.

    Attributes
    ----------
    labels : names of the labels 1, 2, ..., those of all sets in the order of their numbers there

    Parameters
    ----------
    classes : of the model, whose order numbers those of the data

    Raises
    ------
    UsageError
        If a class of the data is none of them.
    InputRejected
        If a case has no label map, or there are too many labels.
    """

    def __init__(self, data: ClassedData, classes: Sequence[str]) -> None:
        unknown = [label for label in data.classes if label not in classes]
        if unknown:
            raise UsageError(
                f"{shown(data.path)} holds class {unknown[0]}, the base knows "
                f"{', '.join(classes)}; give --data a file that names their classes, such as "
                f'{{"{classes[0]}": ["FOLDER"]}}'
            )
        sets = [replace(one, number=classes.index(one.label)) for one in data.sets]
        super().__init__(data.path, sets)
        for one in sets:
            if any(case.labels_sha256 is None for case in one.data.cases):
                raise InputRejected(
                    f"{shown(one.place)} has no label maps; prepare the data with preprocess "
                    "--labels, and encode them with latents --labels"
                )
        self.labels = tuple(
            dict.fromkeys(n for one in sets for n in names_of(one.data.label_names))
        )
        if not 0 < len(self.labels) <= MOST_LABELS:
            raise InputRejected(
                f"{shown(data.path)} names {len(self.labels)} labels; a model takes 1 to "
                f"{MOST_LABELS}"
            )

    def condition(self, case: ClassedCase) -> NDArray[np.uint8]:
        """Label map (D, H, W) of a case, its numbers those of `labels`; errors as `checked`."""
        return renumbered(case.labels(), case.home.data.label_names, self.labels)
