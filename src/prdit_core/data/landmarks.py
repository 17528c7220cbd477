"""Where the body and the lungs lie in a scan: good enough to centre a crop, no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from prdit_core.data.hounsfield import LUNG_HU

Point = NDArray[np.float64]

BODY_HU = -300
LUNG_ML = 250.0
COARSE_MM = 5.0


@dataclass(frozen=True, eq=False)
class BodyBox:
    """Low and high corner in LPS millimetres, each (x, y, z)."""

    low: Point
    high: Point

    @property
    def centre(self) -> Point:
        """Middle of the box, (x, y, z)."""
        return (self.low + self.high) / 2

    @property
    def size(self) -> Point:
        """Length of the sides in mm, (x, y, z)."""
        return self.high - self.low


@dataclass(frozen=True)
class Landmarks:
    """What was found.

    Attributes
    ----------
    extent : the axial box around the whole scan
    body : the box around the largest solid part, None where there is none
    lungs : the box around all parts of `LUNG_HU` and over `LUNG_ML` that the body encloses, None
        where there are none
    lung_ml : their volume in millilitres
    """

    extent: BodyBox
    body: BodyBox | None
    lungs: BodyBox | None
    lung_ml: float


def find_landmarks(image: sitk.Image) -> Landmarks:
    """Look for body and lungs on a coarse axial copy of a CT image (HU).

    The body is the largest solid part after a table's thin shells are gone.
    """
    coarse = _coarse_copy(image)
    components = sitk.ConnectedComponent(_opened_in_plane(coarse > BODY_HU))
    body = _parts_over(components, 0.0)[:1]
    lungs: list[_Part] = []
    if body:
        inside = _filled_in_plane(components == body[0].label)
        lung_like = sitk.BinaryThreshold(coarse, *LUNG_HU) & inside
        lungs = _parts_over(sitk.ConnectedComponent(lung_like), LUNG_ML)
    lung_ml = sum(part.volume_ml for part in lungs)
    return Landmarks(extent_of(image), _around(body), _around(lungs), lung_ml)


def extent_of(image: sitk.Image) -> BodyBox:
    """The axial box around an image, its outermost voxels included whole."""
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in image.GetSize()]), -1).reshape(-1, 3)
    points = [image.TransformContinuousIndexToPhysicalPoint(corner.tolist()) for corner in corners]
    return BodyBox(np.min(points, axis=0), np.max(points, axis=0))


@dataclass(frozen=True)
class _Part:
    label: int
    volume_ml: float
    box: BodyBox


def _coarse_copy(image: sitk.Image) -> sitk.Image:
    """The scan on an axial grid of `COARSE_MM`, averaged so that nothing thin aliases."""
    factors = [max(1, int(COARSE_MM // spacing)) for spacing in image.GetSpacing()]
    shrunk = sitk.BinShrink(image, np.minimum(factors, image.GetSize()).tolist())
    box = extent_of(shrunk)
    return sitk.Resample(
        shrunk,
        np.ceil(box.size / COARSE_MM - 1e-6).astype(int).tolist(),
        outputOrigin=(box.low + COARSE_MM / 2).tolist(),
        outputSpacing=[COARSE_MM] * 3,
        defaultPixelValue=-1000,
    )


def _opened_in_plane(solid: sitk.Image) -> sitk.Image:
    """Drop what is thinner than three voxels in its axial slice: table, cables, blankets."""
    array = sitk.GetArrayViewFromImage(solid)
    for extreme in (np.minimum, np.maximum):
        for axis in (1, 2):
            wide = np.pad(array, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
            length = array.shape[axis]
            array = extreme.reduce([wide.take(range(k, k + length), axis) for k in range(3)])
    return _image_like(solid, array)


def _filled_in_plane(solid: sitk.Image) -> sitk.Image:
    """Add what has solid on all four sides in its axial slice.

    In-plane, since lungs are open above and below a short scan.
    """
    array = sitk.GetArrayViewFromImage(solid)
    sides = [
        np.flip(np.maximum.accumulate(np.flip(array, flipped), axis), flipped)
        for axis in (1, 2)
        for flipped in ((), (axis,))
    ]
    return _image_like(solid, np.minimum.reduce(sides))


def _image_like(image: sitk.Image, array: NDArray[np.uint8]) -> sitk.Image:
    copy = sitk.GetImageFromArray(array)
    copy.CopyInformation(image)
    return copy


def _parts_over(components: sitk.Image, volume_ml: float) -> list[_Part]:
    """Labelled parts of at least `volume_ml`, the largest first."""
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.ComputePerimeterOff()  # the slow part
    shape.Execute(components)
    volumes_ml = {label: shape.GetPhysicalSize(label) / 1000 for label in shape.GetLabels()}
    parts = [
        _Part(label, volume, _box(components, shape.GetBoundingBox(label)))
        for label, volume in volumes_ml.items()
        if volume >= volume_ml
    ]
    return sorted(parts, key=lambda part: (-part.volume_ml, part.label))


def _box(image: sitk.Image, bounds: tuple[int, ...]) -> BodyBox:
    """Voxel bounds (first index, then number, of x, y, z) on a coarse copy in mm."""
    low = np.array(image.GetOrigin()) + (np.array(bounds[:3]) - 0.5) * COARSE_MM
    return BodyBox(low, low + np.array(bounds[3:]) * COARSE_MM)


def _around(parts: list[_Part]) -> BodyBox | None:
    if not parts:
        return None
    low = np.min([part.box.low for part in parts], axis=0)
    return BodyBox(low, np.max([part.box.high for part in parts], axis=0))
