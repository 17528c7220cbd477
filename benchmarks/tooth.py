"""Reconstruct a measured tooth from 21 of its 181 views, and draw docs/images/tooth.png.

The reference is the filtered backprojection of all views: itself a reconstruction, no truth.
The data are of TomoPy (UChicago Argonne LLC), see ../shared/data/ct-measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import matplotlib.pyplot as plt
import torch
import typer

from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.operators.projector import Projector
from prdit_core.inverse.operators.table import build
from prdit_core.inverse.scans import RawOptions, open_measurement
from prdit_core.inverse.sirt import sirt_steps
from prdit_core.inverse.tuning import usual_strength
from prdit_core.inverse.tv import tv_steps

if TYPE_CHECKING:
    from prdit_core.inverse.measurement import Measurement

ROOT = Path(__file__).resolve().parents[1]
TOOTH = ROOT.parent / "shared/data/ct-measured/tooth.h5"
EVERY, BINNING = 9, 4


def projector_of(scan: Measurement) -> Projector:
    operator = build(scan.spec)
    assert isinstance(operator, Projector)
    return operator


def main(tooth: Path = TOOTH, out: Path = ROOT / "docs/images/tooth.png") -> None:
    all_views = open_measurement(tooth, RawOptions(rows=(0, 1), binning=BINNING))
    few = open_measurement(tooth, RawOptions(rows=(0, 1), binning=BINNING, every=EVERY))
    full = fbp(projector_of(all_views), all_views.tensor())
    operator, y = projector_of(few), few.tensor()
    nothing, strength = torch.zeros_like(full), usual_strength(operator, y)
    *_, sirt = sirt_steps(operator, y, nothing, iterations=60)
    *_, tv = tv_steps(operator, y, nothing, strength=strength, iterations=50)
    views = operator.geometry.views
    panels = {f"FBP, {all_views.values.shape[1]} views (reference)": full}
    for name, x in (("FBP", fbp(operator, y)), ("SIRT", sirt.x), ("TV", tv.x)):
        error = ((x - full) / full.max()).square().mean()
        decibels = float(-10 * torch.log10(error))
        print(f"{name:5} {views} views {decibels:5.1f} dB")
        panels[f"{name}, {views} views: {decibels:.1f} dB"] = x
    matplotlib.use("Agg")
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 3.4), layout="constrained")
    for axis, (title, x) in zip(axes, panels.items(), strict=True):
        axis.imshow(x[0, 0, 0], cmap="gray", vmin=0, vmax=float(full.max()))
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    typer.run(main)
