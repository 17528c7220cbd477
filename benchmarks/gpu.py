"""What a graphics card makes of PRDiT: evaluation, volume, training iteration, transfers.

Two models, PRDiT-B/12/4 with random weights and the bundled chain, each at 64^3 and 128^3. Ways
to evaluate: float32, float32 products in TF32, bf16, both compiled (at the largest size alone, for
it takes longest), both recorded as a CUDA graph, and a plain transcription of the formulas
with an explicit softmax. A way that fails says why and the others go on. Ceiling: products of an
evaluation per second, as a share of those of one large product in the same precision. Error:
largest difference to float32, as a share of its largest value.

Needs no network and no data. Writes `gpu.md` and `gpu.json`; with `--device cpu --quick` it tries
itself in seconds.

    python benchmarks/gpu.py [--device cuda] [--sizes 64 128] [--out DIR] [--quick]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.utils.benchmark import Timer

sys.path.insert(0, str(Path(__file__).parent))
from reference.plain import forward as plain

import prdit_core
from prdit_core.machine import choose_device, devices, package_version
from prdit_core.models.prdit.network import PRDiT, initialise
from prdit_core.models.prdit.zoo import model_config
from prdit_core.prdit_config import ModelConfig
from prdit_core.schedule import CosineSchedule
from prdit_core.training.batches import Batch
from prdit_core.training.engine import launch
from prdit_core.training.families.prdit.network import prepare
from prdit_core.training.families.prdit.recipe import task_of
from prdit_core.training.families.prdit.stages import PRDIT_STAGES
from prdit_core.training.loop import Trainer
from prdit_core.training.rate import Rate
from prdit_core.verbs.bench import gflop

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

STEPS = 20
TINY = ModelConfig(patch=4, stride=2, padding=1, width=24, depth=1, heads=2)


@dataclass(frozen=True)
class Way:
    """A way to evaluate a network."""

    name: str
    bf16: bool = False
    tf32: bool = False
    compiled: bool = False
    graph: bool = False
    transcribed: bool = False


WAYS = (
    Way("float32"),
    Way("float32, plain transcription", transcribed=True),
    Way("TF32", tf32=True),
    Way("bf16", bf16=True),
    Way("float32, compiled", compiled=True),
    Way("bf16, compiled", bf16=True, compiled=True),
    Way("float32, CUDA graph", graph=True),
    Way("bf16, CUDA graph", bf16=True, graph=True),
)


@dataclass(frozen=True)
class Bench:
    """Where and how long is measured."""

    device: str
    least_seconds: float
    edge: int  # of the product that is the ceiling

    def seconds(self, work: Callable[[], object]) -> float:
        """Median of repeated calls after one that is not counted; a device has then done them."""
        timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
        timer.timeit(1)
        return float(timer.blocked_autorange(min_run_time=self.least_seconds).median)

    def finished(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def peak(self) -> float | None:
        """GiB at most since the last call; None on a CPU."""
        if not self.device.startswith("cuda"):
            return None
        most = torch.cuda.max_memory_allocated(self.device) / 2**30
        torch.cuda.reset_peak_memory_stats(self.device)
        return most

    def autocast(self, bf16: bool) -> torch.autocast:
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=bf16)

    @torch.no_grad()
    def ceiling(self, way: Way) -> float:
        """Products per second, in 10^9 operations."""
        kind = torch.bfloat16 if way.bf16 else torch.float32
        a, b = (torch.randn(self.edge, self.edge, device=self.device).to(kind) for _ in "ab")
        with precision(way):
            return 2e-9 * self.edge**3 / self.seconds(lambda: a @ b)


class precision:
    """float32 products in TF32, or not."""

    def __init__(self, way: Way) -> None:
        self.level = "high" if way.tf32 else "highest"

    def __enter__(self) -> None:
        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.level)

    def __exit__(self, *_: object) -> None:
        torch.set_float32_matmul_precision(self.before)


def evaluation(bench: Bench, network: PRDiT, x: Tensor, way: Way) -> Callable[[], Tensor]:
    """One evaluation in a way, ready to be called."""
    t = torch.full((1,), 500.0, device=x.device)
    call: Callable[[Tensor, Tensor], Tensor] = network
    if way.transcribed:
        if network.config.refiners:
            raise RuntimeError("the transcription knows no refiners")
        call = lambda x, t: plain(network, x, t)  # noqa: E731
    if way.compiled:
        call = torch.compile(network, dynamic=False)

    def run() -> Tensor:
        with bench.autocast(way.bf16):
            return call(x, t)

    if not way.graph:
        return run
    if not bench.device.startswith("cuda"):
        raise RuntimeError("needs CUDA")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


@torch.no_grad()
def evaluations(
    bench: Bench, name: str, network: PRDiT, size: int, ways: tuple[Way, ...]
) -> list[dict[str, object]]:
    """A row for each way."""
    x = torch.randn(1, 1, size, size, size, device=bench.device) * 0.5
    work = gflop(network.config, (size,) * 3)
    rows: list[dict[str, object]] = []
    reference: Tensor | None = None
    for way in ways:
        row: dict[str, object] = {"model": name, "size": size, "way": way.name}
        rows.append(row)
        try:
            bench.peak()
            with precision(way):
                begun = time.perf_counter()
                run = evaluation(bench, network, x, way)
                out = run().float()
                bench.finished()
                row["first, s"] = time.perf_counter() - begun
                reference = out.clone() if reference is None else reference
                row["error"] = float((out - reference).abs().max() / reference.abs().max())
                row["evaluation, ms"] = 1e3 * (seconds := bench.seconds(run))
            row["ceiling"] = work / seconds / bench.ceiling(way)
            row["GiB"] = bench.peak()
        except Exception as error:  # of a compiler or driver; the other ways go on
            row["failed"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"
    return rows


def volumes(bench: Bench, prior: prdit_core.Prior) -> list[dict[str, object]]:
    """A volume of the bundled chain from noise to HU, in both precisions."""
    rows = []
    for kind in ("32-true", "bf16-mixed"):
        config = prdit_core.SamplingConfig(steps=STEPS, precision=kind)
        bench.peak()
        prdit_core.generate(prior, config, seed=0)
        begun = time.perf_counter()
        prdit_core.generate(prior, config, seed=1)
        seconds = time.perf_counter() - begun
        size = prior.geometry.shape[0]
        rows.append({"size": size, "precision": kind, "volume, s": seconds, "GiB": bench.peak()})
    return rows


def iterations(bench: Bench, name: str, config: ModelConfig, size: int) -> list[dict[str, object]]:
    """A training iteration of the top stage of a network, one volume, in both precisions."""
    stage = PRDIT_STAGES["refine" if config.refiners else "global"]
    rows: list[dict[str, object]] = []
    for kind in ("32-true", "bf16-mixed"):
        row: dict[str, object] = {"model": name, "size": size, "precision": kind}
        rows.append(row)
        try:
            bench.peak()
            trainer = Trainer(
                task_of(prepare(config, stage, 0, None), CosineSchedule(noise_std=0.5)),
                launch(bench.device, kind, "ddp"),
                rate=Rate("constant", 1e-4, 1),
                clip=1.0,
                decay=0.9999,
                micro_batch=1,
            )
            batch = one_volume(size)
            row["iteration, ms"] = 1e3 * bench.seconds(lambda: trainer.advance(batch))  # noqa: B023
            row["GiB"] = bench.peak()
        except Exception as error:
            row["failed"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"
    return rows


def one_volume(size: int) -> Batch:
    stream = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1, 1, size, size, size, generator=stream) for _ in "xn")
    return Batch(x0.clamp(-1, 1), noise, torch.tensor([500.0]), ("noise",), 0, (0,))


def transfers(bench: Bench, size: int) -> list[dict[str, object]]:
    """The preview's way to the host, a volume in float32, through pageable and pinned memory."""
    x = torch.zeros(1, 1, size, size, size, device=bench.device)
    ways = {"pageable": lambda: x.cpu()}
    if bench.device.startswith("cuda"):
        host = torch.empty(x.shape, pin_memory=True)
        ways["pinned"] = lambda: host.copy_(x, non_blocking=True)
    found = {name: bench.seconds(way) for name, way in ways.items()}
    return [
        {"size": size, "memory": name, "ms": 1e3 * s, "GB/s": 1e-9 * 4 * size**3 / s}
        for name, s in found.items()
    ]


