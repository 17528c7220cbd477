"""Cone beam with a flat detector, matrix-free; two of its views are an X-ray pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch

from prdit_core.geometry import Millimetres
from prdit_core.inverse.operators import joseph3d
from prdit_core.inverse.operators.circular import CircularSpec, interpolated
from prdit_core.inverse.operators.contract import Count
from prdit_core.inverse.operators.joseph import centres
from prdit_core.inverse.operators.projector import Projector, view_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

XRAY_SAD_MM, XRAY_SID_MM = 700.0, 820.0


class ConeSpec(CircularSpec):
    """Rays from a source to the pixels of a flat detector; measurements are (V, rows, bins).

    Attributes
    ----------
    rows, row_mm : of the detector, which run with z; their middle is in the plane of the source
    """

    kind: Literal["cone"] = "cone"
    rows: Count
    row_mm: Millimetres

    @property
    def range_shape(self) -> tuple[int, int, int]:
        """(V, rows, bins)."""
        return self.views, self.rows, self.bins

    def halved(self) -> Self:
        """The same views of the same extent on a twice finer grid, with four rays a pixel."""
        finer = {"rows": 2 * self.rows, "row_mm": self.row_mm / 2}
        return super().halved().model_copy(update=finer)

    def binned(self, several: int) -> Self:
        """As of other projectors, and as many rows taken as one; they must be a multiple."""
        depth, z = self.shape[0], self.spacing_mm[0]
        coarser = super().binned(several)
        update = {
            "shape": (max(depth // several, 1), *coarser.shape[1:]),
            "spacing_mm": (z * several, *coarser.spacing_mm[1:]),
            "rows": self.rows // several,
            "row_mm": self.row_mm * several,
        }
        return coarser.model_copy(update=update)

    def memory(self, dtype: torch.dtype) -> int:
        """Bytes at work, besides volume and measurement: nothing is kept."""
        voxels = int(np.prod(self.shape))
        return 2 * voxels * dtype.itemsize + joseph3d.working_bytes(self.rows * self.bins, dtype)

    def fitting(self, share: float) -> str:
        """Only the volume counts."""
        return f"volumes of {share:.0%} of these voxels would fit"

    def beams(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For each view the source, (3,), and how far the rays go per mm, (rows bins, 3).

        Both counted in voxels along (z, y, x), float64.
        """
        pitch = torch.tensor(self.spacing_mm, dtype=torch.float64) * torch.tensor([1.0, -1.0, 1.0])
        middle = (torch.tensor(self.shape, dtype=torch.float64) - 1) / 2
        z = np.broadcast_to((centres(self.rows) * self.row_mm)[:, None], (self.rows, self.bins))
        for source, bins in zip(self.sources(), self.bins_of(), strict=True):
            x, y = (np.broadcast_to(part, z.shape) for part in (bins - source).T)
            along = torch.from_numpy(np.stack([z, y, x], -1).reshape(-1, 3))
            along = along / along.norm(dim=1, keepdim=True)
            place = torch.tensor([0.0, source[1], source[0]], dtype=torch.float64)
            yield place / pitch + middle, along / pitch

    def operator(self, dtype: torch.dtype) -> Cone:
        """Nothing is traced before it is used."""
        return Cone(self, dtype)


class Cone(Projector):
    """Joseph's projector of a cone; `fbp` is FDK."""

    geometry: ConeSpec

    @property
    def pitch_mm(self) -> float:
        """Distance of the bins as seen at the axis."""
        return self.geometry.pitch_mm

    def ray_weights(self) -> Tensor:
        """Cosines of the angles to the middle ray, times the share in its line, (V, rows, bins).

        The share is that of the ray below or above it in the plane of the source.
        """
        sid = self.geometry.source_detector_mm
        v = centres(self.geometry.rows)[:, None] * self.geometry.row_mm
        u = self.geometry.bin_places()[None, :]
        cosines = sid / np.sqrt(sid**2 + u**2 + v**2)
        return torch.from_numpy(cosines * self.geometry.redundancy()[:, None]).to(self._unit)

    def backproject(self, filtered: Tensor) -> Tensor:
        """Every voxel's pixels, interpolated, by the squared nearness of the source."""
        cone, images = self.geometry, filtered.flatten(0, 1).movedim(1, 0)  # V BC rows bins
        magnified = cone.source_detector_mm / cone.source_axis_mm * cone.spacing_mm[0] / cone.row_mm
        z = torch.from_numpy(centres(cone.shape[0]) * magnified).to(filtered)
        weights = view_weights(cone.angles_deg, cone.period_deg)
        total = filtered.new_zeros(images.shape[1], *cone.shape)
        for image, weight, (bins, near) in zip(
            images, weights.tolist(), cone.pixels_seen(filtered), strict=True
        ):
            for index, height in enumerate(z):
                rows = height * near + (cone.rows - 1) / 2
                seen = interpolated(image[None], rows[None], bins[None])[0]
                total[:, index] += weight * near.square() * seen
        return total.view(*filtered.shape[:2], *cone.shape)

    def _measure(self, x: Tensor) -> Tensor:
        volumes = x.flatten(0, 1)
        views = [joseph3d.project(volumes, *beam) for beam in self.geometry.beams()]
        return torch.stack(views, 1).view(*x.shape[:2], *self.range_shape)

    def _spread(self, y: Tensor) -> Tensor:
        volumes = y.new_zeros(y.shape[0] * y.shape[1], *self.domain_shape)
        views = y.flatten(3).flatten(0, 1).unbind(1)  # V times (BC, rows bins)
        for view, beam in zip(views, self.geometry.beams(), strict=True):
            joseph3d.spread(view, *beam, into=volumes)
        return volumes.view(*y.shape[:2], *self.domain_shape)


def xray_pair(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], pixels: int
) -> ConeSpec:
    """Two X-ray pictures at right angles, `pixels` wide and high, that show a whole volume."""
    extent = max(n * mm for n, mm in zip(shape, spacing_mm, strict=True))
    pixel_mm = extent * XRAY_SID_MM / (XRAY_SAD_MM - extent / 2) / pixels
    return ConeSpec(
        shape=shape,
        spacing_mm=spacing_mm,
        angles_deg=(0.0, 90.0),
        bins=pixels,
        bin_mm=pixel_mm,
        rows=pixels,
        row_mm=pixel_mm,
        source_axis_mm=XRAY_SAD_MM,
        source_detector_mm=XRAY_SID_MM,
    )
