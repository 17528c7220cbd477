"""Forget a region of a scan and let a prior imagine it anew, consistent with the rest."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from prdit_core.checkpoints.expected_data import expected_data
from prdit_core.data.resampling import WorkingGrid, averaged, image_of, on_grid, pool_mean, resample
from prdit_core.data.transforms import OUTSIDE, conform, middle
from prdit_core.errors import UsageError
from prdit_core.geometry import by
from prdit_core.inverse.operators.mask import mask_of
from prdit_core.provenance import SYNTHETIC
from prdit_core.verbs.reconstruct import WALK, reconstruct_steps
from prdit_core.verbs.simulate import simulate
from prdit_core.verbs.step_volume import step_volume
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from prdit_core.config import SamplingConfig
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.models.prior import Prior
    from prdit_core.sampling.sampler import SampleStep

# Share of a voxel of the prior that must be known; less than 1 by what interpolation rounds.
_KNOWN = 1 - 1e-4
# The measured voxels are a projection: one step of conjugate gradients fits them exactly.
_ITERATIONS = 1


@dataclass(frozen=True, eq=False)
class Forgotten:
    """A scan of which a region is forgotten, and what a prior is left to go by.

    Attributes
    ----------
    scan : on its own grid
    region : (D, H, W) bool on that grid, what is imagined anew
    known : the scan on the prior's grid, without the region and without what it does not cover
    """

    scan: Volume
    region: NDArray[np.bool_]
    known: Measurement

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The smallest box of voxels (z, y, x) that holds the region."""
        z, y, x = (np.flatnonzero(self.region.any(axis=rest)) for rest in ((1, 2), (0, 2), (0, 1)))
        return _span(z), _span(y), _span(x)

    @property
    def record(self) -> dict[str, Any]:
        """Which region it is, for the record of a result; `sha256` is of its packed bits."""
        return {
            "voxels": int(np.count_nonzero(self.region)),
            "share": float(self.region.mean()),
            "box": [[part.start, part.stop] for part in self.box],
            "sha256": sha256(np.packbits(self.region).tobytes()).hexdigest(),
        }


