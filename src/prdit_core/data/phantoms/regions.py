"""The regions of the body that phantoms are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prdit_core.data.phantoms.anatomy import CHEST_FIELD_MM, LABELS, Patient
from prdit_core.data.phantoms.canvas import FLAT, Canvas
from prdit_core.data.phantoms.head import HEAD_FIELD_MM, HEAD_LABELS, HeadPatient
from prdit_core.data.phantoms.head_bones import (
    paint_braincase,
    paint_ears,
    paint_face,
    paint_lower_jaw,
    paint_neck_bones,
    paint_sinuses,
)
from prdit_core.data.phantoms.head_tissues import (
    paint_airway,
    paint_brain,
    paint_eyes,
    paint_holder,
    paint_outside,
)
from prdit_core.data.phantoms.legs import LEGS_LABELS
from prdit_core.data.phantoms.legs_tissues import paint_legs
from prdit_core.data.phantoms.organs import (
    paint_belly,
    paint_lungs,
    paint_mediastinum,
    paint_table,
    paint_wall,
)
from prdit_core.data.phantoms.skeleton import paint_skeleton
from prdit_core.errors import UsageError
from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Region:
    """A part of the body.

    Attributes
    ----------
    preset : name of the preset that phantoms of it are prepared by
    labels : name of a tissue to its number
    paint : (seed, index, spacing in mm) to the painted canvas and the noise in HU at 1.25 mm
    """

    preset: str
    labels: dict[str, int]
    paint: Callable[[int, int, float], tuple[Canvas, float]]


def paint_chest(seed: int, index: int, spacing_mm: float) -> tuple[Canvas, float]:
    """The chest of one patient on its table."""
    patient = Patient.draw(numpy_generator(Draw.PATIENT, seed, index))
    canvas = Canvas(FLAT, CHEST_FIELD_MM, spacing_mm)
    paint_table(canvas, patient)
    canvas.pose = patient.pose
    paint_wall(canvas, patient)
    paint_lungs(canvas, patient, numpy_generator(Draw.LUNGS, seed, index))
    paint_belly(canvas, patient)
    paint_mediastinum(canvas, patient)
    paint_skeleton(canvas, patient)
    return canvas, patient.noise


def paint_head(seed: int, index: int, spacing_mm: float) -> tuple[Canvas, float]:
    """The head of one patient in its holder."""
    head = HeadPatient.draw(numpy_generator(Draw.HEAD, seed, index))
    canvas = Canvas(FLAT, HEAD_FIELD_MM, spacing_mm)
    paint_holder(canvas, head)
    canvas.pose = head.pose
    paint_outside(canvas, head)
    paint_braincase(canvas, head)
    paint_neck_bones(canvas)
    paint_face(canvas, head)
    paint_brain(canvas, head)
    paint_ears(canvas, numpy_generator(Draw.CELLS, seed, index))
    paint_airway(canvas, head)
    paint_sinuses(canvas, head)
    paint_lower_jaw(canvas, head)
    paint_eyes(canvas, head)
    return canvas, head.noise


REGIONS: dict[str, Region] = {
    "chest": Region("chest-320", LABELS, paint_chest),
    "head": Region("head-256", HEAD_LABELS, paint_head),
    "legs": Region("legs-320", LEGS_LABELS, paint_legs),
}


def region_of(name: str) -> Region:
    """A row of `REGIONS`.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in REGIONS:
        raise UsageError(f"region {name!r} is not known; choose one of {', '.join(REGIONS)}")
    return REGIONS[name]
