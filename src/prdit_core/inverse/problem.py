"""A measurement as a problem to solve: operator, data and units in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prdit_core.errors import UsageError
from prdit_core.geometry import by
from prdit_core.intensity import HU
from prdit_core.inverse.attenuation import Attenuation, of_hu, of_model
from prdit_core.inverse.operators.kspace import Kspace
from prdit_core.inverse.operators.projector import Projector, ViewsSpec
from prdit_core.inverse.operators.table import build

if TYPE_CHECKING:
    from torch import Tensor

    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.inverse.operators.contract import LinearOperator

# Spacings that agree to this are the same.
SAME_SPACING = 1e-3
# Of the root mean square of data without weights.
ASSUMED_NOISE = 0.005


@dataclass(frozen=True, eq=False)
class Problem:
    """What was measured, in the unit that the solver works in, with the operator built.

    Attributes
    ----------
    measurement : it is the problem of
    y : (1, 1, *range_shape)
    weights : of the misfit, None: 1
    unit : from the solver's unit to what the operator integrates: attenuation for projections, HU
        for all else (`units` of the measurement for what is no CT)
    projected : whether the operator integrates attenuation
    """

    measurement: Measurement
    operator: LinearOperator
    y: Tensor
    weights: Tensor | None
    unit: Attenuation
    projected: bool

    @property
    def lower(self) -> float:
        """Bound of what is measured: of attenuation and magnitudes 0, of HU that of air."""
        return -1024.0 if not self.projected and self.measurement.units == HU else 0.0

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise of W^(1/2) y.

        Weights are taken for one over the variance, as those of counted photons are. Where there
        are none nobody says what the noise is, and it is assumed to be `ASSUMED_NOISE` of the data.
        """
        if self.weights is not None:
            return 1.0 / abs(self.unit.slope)
        size = float(np.sqrt(np.square(self.measurement.values, dtype=np.float64).mean()))
        return ASSUMED_NOISE * size / abs(self.unit.slope)

    def hu(self, x: Tensor) -> Tensor:
        """HU, or the measurement's units, of a volume in the solver's unit, not clipped."""
        measured = self.unit.per_mm(x)
        return of_hu().unit(measured) if self.projected else measured

    def measured(self, hu: Tensor) -> Tensor:
        """The solver's unit of HU, or of the measurement's units."""
        return self.unit.unit(of_hu().per_mm(hu) if self.projected else hu)

    @property
    def counted(self) -> Tensor | None:
        """Weights of 1, and 0 for what does not count; None where all does."""
        if self.weights is None or bool((self.weights > 0).all()):
            return None
        return (self.weights > 0).to(self.y)

    def measured_y(self) -> Tensor:
        """The measurement in what the operator measures, (1, 1, *range_shape)."""
        empty = self.y.new_full((1, 1, *self.operator.domain_shape), self.unit.offset)
        full: Tensor = self.y * self.unit.slope + self.operator(empty)
        return full

    def misfit(self, x: Tensor) -> float:
        """|W^(1/2) (A x - y)| / |W^(1/2) y|, in what the operator measures."""
        full = self.measured_y()
        left = (self.operator(x) - self.y) * self.unit.slope
        root = 1.0 if self.weights is None else self.weights.sqrt()
        return float((root * left).double().norm() / (root * full).double().norm())


def posed(measurement: Measurement, unit: Attenuation, device: str) -> Problem:
    """The problem in a unit of which the operator integrates `unit.per_mm`."""
    operator = build(measurement.spec, device)
    y = unit.measurement(operator, measurement.tensor().to(device))
    weights = measurement.weight_tensor()
    weights = None if weights is None else weights.to(device)
    projected = isinstance(measurement.spec, ViewsSpec)
    return Problem(measurement, operator, y, weights, unit, projected)


def in_measured_unit(measurement: Measurement, device: str) -> Problem:
    """The problem in attenuation, or in the measurement's units where no rays are integrated."""
    return posed(measurement, Attenuation(1.0, 0.0), device)


def in_units_of(
    intensity: Intensity, geometry: Geometry, measurement: Measurement, device: str
) -> Problem:
    """The problem in a model's units, on its grid.

    Raises
    ------
    UsageError
        If the measurement is of another grid or other units, or has no pixel size.
    """
    spec = measurement.spec
    if measurement.units != intensity.units:
        raise UsageError(
            f"the measurement is of a volume in {measurement.units}, the model makes volumes in "
            f"{intensity.units}; choose a --checkpoint of the same modality, or a --method without "
            "a model"
        )
    if isinstance(spec, ViewsSpec) and measurement.length != "mm":
        raise UsageError(
            "the measurement has no pixel size, so it cannot be told in HU what a prior of CT "
            "knows in HU; state it (--unit-mm of raw projections, or lengths in mm), or use "
            "--method fbp, sirt, tv or cg"
        )
    if spec.shape != geometry.shape:
        raise UsageError(
            f"the measurement is of {by(spec.shape)} voxels, the model makes "
            f"{by(geometry.shape)}; measure on the model's grid, or choose another --size"
        )
    if isinstance(spec, ViewsSpec):
        if not np.allclose(spec.spacing_mm, geometry.spacing_mm, rtol=SAME_SPACING):
            raise UsageError(
                f"the measurement is of voxels of {_mm(spec.spacing_mm)} mm, the model makes "
                f"{_mm(geometry.spacing_mm)} mm; measure on the model's grid"
            )
        return posed(measurement, of_model(intensity), device)
    first_hu = intensity.window_hu[0] - intensity.model_range[0] * intensity.hu_per_unit
    return posed(measurement, Attenuation(intensity.hu_per_unit, first_hu), device)


def projector_of(problem: Problem) -> Projector:
    """Its operator as one of rays.

    Raises
    ------
    UsageError
        If it is none: there is nothing to filter and backproject.
    """
    if not isinstance(problem.operator, Projector):
        raise UsageError(
            f"filtered backprojection is for projections, not for {problem.operator.geometry.kind}"
        )
    return problem.operator


def zero_filled(problem: Problem) -> Tensor:
    """The volume whose k-space is what was sampled, and 0 elsewhere, (1, 1, D, H, W).

    Raises
    ------
    UsageError
        If something else than k-space was measured.
    """
    if not isinstance(problem.operator, Kspace):
        kind = problem.operator.geometry.kind
        raise UsageError(f"zero filling is for k-space, not for {kind}")
    return problem.operator.adjoint(problem.y)


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{mm:g}" for mm in spacing)
