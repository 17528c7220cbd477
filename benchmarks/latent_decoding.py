"""What the autoencoder of a model in latents loses, and the seams of decoding in windows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from prdit_core.data.volume_sets import VolumeSet
from prdit_core.metrics.fidelity import grey_fidelity
from prdit_core.models.latent.intra import split
from prdit_core.models.latent.patch_volume import PatchVolume, decoded_by_patches, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from latent import Bench, Grid
    from torch import Tensor

    Borders = Sequence[Sequence[int]]

RECONSTRUCTED, SEEN = 16, 3  # volumes of a grid


def codec_of(bench: Bench, grid: Grid) -> PatchVolume:
    codec = bench.of(grid).codec
    assert isinstance(codec, PatchVolume)
    return codec


def encoded(bench: Bench, grid: Grid, count: int) -> list[tuple[Tensor, Tensor]]:
    """Held-out phantoms in model units, and their latents."""
    volumes, prior = VolumeSet.open(bench.phantoms(grid)), bench.of(grid)
    found = []
    for number in range(min(count, len(volumes))):
        hu = volumes.read(number).voxels_hu
        x = torch.from_numpy(prior.intensity.to_model(hu))[None, None]
        found.append((x, prior.codec.encode(x)))
    return found


def reconstruction(bench: Bench) -> None:
    """Print PSNR, SSIM and seams of held-out phantoms, decoded by patches and at once."""
    print("\n| grid | decoded | PSNR, dB | SSIM | at patch borders / elsewhere | phantoms' own |")
    print("|---|---|---|---|---|---|")
    for grid in bench.grids:
        codec, pairs = codec_of(bench, grid), encoded(bench, grid, RECONSTRUCTED)
        patch = codec.module.config.patch
        borders = [range(patch, edge, patch) for edge in codec.padded((grid.edge,) * 3)]
        own = np.mean([at_borders(x, borders) for x, _ in pairs]) if any(borders) else 0.0
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "by patches": lambda z, c=codec: decoded_by_patches(c.module, c.unscaled(z)),
            "at once": codec.decode,
        }
        psnr: dict[str, float] = {}
        for name, decode in ways.items():
            found = [(x, decode(z)[:, :, : grid.edge, : grid.edge, : grid.edge]) for x, z in pairs]
            near = [grey_fidelity(x[0, 0], y[0, 0], (-1.0, 1.0)) for x, y in found]
            psnr[name] = float(np.mean([one.psnr for one in near]))
            alike = np.mean([one.ssim for one in near])
            shown = "- | -"  # a volume of one patch has none
            if any(borders):
                seam = np.mean([at_borders(y, borders) for _, y in found])
                shown = f"{seam:.2f} | {own:.2f}"
            print(f"| {grid}^3 | {name} | {psnr[name]:.2f} | {alike:.4f} | {shown} |", flush=True)
        print(f"| {grid}^3 | gain | {psnr['at once'] - psnr['by patches']:+.2f} | | | |")
    print("\nPSNR and SSIM of grey values in the class's window; the paper gains 1.56 dB.")


def seams(bench: Bench) -> None:
    """Print gradient energy where windows end by that elsewhere, of decoding in forced windows.

    What is drawn there has a ratio of its own, so that of the whole decode is the measure.
    """
    print("\n| grid | decoded | windows, voxels | at borders / elsewhere | by that of the whole |")
    print("|---|---|---|---|---|")
    grid = max(bench.grids, key=lambda one: one.edge)
    whole, latents = codec_of(bench, grid), [z for _, z in encoded(bench, grid, SEEN)]
    shape = tuple(latents[0].shape[2:])
    half = tuple(edge // 2 for edge in shape)
    ratio = whole.module.config.ratio
    forced = replace(whole, shape=None, decoder_bytes=whole.memory(half))
    window = forced.window(latents[0])
    inside = [
        sorted({*starts, *(start + part for start in starts)} - {0, edge})
        for starts, part, edge in zip(forced.starts(shape, window), window, shape, strict=True)
    ]
    blocks = [[edge] for edge in half]
    ways: dict[str, tuple[Callable[[Tensor], Tensor], list[list[int]]]] = {
        "overlapped and blended": (forced.decode, inside),
        "without overlap, as the release": (lambda z: in_blocks(whole, z, half[0]), blocks),
    }
    at_once = [replace(whole, shape=None).decode(z) for z in latents]
    for name, (decode, places) in ways.items():
        borders = [[ratio * place for place in along] for along in places]
        found = np.mean([at_borders(decode(z), borders) for z in latents])
        right = np.mean([at_borders(x, borders) for x in at_once])
        edges = " x ".join(str(ratio * edge) for edge in (window if places is inside else half))
        print(f"| {grid}^3 | at once | whole | {right:.3f} | 1 |")
        print(f"| {grid}^3 | {name} | {edges} | {found:.3f} | {found / right:.3f} |", flush=True)


def in_blocks(codec: PatchVolume, z: Tensor, edge: int) -> Tensor:
    """Decoded in windows that touch and do not overlap."""
    grid = tuple(codec.module.config.ratio * one for one in z.shape[2:])
    parts = [codec.module.decode(part) for part in split(codec.unscaled(z), edge).split(1)]
    return joined(torch.cat(parts), grid)


def at_borders(x: Tensor, borders: Borders) -> float:
    """Gradient energy across borders, by that elsewhere along the same axes."""
    inner, outer = 0.0, 0.0
    for axis, places in enumerate(borders, start=2):
        if not places:
            continue
        others = [one for one in range(5) if one != axis]
        energy = x.diff(dim=axis).square().mean(others)
        ends = torch.zeros(len(energy), dtype=torch.bool)
        ends[[place - 1 for place in places]] = True
        inner += float(energy[ends].mean())
        outer += float(energy[~ends].mean())
    return inner / outer
