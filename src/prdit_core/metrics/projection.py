"""Features of all volumes on a plane, to look at."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

METHOD = "PCA"
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Projection(Generic[Name]):
    """Principal components of several sets of features together.

    Attributes
    ----------
    explained : shares of the variance along both axes
    points : (N, 2) of each set
    """

    explained: tuple[float, float]
    points: Mapping[Name, NDArray[np.float64]]


def principal_plane(sets: Mapping[Name, NDArray[np.float64]]) -> Projection[Name]:
    """Project features (N, F) of each set onto the two directions in which all vary most."""
    features = np.concatenate(list(sets.values()))
    features = features - features.mean(0)
    left, scales, axes = np.linalg.svd(features, full_matrices=False)
    points = np.zeros((len(features), 2))
    points[:, : len(scales)] = (left * scales * _signs(axes))[:, :2]
    shares = np.zeros(2)
    shares[: len(scales)] = (scales**2 / max(np.square(scales).sum(), np.finfo(float).tiny))[:2]
    parts = np.split(points, np.cumsum([len(part) for part in sets.values()])[:-1])
    return Projection((float(shares[0]), float(shares[1])), dict(zip(sets, parts, strict=True)))


def _signs(axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signs that make the largest part of each axis positive, so that pictures stay the same."""
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)[:, 0]
    return np.where(largest < 0, -1.0, 1.0)
