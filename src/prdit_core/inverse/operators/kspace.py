"""MRI with a single coil: some of the k-space of every slice (issue 18; reconstruction.md, 5).

y = M F e^(i phi) x: F is the orthonormal, centred Fourier transform of a slice, M takes the sampled
places, and x is real along a phase phi that is known, or 0. So a volume stays one real number a
voxel for priors and solvers, and the transpose is x = Re(e^(-i phi) F* M* y): zero filling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, model_validator

from prdit_core.inverse.operators.contract import Count, LinearOperator, Spec
from prdit_core.inverse.operators.packed import (
    packed_bits,
    packed_bytes,
    unpacked_bits,
    unpacked_bytes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Complex = NDArray[np.complex64] | NDArray[np.complex128]

# Rows and columns of (B, C, D, H, W).
PLANE = (-2, -1)


class Phase(BaseModel):
    """A smooth phase: the middle of the k-space of images that have it.

    Attributes
    ----------
    rows, columns : of the middle
    values : (D, rows, columns) complex64, see `packed.packed_bytes`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Count
    columns: Count
    values: str

    def middle(self, depth: int) -> NDArray[np.complex64]:
        """The values, (D, rows, columns); `ValueError` if they are not of so many slices."""
        size = depth * self.rows * self.columns * np.dtype(np.complex64).itemsize
        content = unpacked_bytes(self.values, size, "phase")
        return np.frombuffer(content, np.complex64).reshape(depth, self.rows, self.columns)


class KspaceSpec(Spec):
    """Which places of k-space are sampled, the same in all slices, and the phase of the volume.

    Measurements are (D, samples, 2), real and imaginary, in C order of (H, W). Frequency 0 and the
    middle of the volume lie at H // 2, W // 2, as in fastMRI.

    Attributes
    ----------
    sampled : (H, W), see `packed.packed_bits`
    phase : of the volume; None: 0
    """

    kind: Literal["kspace"] = "kspace"
    sampled: str
    phase: Phase | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        depth, height, width = self.shape
        if not self.mask().any():
            raise ValueError("no place of k-space is sampled, so there is nothing to go by")
        if self.phase is not None:
            if self.phase.rows > height or self.phase.columns > width:
                raise ValueError(f"the phase has more rows or columns than slices of {self.shape}")
            self.phase.middle(depth)
        return self

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """(D, samples, 2)."""
        return self.shape[0], int(np.count_nonzero(self.mask())), 2

    @property
    def acceleration(self) -> float:
        """Places of k-space for each that is sampled."""
        mask = self.mask()
        return mask.size / int(np.count_nonzero(mask))

    def stated(self) -> dict[str, Any]:
        """How much is sampled, and which of the two kinds of volume is meant."""
        along = "of phase 0" if self.phase is None else "along a given smooth phase"
        return {"acceleration": round(self.acceleration, 3), "image": f"magnitude, {along}"}

    def mask(self) -> NDArray[np.bool_]:
        """Which places are sampled, (H, W)."""
        return unpacked_bits(self.sampled, self.shape[1:])

    def phasors(self) -> NDArray[np.complex128] | None:
        """e^(i phi), (D, H, W); 1 where the images of the phase are 0. None: it is 1."""
        if self.phase is None:
            return None
        image = slices_of(padded(self.phase.middle(self.shape[0]), self.shape))
        size = np.abs(image)
        phasors: NDArray[np.complex128] = np.where(size > 0, image / np.where(size > 0, size, 1), 1)
        return phasors

    def memory(self, dtype: torch.dtype) -> int:
        """Bytes of the places, the phase, and the k-space of a volume at work."""
        depth, samples, _ = self.range_shape
        volume = 2 * depth * self.shape[1] * self.shape[2] * dtype.itemsize
        return samples * torch.int64.itemsize + 3 * volume

    def fitting(self, share: float) -> str:
        """All grows with the voxels."""
        return f"{int(share * self.shape[0])} slices of this size would fit"

    def operator(self, dtype: torch.dtype) -> Kspace:
        """List the places and make the phase."""
        return Kspace(self, dtype)


