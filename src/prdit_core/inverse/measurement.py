"""A measurement: numbers, the operator that explains them, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import torch

from prdit_core.errors import InputRejected
from prdit_core.intensity import ARBITRARY, HU
from prdit_core.inverse.operators.kspace import KspaceSpec
from prdit_core.inverse.operators.projector import ViewsSpec
from prdit_core.inverse.operators.slices import SlicesSpec
from prdit_core.provenance import UNITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from prdit_core.inverse.operators.contract import Spec

Length = Literal["mm", "pixel"]
# List or text that a record repeats.
_LONGEST = 64


@dataclass(frozen=True, eq=False)
class Measurement:
    """What an operator measured of one volume.

    Attributes
    ----------
    values : (*range_shape) float32
        Line integrals of attenuation where `spec` is one of projections, else in `units`.
    spec : Spec
        Of the operator.
    weights : (*range_shape) float32 or None
        W of the misfit, where noise is not the same everywhere.
    length : "mm", or "pixel" where the pixel size is not known and lengths are in pixels
    affine : (4, 4) or None
        Of the grid that is reconstructed, where it has a place in a patient; see `Volume`.
    metadata : mapping
        JSON-serialisable provenance, with `notes`.
    """

    values: NDArray[np.float32]
    spec: Spec
    weights: NDArray[np.float32] | None = None
    length: Length = "mm"
    affine: NDArray[np.float64] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = self.spec.range_shape
        for what, array in (("measurement", self.values), ("weights", self.weights)):
            if array is not None and array.shape != expected:
                raise InputRejected(
                    f"a {what} of shape {array.shape} is not one of this geometry, {expected}; "
                    "check the geometry's shape, views and bins"
                )

    @property
    def digest(self) -> str:
        """SHA-256 over numbers, geometry and place; the same in whichever file it lies."""
        parts = [self.spec.model_dump_json().encode(), self.length.encode(), self.values.tobytes()]
        parts += [part.tobytes() for part in (self.weights, self.affine) if part is not None]
        return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()

    @property
    def units(self) -> str:
        """Of the volume that was measured; those of k-space are arbitrary unless stated."""
        usual = ARBITRARY if isinstance(self.spec, KspaceSpec) else HU
        return str(self.metadata.get(UNITS, usual))

    @property
    def sinogram(self) -> NDArray[np.float32] | None:
        """(slices or rows of the detector, views, bins); None where no rays are integrated."""
        if not isinstance(self.spec, ViewsSpec):
            return None
        return self.values if isinstance(self.spec, SlicesSpec) else self.values.swapaxes(0, 1)

    def about(self) -> dict[str, Any]:
        """What the record of a reconstruction says of it: no long lists, and not whose it is."""
        spec = self.spec.model_dump(mode="json").items()
        known = {k: v for k, v in spec if not (isinstance(v, list | str) and len(v) > _LONGEST)}
        about = {k: v for k, v in self.metadata.items() if k != "volume"}
        return {"operator": known, **self.spec.stated(), **about}

    def tensor(self) -> torch.Tensor:
        """The values with batch and channel, (1, 1, *range_shape)."""
        return torch.from_numpy(self.values)[None, None]

    def weight_tensor(self) -> torch.Tensor | None:
        """The weights with batch and channel."""
        return None if self.weights is None else torch.from_numpy(self.weights)[None, None]
