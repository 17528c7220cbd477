"""What every output carries: how it was made, and that it is no patient."""

from __future__ import annotations

from typing import Any

SYNTHETIC = "synthetic, not for diagnosis"
DERIVED = "derived from a scan by a model, not for diagnosis"


def stamp(
    *,
    seed: int,
    index: int,
    sampler: str,
    grid: str,
    steps: int,
    k: float,
    checkpoint: str,
    checkpoint_sha256: str,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Metadata of a generated volume; equal settings give equal metadata."""
    from prdit_core.machine import package_version

    return {
        "notice": SYNTHETIC,
        "description": f"{SYNTHETIC}; PRDiT {checkpoint_sha256[:8]} seed {seed} index {index}",
        "seed": seed,
        "index": index,
        "sampler": sampler,
        "grid": grid,
        "steps": steps,
        "k": k,
        "checkpoint": checkpoint,
        "checkpoint_sha256": checkpoint_sha256,
        "device": device,
        "threads": threads,
        "version": package_version(),
        "torch": torch_version(),
    }


def torch_version() -> str:
    """Version of torch without importing it."""
    from importlib.metadata import version

    return version("torch")