def sampled_at(
    mask: NDArray[Any], shape: tuple[int, int, int], middle: Complex | None = None
) -> KspaceSpec:
    """The spec of a (H, W) mask.

    Parameters
    ----------
    middle : (D, rows, columns) of the k-space of images that have the phase; None: none
    """
    phase = None
    if middle is not None:
        values = packed_bytes(middle.astype(np.complex64).tobytes())
        phase = Phase(rows=middle.shape[1], columns=middle.shape[2], values=values)
    return KspaceSpec(shape=shape, sampled=packed_bits(mask), phase=phase)


def kspace_of(slices: NDArray[Any]) -> NDArray[np.complex128]:
    """Centred, orthonormal k-space of slices (..., H, W)."""
    spectrum = np.fft.fft2(np.fft.ifftshift(slices, PLANE), norm="ortho")
    shifted: NDArray[np.complex128] = np.fft.fftshift(spectrum, PLANE)
    return shifted


def slices_of(kspace: Complex) -> NDArray[np.complex128]:
    """Slices of their centred, orthonormal k-space (..., H, W)."""
    image = np.fft.ifft2(np.fft.ifftshift(kspace, PLANE), norm="ortho")
    shifted: NDArray[np.complex128] = np.fft.fftshift(image, PLANE)
    return shifted


def middle_of(kspace: Complex, rows: int, columns: int) -> Complex:
    """So many rows and columns around frequency 0."""
    _, height, width = kspace.shape
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    return kspace[:, top : top + rows, left : left + columns]


def padded(middle: Complex, shape: tuple[int, int, int]) -> NDArray[np.complex128]:
    """k-space (D, H, W) that is 0 beyond its middle."""
    whole = np.zeros(shape, np.complex128)
    middle_of(whole, *middle.shape[1:])[...] = middle
    return whole


class Kspace(LinearOperator):
    """The sampled k-space of a volume."""

    def __init__(self, geometry: KspaceSpec, dtype: torch.dtype) -> None:
        super().__init__(geometry, dtype)
        # As torch counts frequencies, from 0 up, so that k-space itself needs no shift.
        _, height, width = geometry.shape
        rows, columns = np.nonzero(geometry.mask())
        rows, columns = (rows - height // 2) % height, (columns - width // 2) % width
        self._places: Tensor
        self.register_buffer("_places", torch.from_numpy(rows * width + columns), persistent=False)
        phasors = geometry.phasors()
        self._phasors: Tensor | None
        pairs = None if phasors is None else torch.view_as_real(torch.from_numpy(phasors)).to(dtype)
        self.register_buffer("_phasors", pairs, persistent=False)

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """(D, samples, 2)."""
        return self.domain_shape[0], len(self._places), 2

    def _smallest(self) -> tuple[int, int, int]:
        """One slice, where all are alike."""
        alike = self._phasors is None
        return (1, *self.domain_shape[1:]) if alike else self.domain_shape

    def _measure(self, x: Tensor) -> Tensor:
        image = x if self._phasors is None else x * torch.view_as_complex(self._phasors)
        spectrum = torch.fft.fft2(torch.fft.ifftshift(image, PLANE), norm="ortho")
        return torch.view_as_real(spectrum.flatten(-2).index_select(-1, self._places))

    def _spread(self, y: Tensor) -> Tensor:
        spectrum = torch.zeros(
            (*y.shape[:3], self.domain_shape[1] * self.domain_shape[2], 2),
            dtype=y.dtype,
            device=y.device,
        ).index_copy_(3, self._places, y)
        planes = torch.unflatten(torch.view_as_complex(spectrum), -1, self.domain_shape[1:])
        image = torch.fft.fftshift(torch.fft.ifft2(planes, norm="ortho"), PLANE)
        if self._phasors is not None:
            image = image * torch.view_as_complex(self._phasors).conj()
        volume: Tensor = image.real.contiguous()
        return volume
