"""Time projectors against scikit-image, and CG and reconstructions against the bundled prior.

One thread, side by side in this process, in turn; CPU seconds are medians, ratios are of them.
scikit-image takes one slice at a time; it is timed on some of the slices and counted for all.

    python benchmarks/operators.py [--repeats N] [--edge N] [--views N ...]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.transform import iradon, radon

import prdit_core
from prdit_core.data.phantoms import make_phantom
from prdit_core.inverse.cg import cg
from prdit_core.inverse.fbp import fbp
from prdit_core.inverse.operators.cone import ConeSpec
from prdit_core.inverse.operators.parallel import ParallelSpec
from prdit_core.inverse.operators.projector import spread_angles
from prdit_core.inverse.operators.table import build
from prdit_core.inverse.scanners import parallel_scan
from prdit_core.machine import use_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SPACING_MM = (5.0, 5.0, 5.0)
# Slices that scikit-image is timed on.
TIMED = 8


def discs(edge: int) -> torch.Tensor:
    """A volume in [0, 1], (1, 1, D, H, W), nothing outside of the inscribed circle."""
    places = np.linspace(-1, 1, edge)
    y, x = places[:, None], places[None]
    image = 0.5 * (np.hypot(x, y) < 0.9) + 0.3 * (np.hypot(x - 0.3, y + 0.2) < 0.3)
    return torch.from_numpy(np.repeat(image[None], edge, 0)).float()[None, None]


def seconds(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of every way; they take turns, and the first turn is not counted."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, run in ways.items():
            begun = time.thread_time()  # what runs beside does not count
            run()
            spent[name].append(time.thread_time() - begun)
    return {name: statistics.median(found[1:]) for name, found in spent.items()}


def compare(edge: int, views: int, repeats: int) -> None:
    angles = spread_angles(views)
    spec = ParallelSpec(
        shape=(edge,) * 3, spacing_mm=SPACING_MM, angles_deg=angles, bins=edge, bin_mm=SPACING_MM[2]
    )
    begun = time.perf_counter()
    operator = build(spec)
    built = time.perf_counter() - begun
    x = discs(edge)
    y = operator(x)
    images, sinograms = x[0, 0, :TIMED].numpy(), y[0, 0, :TIMED].numpy()
    median = seconds(
        {
            "forward": lambda: operator(x),
            "adjoint": lambda: operator.adjoint(y),
            "radon": lambda: [radon(image, angles, circle=True) for image in images],
            "fbp": lambda: fbp(operator, y),
            "iradon": lambda: [iradon(s.T, angles, filter_name="ramp") for s in sinograms],
        },
        repeats,
    )
    share = edge / TIMED
    print(
        f"| {edge} slices of {edge}^2, {views} views | {1e3 * built:.1f} "
        f"| {1e3 * median['forward']:.2f} | {1e3 * median['adjoint']:.2f} "
        f"| {share * median['radon'] / median['forward']:.0f} "
        f"| {1e3 * median['fbp']:.2f} | {share * median['iradon'] / median['fbp']:.1f} |",
        flush=True,
    )


def against_the_prior(views: int, repeats: int) -> None:
    """Five steps of CG at 64^3, in parallel and in cone beam, against one evaluation."""
    prior = prdit_core.load("demo").at_size(64)
    shape, spacing = prior.geometry.shape, prior.geometry.spacing_mm
    parallel = build(
        ParallelSpec(
            shape=shape,
            spacing_mm=spacing,
            angles_deg=spread_angles(views),
            bins=92,
            bin_mm=spacing[2],
        )
    )
    cone = build(
        ConeSpec(
            shape=shape,
            spacing_mm=spacing,
            angles_deg=spread_angles(views, 360),
            bins=96,
            bin_mm=7.0,
            rows=96,
            row_mm=7.0,
            source_axis_mm=700,
            source_detector_mm=1000,
        )
    )
    x = discs(64)
    measured = {name: (op, op(x)) for name, op in (("parallel", parallel), ("cone", cone))}
    start = torch.zeros_like(x)
    ways: dict[str, Callable[[], object]] = {
        name: (lambda op=op, y=y: cg(op, y, start, iterations=5))
        for name, (op, y) in measured.items()
    }
    median = seconds({"evaluation": lambda: prior.denoise(x, 500.0), **ways}, repeats)
    for name in ways:
        print(
            f"| {name}, 64^3, {views} views | {1e3 * median[name]:.0f} "
            f"| {median[name] / median['evaluation']:.2f} |",
            flush=True,
        )


def whole(views: int) -> None:
    """Seconds of a reconstruction of 20 steps with the bundled prior, and of the last step."""
    prior = prdit_core.load("demo").at_size(64)
    fine = make_phantom(5, 19, spacing_mm=2.5).volume
    spec = parallel_scan(prior.geometry.shape, prior.geometry.spacing_mm, views)
    measurement = prdit_core.simulate(fine, spec, photons=1e5)
    for name, last_step in (("walk", "none"), ("walk and last step", "tv")):
        begun, spent = time.perf_counter(), time.process_time()
        prdit_core.reconstruct(prior, measurement, last_step=last_step)
        wall, cpu = time.perf_counter() - begun, time.process_time() - spent
        print(f"| {name}, 64^3, {views} views, 20 steps | {wall:.1f} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--views", type=int, nargs="+", default=[20, 60, 180])
    options = parser.parse_args()
    print(f"{use_threads(1)} thread, torch {torch.__version__}")
    print("| parallel beam | built, ms | A, ms | A*, ms | radon / A | FBP, ms | iradon / FBP |")
    print("|---" * 7 + "|")
    for number in options.views:
        compare(options.edge, number, options.repeats)
    print("\n| five steps of CG | ms | of an evaluation |")
    print("|---" * 3 + "|")
    against_the_prior(options.views[0], options.repeats)
    print("\n| reconstruction | s | CPU s |")
    print("|---" * 3 + "|")
    whole(options.views[0])