def table(rows: list[dict[str, object]]) -> str:
    """Rows as Markdown, columns in the order in which they first come."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(cell(row.get(name)) for name in names) + " |")
    return "\n".join(lines)


def cell(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def random_weights(config: ModelConfig, device: str) -> PRDiT:
    """A network none of whose weights is zero."""
    network = PRDiT(config)
    initialise(network, 0)
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=stream)
    return network.requires_grad_(False).eval().to(device)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--out", type=Path, default=Path("work/gpu"))
    parser.add_argument("--quick", action="store_true", help="tiny networks, to try the script")
    options = parser.parse_args()
    device = choose_device(options.device)
    large = model_config("PRDiT-B/12/4")
    bench = Bench(device, 0.3, 8192)
    name = "PRDiT-B/12/4"
    if options.quick:
        large, name, bench = TINY, "tiny", Bench(device, 0.01, 256)
    card = next(entry["description"] for entry in devices() if entry["device"] == device)
    where = f"{card}, torch {torch.__version__}, napari-prdit {package_version()}"
    print(where, flush=True)
    found: dict[str, list[dict[str, object]]] = {"ways": [], "volumes": [], "training": []}
    found["transfers"] = []
    network = random_weights(large, device)
    for size in options.sizes:
        chain = prdit_core.load("demo", device=device).at_size(size)
        last = size == max(options.sizes) and not options.quick
        ways = tuple(way for way in WAYS if last or not way.compiled)
        found["ways"] += evaluations(bench, name, network, size, ways)
        found["ways"] += evaluations(bench, "bundled", chain.network.module, size, ways)
        found["volumes"] += volumes(bench, chain)
        found["training"] += iterations(bench, name, large, size)
        found["training"] += iterations(bench, "bundled", chain.network.config, size)
        found["transfers"] += transfers(bench, size)
    options.out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([where, *(f"## {part}\n\n{table(rows)}" for part, rows in found.items())])
    (options.out / "gpu.md").write_text(text + "\n")
    (options.out / "gpu.json").write_text(json.dumps({"where": where, **found}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
