"""An invented evaluation, as evaluation.json holds one, and small volumes for its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import thorax

from prdit_core.metrics.evaluation import Evaluation
from prdit_core.metrics.protocols import PROTOCOLS
from prdit_core.metrics.wscore import CRITIC_PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.volume import Volume

EDGE = 16
SPACING_MM = 320 / EDGE
HALVES = "100 random halves, 95 %"


def measured(value: float, spread: float, how: str = HALVES) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, "how": how}


def entry(role: str, count: int, folder: str) -> dict[str, Any]:
    return {
        "path": folder,
        "count": count,
        "shape": [EDGE] * 3,
        "spacing_mm": [SPACING_MM] * 3,
        "role": role,
        "part": "train" if role == "training" else "all",
        "checkpoint_sha256": "cd" * 32 if role == "fake" else None,
    }


def curves(bias: float) -> dict[str, Any]:
    """Tissues, histogram and spectrum; `bias` 0 is real."""
    edges = np.linspace(-1000, 400, 57)
    middle = (edges[1:] + edges[:-1]) / 2
    peaks = ((-1000, 0.5, 30), (-850, 0.2, 60), (-100, 0.1, 40), (40, 0.2, 30 + 40 * bias))
    share = sum(a * np.exp(-(((middle - at) / width) ** 2)) for at, a, width in peaks)
    energy = 1e5 * 0.2 ** np.arange(5) * np.exp(-bias * np.arange(5))
    shares = {"air": 0.55, "lung": 0.2 - 0.05 * bias, "fat": 0.1, "bone": 4e-5}
    return {
        "tissues": shares,
        "tissue_intervals": {name: [0.95 * s, 1.05 * s] for name, s in shares.items()},
        "histogram": {"edges_hu": edges.tolist(), "share": (share / share.sum()).tolist()},
        "spectrum": {
            "limits_mm": [None, 160, 80, 40, 20, 0],
            "energy": energy.tolist(),
            "low": (0.8 * energy).tolist(),
            "high": (1.2 * energy).tolist(),
        },
    }


def fake(fid: float, bias: float, ms_ssim: float) -> dict[str, Any]:
    pairs = [
        {"fake": f"f{i}.nii.gz", "training": f"t{i}.nii.gz", "distance": 90.0 + 6 * i}
        for i in range(4)
    ]
    return {
        "fid": measured(fid, 0.3),
        "fid_unbiased": measured(fid - 0.5, 0.4),
        "mmd": measured(fid / 20, 0.01),
        "mmd_unbiased": measured(fid / 30 - 0.02, 0.02),
        "ms_ssim": measured(ms_ssim, 0.02, "100 random halves of 400 pairs, 95 %"),
        "nearest": {"median": measured(135.0, 9.0), "least": 90.0, "flagged": [], "pairs": pairs},
        **curves(bias),
    }


def cloud(key: int, at: tuple[float, float], count: int = 60) -> list[list[float]]:
    return (np.random.default_rng([7, key]).normal(size=(count, 2)) + at).tolist()


def ratio(mean: float) -> dict[str, float]:
    return {"mean": mean, "std": 0.06}


def convergence(*failed: str) -> dict[str, Any]:
    shares = {"change": 0.1, "gradient": 1.0, "held_out_share": 0.8}
    return {"ok": not failed, "failed": list(failed), **shares}


def typed(evaluation: dict[str, Any]) -> Evaluation:
    """As it is read from evaluation.json."""
    return Evaluation.model_validate(evaluation)


def invented(
    first: str = "base", second: str = "blurred", real: str = "held-out"
) -> dict[str, Any]:
    """Two fakes against phantoms; the first one is better, the second holds no copies."""
    return {
        "format": "prdit-evaluation",
        "version": 1,
        "notice": "generated volumes are synthetic, not for diagnosis",
        "program": "0.1.0",
        "seed": 0,
        "protocol": PROTOCOLS["recommended"].model_dump(mode="json"),
        "encoder": {
            "name": "prdit phantom encoder",
            "sha256": "ab" * 32,
            "features": 128,
            "comparable": "not comparable with the paper's FID: another network",
            "preparation": "clipped to -1000 to 400 HU, resampled to 64 voxels along each edge",
        },
        "sets": {
            real: entry("real", 200, "/data/someone/held-out"),
            first: entry("fake", 200, "/data/someone/base"),
            second: entry("fake", 64, "/data/someone/blurred"),
            "training": entry("training", 900, "/data/someone/training"),
        },
        "floor": {
            "fid": measured(1.4, 0.2, "100 splits in halves, 95 %"),
            "fid_unbiased": measured(0.1, 0.15, "100 splits in halves, 95 %"),
            "mmd": measured(0.05, 0.01, "100 splits in halves, 95 %"),
            "mmd_unbiased": measured(0.0, 0.01, "100 splits in halves, 95 %"),
        },
        "fakes": {first: fake(2.1, 0.15, 0.43), second: fake(6.8, 1.0, 0.61)},
        "real": {"ms_ssim": measured(0.41, 0.02), **curves(0)},
        "nearest_scale": {"median": measured(132.0, 8.0), "least": 87.0},
        "projection": {
            "method": "PCA",
            "explained": [0.41, 0.17],
            "points": {
                real: cloud(0, (0, 0)),
                first: cloud(1, (0.4, 0.2)),
                second: cloud(2, (3, 1)),
            },
        },
        "wscore": {
            "protocol": CRITIC_PROTOCOLS["recommended"].model_dump(mode="json"),
            "names": [first, second],
            "w1": {first: [0.21, 0.24, 0.2], second: [0.6, 0.66, None]},
            "log_ratio": [[ratio(0), ratio(1.05)], [ratio(-1.05), ratio(0)]],
            "reasons": {},
            "converged": {f"critic of {first} and {second}, seed 1": convergence()},
        },
        "warnings": ["blurred has 64 volumes; below 100 the FID is unsure"],
    }


def chest(index: int, edge: int = EDGE) -> Volume:
    return thorax.chest((edge,) * 3, 320 / edge, body=(10 * (index % 7) - 30, 0), noise=index)


def pictures(evaluation: dict[str, Any], edge: int = EDGE) -> Iterator[tuple[str, str, Volume]]:
    """Four volumes of the real set and of each fake, then the pairs."""
    index = 0
    for name, found in evaluation["sets"].items():
        for i in range(4):
            index += 1
            yield name, f"{found['role'][0]}{i}.nii.gz", chest(index, edge)
