"""What an MR scanner shows of a phantom's tissues: spin echoes with a smooth bias and Rician noise.

Signal of a spin echo: proton density x (1 - exp(-TR / T1)) x exp(-TE / T2). Densities and times
are of the order that textbooks give for 1.5 T; nothing is measured. Cortical bone, teeth and air
hardly give any, and blood that flows has left before its echo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prdit_core.noise import Draw, numpy_generator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Signal = NDArray[np.float32]

UNIT = 1000.0  # of the signal of free water that has fully recovered
_SPREAD = 0.05  # of a patient's densities and times about those below


class Tissue(NamedTuple):
    """Proton density (water: 1), T1 and T2 in ms."""

    density: float
    t1_ms: float
    t2_ms: float


NOTHING, BONE = Tissue(0.0, 1.0, 1.0), Tissue(0.05, 800, 4)
FLUID, FAT, MUSCLE = Tissue(1.0, 3800, 1800), Tissue(0.95, 280, 85), Tissue(0.80, 950, 45)
TISSUES: dict[str, Tissue] = {
    "air": NOTHING,
    "holder": NOTHING,
    "skin": Tissue(0.70, 500, 50),
    "scalp": Tissue(0.85, 380, 65),
    "fat": FAT,
    "muscle": MUSCLE,
    "skull": BONE,
    "diploe": Tissue(0.60, 420, 60),
    "mandible": BONE,
    "teeth": Tissue(0.02, 800, 3),
    "spine": BONE,
    "marrow": Tissue(0.75, 400, 65),
    "csf": FLUID,
    "grey_matter": Tissue(0.84, 1050, 98),
    "white_matter": Tissue(0.72, 660, 80),
    "cerebellum": Tissue(0.82, 950, 92),
    "brainstem": Tissue(0.76, 760, 84),
    "ventricles": FLUID,
    "calcification": BONE,
    "sinuses": NOTHING,
    "airway": NOTHING,
    "eyes": Tissue(1.0, 3600, 1500),
    "lens": Tissue(0.60, 1100, 35),
    "optic_nerve": Tissue(0.75, 800, 80),
    "vessels": Tissue(0.12, 1300, 150),
}


@dataclass(frozen=True)
class Echo:
    """Ranges of the repetition time and the echo time, in ms."""

    tr_ms: tuple[float, float]
    te_ms: tuple[float, float]


SEQUENCES: dict[str, Echo] = {
    "t1": Echo((450, 650), (9, 14)),
    "t2": Echo((3800, 5500), (90, 115)),
}


def mr_scan(
    labels: NDArray[np.uint8],
    names: Mapping[str, int],
    sequence: str,
    *,
    seed: int,
    index: int,
    spacing_mm: float,
) -> NDArray[np.int16]:
    """The magnitude image of a phantom in arbitrary units.

    The patient's tissues are the same in all sequences; times, bias and noise are the scan's.

    Parameters
    ----------
    labels : (D, H, W)
    names : label name to number; each has a row in `TISSUES`
    sequence : a name of `SEQUENCES`
    spacing_mm : edge of the voxels, by whose volume the noise falls

    Returns
    -------
    signal : (D, H, W), of the order of `UNIT` where there is most, not negative
    """
    own = numpy_generator(Draw.TISSUES, seed, index)
    number = list(SEQUENCES).index(sequence)
    rng = numpy_generator(Draw.ECHO, seed, index, number)
    times = SEQUENCES[sequence]
    tr_ms, te_ms = rng.uniform(*times.tr_ms), rng.uniform(*times.te_ms)
    table = np.zeros(max(names.values()) + 1, np.float32)
    for name, label in names.items():
        factors = np.exp(_SPREAD * own.standard_normal(3))
        table[label] = echo(Tissue(*(TISSUES[name] * factors)), tr_ms, te_ms)
    clean = _blurred(table[labels]) * _bias(labels.shape, rng) * np.float32(UNIT)
    share = rng.uniform(0.015, 0.05) * (2 / spacing_mm) ** 1.5
    noise = np.float32(UNIT * table[names["white_matter"]] * share)
    parts = (rng.standard_normal(labels.shape, np.float32) * noise for _ in range(2))
    magnitude = np.hypot(clean + next(parts), next(parts))
    return np.asarray(np.clip(np.rint(magnitude), 0, 32767), np.int16)


def echo(tissue: Tissue, tr_ms: float, te_ms: float) -> float:
    """Signal of a spin echo, as a share of that of water that has fully recovered."""
    recovered = 1 - np.exp(-tr_ms / tissue.t1_ms)
    return float(tissue.density * recovered * np.exp(-te_ms / tissue.t2_ms))


def _blurred(signal: Signal) -> Signal:
    """Neighbouring voxels share what lies between them, as the labels cannot say."""
    for axis in range(3):
        beside = np.roll(signal, 1, axis) + np.roll(signal, -1, axis)
        signal = np.float32(0.5) * signal + np.float32(0.25) * beside
    return signal


def _bias(shape: tuple[int, ...], rng: np.random.Generator) -> Signal:
    """The coil's sensitivity: smooth, about 1, mostly within 25 %."""
    axes = [np.linspace(-1, 1, edge, dtype=np.float32) for edge in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    c = rng.normal(0, 0.09, 9).astype(np.float32)
    slope = c[0] * z + c[1] * y + c[2] * x
    bend = c[3] * z * z + c[4] * y * y + c[5] * x * x + c[6] * z * y + c[7] * z * x + c[8] * y * x
    return np.asarray(np.exp(slope + bend), np.float32)
