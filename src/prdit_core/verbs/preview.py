"""A picture of what a training run has learnt so far."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.noise import Draw, unit_noise
from prdit_core.pictures import Panel, save_picture
from prdit_core.provenance import SYNTHETIC
from prdit_core.training.objective import add_noise
from prdit_core.verbs.generate import generate_steps

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from prdit_core.data.datasets import PreparedData
    from prdit_core.models.codec import Codec
    from prdit_core.models.prior import Prior

T_SHOWN = 600.0


def preview(
    prior: Prior,
    example: NDArray[np.float32],
    caption: str,
    labels: NDArray[np.uint8] | None = None,
    *,
    seed: int,
    path: Path,
) -> Path:
    """Write four rows: a volume, its noisy state, its predicted x0, and a generated volume.

    A sum of parts with a refiner gets one more: what lies below it predicts, upsampled. So does a
    model under a condition: the label map.

    Parameters
    ----------
    example : a clean state (C, D, H, W) that is shown, called `caption`
    labels : (D, H, W) that the prior is under; None: nothing
    """
    schedule, codec = prior.schedule, prior.codec
    x0 = torch.from_numpy(example)[None].to(prior.device)
    noise = unit_noise(prior.shape, Draw.PREVIEW, seed).to(prior.device) * schedule.noise_std
    x_t = add_noise(schedule, x0, noise, torch.tensor([T_SHOWN]))
    total, rough = _seen(prior, x_t)
    (last,) = deque(generate_steps(prior, seed=seed), maxlen=1)
    rows = [
        (caption, codec.decode(x0)),
        (f"with noise, t = {T_SHOWN:g}", codec.preview(x_t)),
        *(("x0 predicted by the base, upsampled", x0) for x0 in rough),
        ("its predicted x0", codec.decode(total)),
        (f"generated, {last.total} steps ({SYNTHETIC})", codec.decode(last.x0)),
    ]
    panels = [
        Panel(x[0, 0].cpu().numpy(), prior.geometry.spacing_mm, prior.intensity.model_range, text)
        for text, x in rows
    ]
    if labels is not None:
        window = (0.0, float(len(prior.labels)))
        shown = labels.astype(np.float32)
        panels.insert(1, Panel(shown, prior.geometry.spacing_mm, window, "its labels, from 0"))
    return save_picture(panels, path, prior.name)


def preview_codec(
    codec: Codec,
    example: NDArray[np.float32],
    data: PreparedData,
    caption: str,
    *,
    device: torch.device,
    name: str,
    path: Path,
) -> Path:
    """Write four rows: a volume, what is decoded of it, how they differ, and the live view.

    Parameters
    ----------
    example : a volume (C, D, H, W) that is shown, called `caption`
    data : what it is of
    device : where the codec is
    """
    window = low, high = data.intensity.model_range
    x = torch.from_numpy(example)[None].to(device)
    z = codec.encode(x)
    decoded = codec.decode(z)
    error = float((decoded - x).square().mean().sqrt())
    decibel = 20 * math.log10((high - low) / max(error, 1e-9))
    tenth = (high - low) / 10
    rows = [
        (caption, x, window, "grey"),
        (f"decoded, PSNR {decibel:.1f} dB ({SYNTHETIC})", decoded, window, "grey"),
        (f"difference, from {-tenth:g} to {tenth:g}", decoded - x, (-tenth, tenth), "signed"),
        ("live view: latents, linearly", codec.preview(z), window, "grey"),
    ]
    spacing_mm = data.geometry.spacing_mm
    panels = [
        Panel(shown[0, 0].cpu().numpy(), spacing_mm, limits, text, palette)
        for text, shown, limits, palette in rows
    ]
    return save_picture(panels, path, name)


def _seen(prior: Prior, x_t: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Clean volume that is predicted, and without what a refiner adds to it where there is one."""
    if prior.parts is None or len(prior.sizes) == 1:
        return prior.denoise(x_t, T_SHOWN).x0, []
    decomposition = prior.decompose(x_t, T_SHOWN)
    rough = (
        [] if decomposition.refiner is None else [decomposition.total.x0 - decomposition.refiner.x0]
    )
    return decomposition.total.x0, rough
