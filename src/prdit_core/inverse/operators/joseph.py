"""Joseph's method in a plane: rays to the rows of a sparse matrix.

A ray steps from row to row of pixels, or from column to column, whichever it crosses more of, and
takes at each the linear interpolation between the two pixels beside it, times the length of a step
(P. M. Joseph, IEEE Trans. Med. Imaging 1, 192 (1982)).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

Array = NDArray[np.float64]
INDEX_BYTES = 4


def centres(count: int) -> Array:
    """Places of `count` points one apart around 0."""
    return np.arange(count, dtype=np.float64) - (count - 1) / 2


def entries(rays: int, shape: tuple[int, int]) -> int:
    """How many numbers the matrix of so many rays has, an upper bound."""
    return 2 * rays * max(shape)


def matrix_bytes(rays: int, shape: tuple[int, int], dtype: torch.dtype) -> int:
    """Bytes of the matrix and its transpose, an upper bound."""
    starts = rays + shape[0] * shape[1] + 2
    return 2 * entries(rays, shape) * (INDEX_BYTES + dtype.itemsize) + starts * INDEX_BYTES


def system_matrix(
    views: Iterable[tuple[Array, Array]],
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    dtype: torch.dtype,
) -> Tensor:
    """Line integrals through a plane of pixels, as a sparse CSR matrix (rays, H W).

    Parameters
    ----------
    views
        For each view a point on every ray and its unit direction, both (rays, 2) in mm: x to the
        right, y upwards, from the centre of the plane.
    shape, spacing_mm
        Pixels (H, W) and their (y, x) distance. Rows run downwards.
    """
    counts, columns, values = [], [], []
    for points, along in views:
        count, column, value = _rows_of(points, along, shape, spacing_mm)
        counts.append(count)
        columns.append(column)
        values.append(torch.from_numpy(value).to(dtype))
    starts = np.cumsum([0, *np.concatenate(counts)])
    size = (len(starts) - 1, shape[0] * shape[1])
    return _csr(starts, np.concatenate(columns), torch.cat(values), size)


def transposed(matrix: Tensor) -> Tensor:
    """The transpose, as a matrix of its own: products with it are as fast and as reproducible."""
    columns = matrix.col_indices().numpy()
    order = np.argsort(columns, kind="stable")
    starts = np.cumsum([0, *np.bincount(columns, minlength=matrix.shape[1])])
    counts = np.diff(matrix.crow_indices().numpy())
    rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[order]
    values = matrix.values()[torch.from_numpy(order)]
    return _csr(starts, rows, values, (matrix.shape[1], matrix.shape[0]))


def _csr(
    starts: NDArray[np.int64], columns: NDArray[np.int32], values: Tensor, size: tuple[int, int]
) -> Tensor:
    """32-bit indices, which MKL wants: it would convert others at every product."""
    first, column = torch.from_numpy(starts.astype(np.int32)), torch.from_numpy(columns)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(first, column, values, size, check_invariants=False)


def _rows_of(
    points: Array, along: Array, shape: tuple[int, int], spacing_mm: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int32], Array]:
    """Entries of the rays of one view: how many each has, their columns and their values."""
    middle = (np.array(shape)[:, None] - 1) / 2
    pitch = np.array([[-spacing_mm[0]], [spacing_mm[1]]])
    # (row, column) of a point on the ray, and how far it goes per mm.
    place, rate = points.T[::-1] / pitch + middle, along.T[::-1] / pitch
    column = np.full((len(points), 2 * max(shape)), -1, dtype=np.int32)
    value = np.zeros(column.shape)
    steep = np.abs(rate[0]) >= np.abs(rate[1])
    for rays, axis in ((np.flatnonzero(steep), 0), (np.flatnonzero(~steep), 1)):
        lines, other = np.arange(shape[axis]), 1 - axis
        ahead = (lines - place[axis, rays, None]) / rate[axis, rays, None]
        across = place[other, rays, None] + ahead * rate[other, rays, None]
        before = np.floor(across)
        for side, share in ((0, before + 1 - across), (1, across - before)):
            beside = before.astype(np.int64) + side
            pixel = lines * shape[1] + beside if axis == 0 else beside * shape[1] + lines
            inside = (beside >= 0) & (beside < shape[other]) & (share > 0)
            where = np.ix_(rays, 2 * lines + side)
            column[where] = np.where(inside, pixel, -1)
            value[where] = share / np.abs(rate[axis, rays, None])
    order = np.argsort(column, axis=1, kind="stable")
    column, value = np.take_along_axis(column, order, 1), np.take_along_axis(value, order, 1)
    kept = column >= 0
    return kept.sum(1), column[kept], value[kept]
