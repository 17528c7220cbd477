"""Whether projections can be what they are said to be, and where the axis of rotation is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.data.grid import rejected
from prdit_core.inverse.operators.projector import covered_arc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.inverse.operators.projector import ViewsSpec

# Radians given as degrees span less, degrees taken for radians one of these many turns.
MIN_SPAN_DEG, TURNS_DEG = 7.0, (180.0, 360.0)
# Air is noisy: line integrals below this are more than noise.
MIN_INTEGRAL = -0.2
# Ends of the detector that see more than this share of the largest integral see the object.
TRUNCATED = 0.05
# Share of the largest integral below which a bin is taken for background.
BACKGROUND = 0.05
# Part of a detector's width that an axis may be off its middle without being stated.
MAX_OFF = 0.1
MIN_ARC_DEG = 90.0
# Degrees of lines that views may leave out unnoticed.
ALMOST_DEG = 5.0


def check_angles(angles_deg: NDArray[np.float64], period_deg: float, name: str) -> list[str]:
    """Refuse angles that cannot be those of a scan; notes on what is unusual.

    Parameters
    ----------
    period_deg : after which views repeat: 180 for parallel beam, else 360

    Raises
    ------
    InputRejected
    """
    if not np.all(np.isfinite(angles_deg)):
        raise rejected(name, "an angle is NaN or infinite", "repair the angles")
    if len(angles_deg) < 2:
        raise rejected(name, "it has fewer than 2 views", "give more")
    span = float(np.ptp(angles_deg))
    if span < MIN_SPAN_DEG:
        why = f"its angles span {span:.3g} degrees only, as if they were radians"
        raise rejected(name, why, "give degrees")
    meant = np.radians(span) * np.array([1.0, len(angles_deg) / (len(angles_deg) - 1)])
    if any(np.any(np.abs(meant - turn) < 0.01 * turn) for turn in TURNS_DEG):
        why = f"its angles span {span:.0f} degrees, as if degrees had been taken for radians"
        raise rejected(name, why, "give degrees as they are")
    notes = []
    turned = np.sort(np.mod(angles_deg, period_deg))
    if span > period_deg * (1 + 1e-6):
        notes.append(f"views over more than {period_deg:g} degrees share their weights")
    elif np.any(np.diff(turned, append=turned[0] + period_deg) < 1e-6 * period_deg):
        notes.append(f"views {period_deg:g} degrees apart say the same and share their weight")
    return notes


def missing_arc(spec: ViewsSpec) -> list[str]:
    """A note where views leave out lines through the volume, and what comes of it."""
    _, arc = covered_arc(spec.angles_deg, spec.period_deg)
    if arc > spec.whole_arc_deg - ALMOST_DEG:
        return []
    return [
        f"views over {arc:.0f} degrees leave out lines, all of which take "
        f"{spec.whole_arc_deg:.0f}: filtered backprojection will be shaded, and edges along these "
        "lines are not seen"
    ]


def check_views(integrals: NDArray[Any], views: int, name: str) -> None:
    """Refuse line integrals (rows, V, bins) of another number of views than there are angles.

    Raises
    ------
    InputRejected
    """
    _, count, bins = integrals.shape
    if count == views:
        return
    remedy = "give one angle for each view"
    if bins == views:
        remedy = "it seems to be transposed: give (views, bins)"
    raise rejected(name, f"it has {count} views but {views} angles", remedy)


def check_integrals(integrals: NDArray[Any], views: int, name: str) -> list[str]:
    """Refuse line integrals (rows, V, bins) that no scan gives; notes on what is unusual.

    Raises
    ------
    InputRejected
    """
    check_views(integrals, views, name)
    unknown = int(np.count_nonzero(~np.isfinite(integrals)))
    if unknown:
        raise rejected(name, f"{unknown} of its line integrals are NaN or infinite", "repair them")
    empty = np.flatnonzero(~integrals.any(axis=(0, 2)))
    if len(empty):
        why = f"{len(empty)} of its {views} views are all zero, the first is {empty[0]}"
        raise rejected(name, why, "leave these views out")
    notes = []
    if integrals.min() < MIN_INTEGRAL:
        low = int(np.count_nonzero(integrals < MIN_INTEGRAL))
        notes.append(f"{low} line integrals are below {MIN_INTEGRAL}: check flats and darks")
    ends = np.stack([integrals[..., :2].mean(-1), integrals[..., -2:].mean(-1)])
    if np.all(np.median(ends, axis=(1, 2)) > TRUNCATED * integrals.max()):
        notes.append("the object reaches beyond both ends of the detector: values will be too high")
    return notes


def find_axis(integrals: NDArray[Any], angles_deg: NDArray[np.float64], name: str) -> float:
    """The bin that the axis of rotation meets, from parallel projections (rows, V, bins).

    The centre of mass of a view is that of the object, seen from there: axis + a cos(angle) +
    b sin(angle) (the first of the Helgason-Ludwig conditions). It holds where the whole object is
    in view, and is fitted to all views.

    Raises
    ------
    InputRejected
        If the views cover less than 90 degrees, or if the axis is more than 10 % of the detector's
        width off its middle: such an axis must be stated.
    """
    remedy = "state where the axis is (--axis)"
    if np.ptp(angles_deg) < MIN_ARC_DEG:
        raise rejected(name, "views of less than 90 degrees do not say where the axis is", remedy)
    mass = np.where(integrals > BACKGROUND * integrals.max(), integrals, 0).sum(0, dtype=np.float64)
    places = np.arange(mass.shape[1])
    with np.errstate(invalid="ignore"):
        centre = mass @ places / mass.sum(1)
    angles = np.radians(angles_deg)
    system = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles)], axis=1)
    seen = np.isfinite(centre)
    if np.count_nonzero(seen) < len(system[0]):
        raise rejected(name, "no object is in view, so its axis cannot be found", remedy)
    axis = float(np.linalg.lstsq(system[seen], centre[seen])[0][0])
    off = axis - (mass.shape[1] - 1) / 2
    if abs(off) > MAX_OFF * mass.shape[1]:
        why = f"the axis seems to be {abs(off):.0f} bins off the detector's middle"
        raise rejected(name, why, remedy)
    return axis
