"""What a prior can be steered by, and whether a label map is such; `Prior.under` does it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.errors import InputRejected, UsageError
from prdit_core.geometry import by

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prdit_core.classes import VolumeClass
    from prdit_core.config import NetworkConfig
    from prdit_core.models.contracts import Network
    from prdit_core.models.prior import Prior

LARGEST_SCALE = 10.0  # of a control; far beyond what was trained


def control_of(prior: Prior) -> NetworkConfig:
    """Its control, if label maps are all that it needs; `UsageError` otherwise."""
    control = prior.network.control
    if control is None:
        raise UsageError(
            f"{prior.name} has no control, so it makes no volumes for a condition; take a run of "
            "train --stage control"
        )
    if not control.by_labels_alone:
        raise UsageError(
            f"{prior.name} also needs images ({', '.join(control.image_names)}) as a condition, "
            "which cannot be given yet; take a model that is controlled by labels alone"
        )
    return control


def control_class(prior: Prior, label: str | None) -> VolumeClass:
    """A class that its control was trained on; None: the first. `UsageError` for any other."""
    control = control_of(prior)
    for one in control.trained_on:
        if label in (None, one.name):
            return one
    known = ", ".join(one.name for one in control.trained_on)
    raise UsageError(
        f"the control of {prior.name} was trained on {known}, not on {label}; choose such a class"
    )


def steered_by(prior: Prior, labels: NDArray[Any], scale: float) -> tuple[Network, dict[str, Any]]:
    """The network of a prior under a label map, and what to record; see `Prior.under`."""
    one = control_class(prior, prior.label)
    shape = prior.geometry.shape
    if prior.geometry not in one.geometries:
        known = ", ".join(by(grid.shape) for grid in one.geometries)
        raise UsageError(
            f"the control of {prior.name} was trained on {known} voxels, not on {by(shape)}; "
            "choose such a grid"
        )
    if labels.shape != shape:
        raise UsageError(
            f"the labels have {by(labels.shape)} voxels, {prior.name} makes {by(shape)}; resample "
            "them"
        )
    if not 0 <= scale <= LARGEST_SCALE:
        raise UsageError(f"control scale {scale:g} is not from 0 to {LARGEST_SCALE:g}")
    if not labels.any():
        raise InputRejected("nothing is labelled where the model looks; paint something there")
    import torch

    drawn, codec = torch.from_numpy(np.asarray(labels, np.int64)), prior.codec
    network = prior.network.under(drawn, codec.padded(shape), codec.grid(shape), scale)
    digest = sha256(np.ascontiguousarray(labels, np.uint8).tobytes()).hexdigest()
    return network, {"labels_sha256": digest, "scale": scale}
