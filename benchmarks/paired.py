"""Differences of pairs, and how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy import stats

if TYPE_CHECKING:
    import numpy as np


def interval(values: np.ndarray, digits: int = 2) -> str:
    """Mean and the half width of its 95 % interval (Student's t); of one value, that alone."""
    if len(values) < 2:
        return f"{values.mean():+.{digits}f}"
    reach = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.{digits}f} +- {reach:.{digits}f}"
