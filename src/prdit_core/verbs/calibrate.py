"""Measure how wrong a network's clean volume is at every t, on volumes it has not seen."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.data.resampling import pool_mean
from prdit_core.errors import InputRejected, NumericalError
from prdit_core.files import shown
from prdit_core.inverse.calibration import Calibration, ErrorTable
from prdit_core.machine import check_memory, package_version
from prdit_core.noise import Draw, unit_noise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from prdit_core.data.datasets import Case, PreparedData
    from prdit_core.models.prior import Prior

# Closer where the error falls fastest, towards t = 0.
TIMES = (5.0, 20.0, 50.0, *(100.0 * n for n in range(1, 10)), 950.0, 980.0, 999.0)
VOLUMES = 16


@dataclass(frozen=True)
class CalibrationStep:
    """One volume was measured.

    Attributes
    ----------
    index, total : its number from 0, and how many there are
    calibration : of all volumes so far
    """

    index: int
    total: int
    calibration: Calibration


def calibrate_steps(
    prior: Prior, data: PreparedData, *, count: int = VOLUMES, seed: int = 0
) -> Iterator[CalibrationStep]:
    """Measure the error of x0, one event for each volume; the last holds the result.

    At every resolution of a chain up to that of the data, which are averaged for the lower ones.

    Parameters
    ----------
    prior : at its full resolution
    data : prepared as the prior's own; where it is what the prior was trained on, its held-out
        cases are taken
    count : of the volumes, at most; the first by id
    seed : of the noise

    Yields
    ------
    CalibrationStep

    Raises
    ------
    InputRejected
        If the data are of another size, spacing or window than the prior's, or none is held out.
    MemoryLimit
        If an evaluation does not fit.
    NumericalError
        If an error is not finite.
    """
    prior.check_hu()
    cases = held_out(prior, data)[:count]
    priors = [prior.at_size(size) for size in prior.sizes if size <= data.geometry.shape[0]]
    check_memory(priors[-1].memory, str(prior.device), f"volumes of edge {data.geometry.shape[0]}")
    squares = torch.zeros(len(priors), len(TIMES), dtype=torch.float64)
    for number, case in enumerate(cases):
        hu = data.checked(case)
        for row, own in enumerate(priors):
            squares[row] += _squares(own, hu, seed, number)
        if not bool(squares.isfinite().all()):
            raise NumericalError(f"the prediction for case {case.id} is not finite")
        errors = (squares / (number + 1)).sqrt()
        tables = tuple(
            ErrorTable(
                size=own.geometry.shape[0],
                times=TIMES,
                errors=tuple(float(f"{error:.5g}") for error in row),
                volumes=number + 1,
                data_sha256=data.digest,
                seed=seed,
            )
            for own, row in zip(priors, errors.tolist(), strict=True)
        )
        made = f"napari-prdit {package_version()}"
        calibration = Calibration(made_with=made, checkpoint_sha256=prior.digest, tables=tables)
        yield CalibrationStep(number, len(cases), calibration)


def calibrate(
    prior: Prior, data: PreparedData, *, count: int = VOLUMES, seed: int = 0
) -> Calibration:
    """The error of a prior's x0; see `calibrate_steps`."""
    (last,) = deque(calibrate_steps(prior, data, count=count, seed=seed), maxlen=1)
    return last.calibration


def held_out(prior: Prior, data: PreparedData) -> Sequence[Case]:
    """Cases that the prior has not seen, in its own units and on one of its grids.

    Raises
    ------
    InputRejected
        If there are none.
    """
    size, where = data.geometry.shape[0], shown(data.folder)
    if size not in prior.sizes:
        made = ", ".join(map(str, prior.sizes))
        raise InputRejected(f"{where} holds volumes of edge {size}, {prior.name} makes {made}")
    spacing = prior.at_size(size).geometry.spacing_mm
    if data.intensity.window_hu != prior.intensity.window_hu or not np.allclose(
        data.geometry.spacing_mm, spacing, rtol=1e-3
    ):
        raise InputRejected(
            f"{where} was prepared with another window or field of view than {prior.name}; prepare "
            "it with preprocess --like that model"
        )
    trained = prior.record.get("training", {}).get("data_sha256") == data.digest
    cases = data.validation if trained else data.cases
    if not cases:
        raise InputRejected(f"{prior.name} was trained on all of {where}; take other volumes")
    return sorted(cases, key=lambda case: case.id)


def _squares(prior: Prior, hu: NDArray[np.int16], seed: int, number: int) -> torch.Tensor:
    """Mean squared error of one volume at every time, float64."""
    x = prior.intensity.to_model(hu)
    x = pool_mean(x, len(x) // prior.geometry.shape[0])
    x0 = torch.from_numpy(x)[None, None].to(prior.device)
    state, schedule = prior.codec.encode(x0), prior.schedule
    squares: list[float] = []
    for t in TIMES:
        noise = unit_noise(prior.shape, Draw.CALIBRATION, seed, number, len(squares))
        eps = noise.to(state) * schedule.noise_std
        x_t = schedule.alpha(t) * state + schedule.sigma(t) * eps
        off = prior.codec.decode(prior.denoise(x_t, t).x0) - x0
        squares.append(float(off.double().square().mean()))
    return torch.tensor(squares, dtype=torch.float64)
