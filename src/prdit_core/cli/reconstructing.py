"""`prdit-core reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prdit_core.cli.console import Json, door, progress, refuse_unheeded, result, say, stoppable
from prdit_core.cli.options import Device, Threads, takes, walk_options
from prdit_core.cli.reading import reads_projections
from prdit_core.cli.reconstruction_summary import FILES, lines_of, report_of, write_summary
from prdit_core.config import CouplingName, LastStepName
from prdit_core.errors import UsageError
from prdit_core.files import shown
from prdit_core.presets import paper_reconstruction

if TYPE_CHECKING:
    from prdit_core.inverse.scans import RawOptions
    from prdit_core.models.prior import Prior
    from prdit_core.verbs.ways import Way

Method = Literal["prior", "fbp", "zero-filling", "sirt", "tv", "cg"]
WALK = walk_options(
    ("steps", "sampler", "k", "grid", "eta", "renoise"),
    {
        "steps": "Network evaluations. [20]",
        "sampler": "How it walks from noise to a volume. [increment]",
        "k": "1 is cold, 2 to 3 is hot. [2]",
        "grid": "Times visited. [log-snr]",
    },
)
# Which methods an option is for.
FOR: dict[str, tuple[Method, ...]] = {
    **dict.fromkeys(("checkpoint", "size", "count", "index", "seed"), ("prior",)),
    **dict.fromkeys((option.name for option in WALK.options), ("prior",)),
    **dict.fromkeys(("preset", "coupling", "calibration", "last-step"), ("prior",)),
    "iterations": ("prior", "cg", "sirt", "tv"),
    "tv-strength": ("tv",),
}


@door
@reads_projections
@takes("ways", WALK)
def reconstruct(
    measurement: Annotated[
        str,
        typer.Argument(
            help=".npz of `simulate` or your own, DXchange HDF5, or TIFF: a stack, a folder, or a "
            "pattern in quotes.",
            metavar="FILE",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for volumes, and a summary of them.")],
    method: Annotated[
        Method, typer.Option(help="prior walks with a model; the others know no anatomy.")
    ] = "prior",
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Bundled name, checkpoint folder, or run folder of `train`. [demo]"),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resolution of the model. [that of the measurement]")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Reconstructions; 4 or more show the spread. [1]"),
    ] = None,
    index: Annotated[int | None, typer.Option(min=0, max=2**30, help="Of the first. [0]")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Reconstruction i depends on (seed, i) only. [0]")
    ] = None,
    *,
    ways: dict[str, Any],
    preset: Annotated[
        Literal["usual", "paper"] | None,
        typer.Option(
            help="paper: as the model's own paper reconstructs, where it does (patch priors). "
            "[usual]"
        ),
    ] = None,
    coupling: Annotated[
        CouplingName | None,
        typer.Option(help="How its walk is brought to fit the data; see the documentation. [cg]"),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="What `calibrate` wrote, for couplings prox and pigdm. [beside the weights]"
        ),
    ] = None,
    last_step: Annotated[
        LastStepName | None,
        typer.Option(
            help="After the walk, of projections: tv (a little total variation) or none. [tv]"
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Of conjugate gradients at every step of prior [5 of coupling cg], or of cg [20], "
            "sirt [200], tv [50].",
        ),
    ] = None,
    tv_strength: Annotated[
        float | None,
        typer.Option(help="Of total variation. [usual for the views, or tuned on a phantom]"),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Volume on the same grid, to measure errors against.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what was made with other settings.")
    ] = False,
    raw: RawOptions,
    json: Json = False,
) -> None:
    """Reconstruct volumes from a measurement, with a model or classically.

    What a model reconstructs is partly imagined. With --count several are made, and their mean and
    spread; the summary also splits what the data determine from what the model imagined. Run again
    to go on where it stopped.
    """
    given: dict[str, Any] = {
        "checkpoint": checkpoint,
        "size": size,
        "count": count,
        "index": index,
        "seed": seed,
    }
    given |= {**ways, "iterations": iterations, "tv-strength": tv_strength}
    given |= {
        "preset": preset,
        "coupling": coupling,
        "calibration": calibration,
        "last-step": last_step,
    }
    refuse_unheeded(method, given, FOR)
    from prdit_core.checkpoints.catalog import load
    from prdit_core.cli.outputs import Outputs, VolumeSettings, refuse_other_report
    from prdit_core.data.discovery import SUFFIXES, suffix_of
    from prdit_core.data.io import read_volume
    from prdit_core.data.sources import named, refuse_overlap
    from prdit_core.files import write_folder_atomically
    from prdit_core.inverse.couplings import Coupling
    from prdit_core.inverse.scans import open_measurement
    from prdit_core.machine import choose_device, use_threads
    from prdit_core.models.linears import backend_on
    from prdit_core.verbs.assess import assess, check_truth
    from prdit_core.verbs.reconstruct import fitting, problem_of
    from prdit_core.verbs.ways import WithPrior, calibration_for, classical

    if suffix_of(out) in SUFFIXES and not out.is_dir():
        raise UsageError(f"{shown(out.name)} names a file; --out is a folder here")
    first, seed = index or 0, seed or 0
    if method == "prior":
        outputs = Outputs(out, seed=seed, first=first, count=count or 1)
    else:
        outputs = Outputs(out / f"{method}.nii.gz", seed=seed, first=0, count=1)
    summary = out / (f"summary_seed-{seed}" if method == "prior" else f"summary_{method}")
    written = [summary, *map(outputs.volume_file, outputs.indices)]
    stated = (truth, raw.flats, raw.darks, raw.geometry)
    inputs = [named(measurement), *(named(file) for file in stated if file is not None)]
    for file in (out, *written):
        refuse_overlap(inputs, file)
    scan = open_measurement(inputs[0], raw)
    for note in scan.metadata.get("notes", []):
        say(f"note: {note}")
    known = None if truth is None else read_volume(truth)
    if known is not None:
        check_truth(scan, known)
    place, used = choose_device(device), use_threads(threads)
    work: Way
    if method == "prior":
        name = checkpoint or "demo"
        prior = fitting(load(name, place), scan, size)
        how = coupling or "cg"
        errors = calibration_for(how, calibration, name, prior)
        coupled = Coupling(how, iterations, errors, last_step or "tv")
        if preset == "paper":
            ways = {**_paper(prior), **ways}
        config = coupled.walk(**ways)
        generation = VolumeSettings(
            config=config,
            checkpoint_sha256=prior.digest,
            shape=list(prior.geometry.shape),
            device=str(prior.device),
            threads=used,
            linear=backend_on(prior.device.type),
            branches=None,
        )
        problem = problem_of(prior, scan, None)
        work = WithPrior(problem, prior, config, coupled, seed, generation.recorded())
    else:
        work = classical(
            scan,
            method,
            iterations=iterations,
            strength=tv_strength,
            device=place,
            threads=used,
        )
    if not overwrite:
        refuse_other_report(summary, work.settings, FILES)
    outputs.check_writable()
    left = outputs.unfinished(work.settings, overwrite=overwrite)
    with stoppable() as stop, progress(not json) as bar:
        for number in left:
            task = bar.add_task(f"{method} {number}")
            for step in work.steps(number):
                bar.update(task, completed=step.index + 1, total=step.total)
                stop.raise_if_asked()
            outputs.write(number, work.volume(step, number))
            bar.remove_task(task)
    seen = assess(scan, map(outputs.read, outputs.indices), known)
    report = report_of(work, outputs, seen, truth)
    write_folder_atomically(summary, lambda part: write_summary(part, seen, report))
    files = outputs.files(outputs.indices)
    result(
        {"made": len(left), "reused": len(files) - len(left), "volumes": files}
        | {"summary": str(summary), "report": report},
        [
            f"{len(left)} made, {len(files) - len(left)} were there already",
            *(f"volume   {entry['volume']}" for entry in files),
            f"summary  {summary}",
            *lines_of(seen),
            str(work.settings["notice"]),
        ],
        json,
    )


def _paper(prior: Prior) -> dict[str, Any]:
    """The walk of the model's paper."""
    config = paper_reconstruction(prior.network.config)
    if config is None:
        raise UsageError(f"the paper of {prior.name} reconstructs nothing; leave --preset out")
    return dict(config)
