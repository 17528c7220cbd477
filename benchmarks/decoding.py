"""Measure what decoding one volume takes, whole or in windows, with the published autoencoder.

Random weights, which take as long and as much memory as trained ones. One process decodes once; its
peak is measured by the operating system and has all in it, torch too.

    python benchmarks/decoding.py                 # 256^3 within the default budget of the decoder
    python benchmarks/decoding.py --edge 64 --ratio 4 --gib 0.2
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from prdit_core.models.latent.autoencoder import Autoencoder
from prdit_core.models.latent.config import AutoencoderConfig
from prdit_core.models.latent.patch_volume import DECODER_BYTES, PatchVolume

GIB = 2**30


def main() -> None:
    """Print one row of the table in docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=256, help="voxels along each edge")
    parser.add_argument("--ratio", type=int, choices=(4, 8), default=8)
    parser.add_argument("--gib", type=float, default=DECODER_BYTES / GIB, help="of the decoder")
    wish = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = Autoencoder(AutoencoderConfig(ratio=wish.ratio)).eval().requires_grad_(False)
    torch.nn.init.normal_(module.quantiser.embeddings)
    codec = PatchVolume(module, int(wish.gib * GIB))
    edge = wish.edge // wish.ratio
    z = torch.randn(1, 8, edge, edge, edge)
    window = " x ".join(str(wish.ratio * one) for one in codec.window(z))
    before, begun, worked = peak(), time.perf_counter(), time.process_time()
    codec.decode(z)
    seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    whole = codec.memory((edge, edge, edge)) / GIB
    print(
        f"| {wish.ratio}x, {wish.edge}^3 | {window} | "
        f"{peak():.2f} | {before:.2f} | {whole:.1f} | {worked:.0f} | {seconds:.0f} |",
        flush=True,
    )


def peak() -> float:
    """Most memory of this process until now, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


if __name__ == "__main__":
    main()
