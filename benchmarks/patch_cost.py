"""What a walk of the patch prior costs at the paper's sizes.

Operations are counted, seconds of a tile measured on one thread; the rest is arithmetic. The paper
says 20 minutes for a reconstruction at 256^3 on an A100 (200 steps, K = 2): what that card would
have to compute in a second is a check of the count. Memory of a look at 256^3 is that of a process
of its own, by tiles at once; the first tiles are evaluated, which reaches the peak, and the others
are zeros.

    python benchmarks/patch_cost.py [--rounds N] [--memory-only]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from memory import peak_mib, print_peak
from torch.utils.flop_counter import FlopCounterMode

from prdit_core.machine import use_threads
from prdit_core.models.contracts import Key
from prdit_core.models.families import family_of
from prdit_core.models.patch.config import PatchConfig, patch_config
from prdit_core.models.patch.denoiser import PatchDenoiser
from prdit_core.models.patch.face import patch_memory
from prdit_core.models.patch.tiles import inside, tile_starts
from prdit_core.models.patch.unet import UNet3d
from prdit_core.schedule import VPLinearSchedule

LARGE = (256, 256, 256)
AT_ONCE = (1, 4, 16)
CASES = (
    ("demo", (64, 64, 64), 20, 1),
    ("paper", (256, 256, 256), 200, 1),
    ("paper", (256, 256, 256), 200, 2),
    ("paper", (512, 512, 256), 200, 2),
)


def tiles_of(config: PatchConfig) -> float:
    """Tiles of an offset that are evaluated, in the mean over offsets along the diagonal."""
    counts = []
    for place in range(min(config.tile)):
        starts = tile_starts(config.shape, config.tile, (place, place, place))
        counts.append(sum(inside(one, config.shape, config.tile) is not None for one in starts))
    return statistics.mean(counts)


def operations(config: PatchConfig) -> int:
    """Multiplications and additions of a tile."""
    with torch.device("meta"):
        bare = family_of(config).build(config)
        seen = torch.empty(1, config.input_channels, *config.tile)
        with FlopCounterMode(display=False) as counter:
            bare(seen, torch.empty(1))
    return counter.get_total_flops()


@torch.no_grad()
def seconds(network: UNet3d, config: PatchConfig, rounds: int) -> float:
    """CPU seconds of a tile."""
    seen, t = torch.zeros(1, config.input_channels, *config.tile), torch.zeros(1)
    network(seen, t)
    begun = time.process_time()
    for _ in range(rounds):
        network(seen, t)
    return (time.process_time() - begun) / rounds


class FirstOnly(torch.nn.Module):
    """A network that evaluates its first tiles, and says zero of all others."""

    def __init__(self, network: UNet3d) -> None:
        super().__init__()
        self.network, self.config, self.calls = network, network.config, 0

    def forward(self, seen: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        output: torch.Tensor = self.network(seen, t) if self.calls == 1 else seen[:, :1] * 0
        return output


def look(at_once: int) -> None:
    """A look at 256^3 by the paper's network; print the peak in MiB. 0 tiles: none at all."""
    network = UNet3d(patch_config("paper", LARGE)).eval().requires_grad_(False)
    x = torch.randn(1, 1, *LARGE)
    if at_once:
        first = FirstOnly(network)
        PatchDenoiser(first, VPLinearSchedule(), Key(0, 0), at_once=at_once)(x, 500.0)  # type: ignore[arg-type]
    print_peak()


def memory() -> None:
    config = patch_config("paper", LARGE)
    print("| tiles at once, 256^3 | peak memory, MiB | above a bare process, MiB | expected, MiB |")
    print("|---|---|---|---|")
    bare = peak_mib(__file__, "--look", "0")
    for at_once in AT_ONCE:
        peak = peak_mib(__file__, "--look", str(at_once))
        expected = patch_memory(config, at_once)
        print(
            f"| {at_once} | {peak:.0f} | {peak - bare:.0f} | {expected / 2**20:.0f} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--look", type=int, help="tiles at once, for a process of its own")
    options = parser.parse_args()
    rounds = options.rounds
    use_threads(1)
    if options.look is not None:
        look(options.look)
        return
    memory()
    if options.memory_only:
        return
    print("| model, volume | tile | tiles a look | TFLOP a tile | s a tile | steps, K | h a walk |")
    print("|---|---|---|---|---|---|---|")
    known: dict[PatchConfig, tuple[float, float, float]] = {}
    for name, shape, steps, looks in CASES:
        config = patch_config(name, shape)
        if config not in known:
            known[config] = (
                operations(config) / 1e12,
                seconds(UNet3d(config).eval(), config, rounds),
                tiles_of(config),
            )
        teraflop, each, tiles = known[config]
        hours = each * tiles * steps * looks / 3600
        edges = " x ".join(map(str, shape))
        tile = " x ".join(map(str, config.tile))
        print(
            f"| {name}, {edges} | {tile} | {tiles:.0f} | {teraflop:.4f} | {each:.3f} | "
            f"{steps}, {looks} | {hours:.2f} |"
        )
        if (name, shape, looks) == ("paper", (256, 256, 256), 2):
            rate = teraflop * tiles * steps * looks / (20 * 60)
            print(f"the paper's 20 minutes: {rate:.0f} TFLOP/s on an A100")


if __name__ == "__main__":
    main()