def forget(prior: Prior, scan: Volume, region: NDArray[Any]) -> Forgotten:
    """Bring a scan to the prior's grid, without a region.

    A voxel of the prior is known if only voxels outside of the region went into it. What the scan
    does not cover is imagined too, though never put back.

    Parameters
    ----------
    scan : CT of any grid
    region : (D, H, W) on the grid of the scan, not 0 where it is forgotten

    Raises
    ------
    UsageError
        If the region is empty, everything, on another grid, or beyond what the prior sees, or the
        prior has no HU.
    InputRejected
        If the scan holds NaN.
    """
    prior.check_hu()
    region = _checked(scan, region)
    expected = expected_data(prior.intensity, prior.geometry, prior.record)
    conformed = conform(scan, expected.preset, expected.size)
    edge = conformed.record["working_edge"]
    centre = np.array(conformed.record["centre_mm"])
    grid = WorkingGrid(edge, expected.preset.field_of_view_mm / edge, centre)
    left = image_of((~region).astype(np.float32), scan.affine)
    share = pool_mean(resample(averaged(left, grid.spacing_mm), grid, 0.0), edge // expected.size)
    known = share[middle(expected.size, conformed.volume.shape[0])] >= _KNOWN
    if not known.any():
        raise UsageError(
            f"the region leaves nothing that {prior.name} could go by; paint less, or generate a "
            "whole volume"
        )
    seen = Volume(conformed.volume.voxels_hu.astype(np.float32), conformed.volume.affine)
    forgotten = Forgotten(scan, region, simulate(seen, mask_of(known)))
    if np.any(_on_scan(forgotten, seen)[region[forgotten.box]] == OUTSIDE):
        slab = expected.preset.slab_mm
        part = "" if slab is None else f"{slab:g} mm slab of the "
        raise UsageError(
            f"the region reaches beyond the {part}{prior.geometry.field_of_view_mm:g} mm cube "
            "around the body that the model sees; paint nearer to the middle"
        )
    return forgotten


def regenerate_steps(
    prior: Prior,
    forgotten: Forgotten,
    config: SamplingConfig = WALK,
    *,
    seed: int = 0,
    index: int = 0,
) -> Iterator[SampleStep]:
    """Walk from noise to a volume that equals the scan wherever that is known.

    Yields
    ------
    SampleStep
        On the prior's grid; see `imagined_volume` and `put_back`.

    Raises
    ------
    UsageError, MemoryLimit
        As `generate_steps`.
    """
    yield from reconstruct_steps(
        prior, forgotten.known, config, iterations=_ITERATIONS, seed=seed, index=index
    )


def regenerate(
    prior: Prior,
    scan: Volume,
    region: NDArray[Any],
    config: SamplingConfig = WALK,
    *,
    seed: int = 0,
    index: int = 0,
) -> Volume:
    """The scan with a region imagined anew, all other voxels bit for bit; see `forget`."""
    forgotten = forget(prior, scan, region)
    walk = regenerate_steps(prior, forgotten, config, seed=seed, index=index)
    (last,) = deque(walk, maxlen=1)
    imagined = imagined_volume(prior, forgotten, config, last, seed=seed, index=index)
    return put_back(forgotten, imagined)


def imagined_volume(
    prior: Prior,
    forgotten: Forgotten,
    config: SamplingConfig,
    step: SampleStep,
    *,
    seed: int,
    index: int,
) -> Volume:
    """HU volume of a step, on the prior's grid where the scan lies, with its record."""
    made = step_volume(prior, config, step, seed=seed, index=index)
    earlier = forgotten.scan.metadata
    metadata = {
        **made.metadata,
        "description": str(made.metadata["description"]).replace(
            SYNTHETIC, f"{SYNTHETIC}; region of a scan", 1
        ),
        "region": forgotten.record,
        "notes": list(earlier.get("notes", ())),
        **({"earlier_regions": _earlier(earlier)} if "region" in earlier else {}),
    }
    affine = made.affine if forgotten.known.affine is None else forgotten.known.affine
    return Volume(made.voxels_hu, affine, metadata)


def put_back(forgotten: Forgotten, imagined: Volume) -> Volume:
    """The scan with the region from a volume on the prior's grid, interpolated linearly.

    All other voxels are those of the scan, bit for bit, and so is their type.
    """
    voxels = forgotten.scan.voxels_hu.copy()
    chosen = forgotten.region[forgotten.box]
    new = _on_scan(forgotten, imagined)[chosen]
    if voxels.dtype.kind in "iu":
        limits = np.iinfo(voxels.dtype)
        new = np.rint(new).clip(limits.min, limits.max)
    voxels[forgotten.box][chosen] = new.astype(voxels.dtype)
    return Volume(voxels, forgotten.scan.affine, imagined.metadata)


def around(forgotten: Forgotten, imagined: Volume, margin: int) -> Volume:
    """What lies around the region in a volume on the prior's grid: a cube, for a picture.

    Parameters
    ----------
    margin : voxels of the prior on every side
    """
    corners = np.array([[part.start, part.stop - 1] for part in forgotten.box])[::-1]  # x, y, z
    to_prior = np.linalg.solve(imagined.affine, forgotten.scan.affine)
    ends = to_prior[:3, :3] @ corners + to_prior[:3, 3:]
    middle = np.rint(ends.mean(axis=1)).astype(int)[::-1]
    half = int(np.ceil(np.ptp(ends, axis=1).max() / 2)) + margin
    cut = tuple(
        slice(max(at - half, 0), min(at + half + 1, edge))
        for at, edge in zip(middle, imagined.shape, strict=True)
    )
    affine = imagined.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in reversed(cut)]
    return Volume(imagined.voxels_hu[cut], affine, imagined.metadata)


def _on_scan(forgotten: Forgotten, volume: Volume) -> NDArray[np.float32]:
    """A volume on the box of the region; `OUTSIDE` where it does not reach."""
    scan, box = forgotten.scan, forgotten.box
    affine = scan.affine.copy()
    z, y, x = (part.start for part in box)
    affine[:3, 3] += affine[:3, :3] @ (x, y, z)
    shape = tuple(part.stop - part.start for part in box)
    hu = volume.voxels_hu.astype(np.float32)
    return on_grid(hu, volume.affine, shape, affine, sitk.sitkLinear, OUTSIDE)


def _checked(scan: Volume, region: NDArray[Any]) -> NDArray[np.bool_]:
    if region.shape != scan.shape:
        raise UsageError(
            f"the region is painted on {by(region.shape)} voxels, the scan has "
            f"{by(scan.shape)}; paint on a layer of the scan's own grid"
        )
    painted: NDArray[np.bool_] = np.asarray(region) != 0
    if not painted.any():
        raise UsageError("nothing is painted; paint over what the model shall imagine anew")
    if painted.all():
        raise UsageError(
            "the whole scan is painted, so nothing is left to go by; leave some of it, or generate "
            "a volume"
        )
    return painted


def _earlier(metadata: Any) -> list[Any]:
    return [*metadata.get("earlier_regions", ()), metadata["region"]]


def _span(places: NDArray[np.int64]) -> slice:
    return slice(int(places[0]), int(places[-1]) + 1)
