"""`prdit-core generate` and `prdit-core decompose`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.console import Json, door, progress, result, say, stoppable
from prdit_core.cli.options import (
    Checkpoint,
    Class,
    Device,
    Shape,
    Size,
    Threads,
    takes,
    those_given,
    walk_options,
)
from prdit_core.cli.reading import reads_scans
from prdit_core.config import Branch, SamplingConfig, words_of
from prdit_core.errors import OutputError, UsageError
from prdit_core.geometry import shape_of
from prdit_core.presets import PresetName, sampling_preset

if TYPE_CHECKING:
    from prdit_core.config import NetworkConfig
    from prdit_core.data.io import ReadOptions

# A walk's settings, which a preset gives otherwise.
OF_PRESETS = ("steps", "sampler", "k", "grid", "refresh_every", "refresh_change", "precision")
WALK = walk_options(
    (*OF_PRESETS, "eta", "renoise", "guidance"),
    {name: f"{words_of(SamplingConfig, name)} [preset]" for name in OF_PRESETS},
)


def chosen(
    preset: PresetName, wishes: dict[str, Any], network: NetworkConfig | None = None
) -> SamplingConfig:
    """A preset of a family with what the user wants otherwise; None is no wish."""
    return sampling_preset(preset, network).but(those_given(**wishes))


@door
@takes("wishes", WALK)
def generate(
    out: Annotated[
        Path,
        typer.Option(
            help="One file (.nii.gz, .nii, .mha, .nrrd), or a folder for numbered volumes."
        ),
    ],
    checkpoint: Checkpoint = "demo",
    label: Class = None,
    size: Size = None,
    shape: Shape = None,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of volumes.")] = 1,
    index: Annotated[int, typer.Option(min=0, max=2**30, help="Index of the first volume.")] = 0,
    seed: Annotated[int, typer.Option(help="Volume i depends on (seed, i) only.")] = 0,
    condition: Annotated[
        Path | None,
        typer.Option(
            metavar="LABELS.nii.gz",
            help="Label map that the volumes shall belong to, for a model that `info` tells labels "
            "of; they lie on its grid. labels.json beside it may name its numbers.",
        ),
    ] = None,
    control_scale: Annotated[
        float | None,
        typer.Option(help="Weight of the condition; 0 is the model without it, exactly. [1]"),
    ] = None,
    preset: Annotated[
        PresetName, typer.Option(help="Settings under one name; the table below compares them.")
    ] = "balanced",
    *,
    wishes: dict[str, Any],
    branch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP:SEED",
            help="Go on from step STEP (from 1) with the noise of another seed, as the plugin's "
            "New ending does; again for a branch of the branch.",
        ),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace volumes made with other settings.")
    ] = False,
    json: Json = False,
) -> None:
    """Generate volumes: NIfTI in HU, a three-plane PNG and a JSON record for each.

    Run again with the same settings to go on where it stopped. Under torchrun or srun the volumes
    are shared out among the processes.
    """
    from prdit_core.checkpoints.catalog import load
    from prdit_core.cli.outputs import Outputs, VolumeSettings
    from prdit_core.cli.painting import painted
    from prdit_core.machine import own_device, processes, use_threads
    from prdit_core.models.linears import backend_on
    from prdit_core.provenance import SYNTHETIC
    from prdit_core.verbs.generate import generate_steps
    from prdit_core.verbs.step_volume import step_volume

    branches = [Branch.parse(text) for text in branch or ()]
    outputs = Outputs(out, seed=seed, first=index, count=count)
    own = processes().share(outputs.indices)
    if size is not None and shape is not None:
        raise UsageError("give --size or --shape, not both")
    if condition is None and control_scale is not None:
        raise UsageError("--control-scale weighs a condition; give --condition, too")
    loaded = load(checkpoint, own_device(device))
    prior = loaded.of_class(label) if condition is None else loaded.of_control(label)
    prior = prior.at_size(size)
    prior = prior.at_shape(None if shape is None else shape_of(shape))
    painting = None
    if condition is not None:
        painting = painted(prior, condition, 1.0 if control_scale is None else control_scale)
        prior = painting.prior
    elif prior.labels:
        say(f"note: without --condition {prior.name} makes volumes of its base")
    config = chosen(preset, wishes, prior.network.config)
    outputs.check_writable()
    prior.check_volume()
    settings = VolumeSettings(
        config=config,
        checkpoint_sha256=prior.digest,
        shape=list(prior.geometry.shape if painting is None else painting.labels.shape),
        device=str(prior.device),
        threads=use_threads(threads),
        linear=backend_on(prior.device.type),
        branches=[str(one) for one in branches] or None,
        label=prior.label,
        condition=None if prior.condition is None else dict(prior.condition),
    )
    wanted = {"notice": SYNTHETIC, **settings.recorded()}
    if outputs.single is not None:
        wanted |= {"seed": seed, "index": index}
    unfinished = outputs.unfinished(wanted, overwrite=overwrite)
    left = [number for number in own if number in unfinished]
    with stoppable() as stop, progress(not json) as bar:
        for place, number in enumerate(left):
            task = bar.add_task(f"volume {place + 1} of {len(left)}", total=config.steps)
            walk = generate_steps(prior, config, seed=seed, index=number, branches=branches)
            for step in walk:
                bar.update(task, completed=step.index + 1, total=step.total)
                stop.raise_if_asked()
            volume = step_volume(prior, config, step, seed=seed, index=number, branches=branches)
            outputs.write(number, volume if painting is None else painting.on_labels(volume))
            bar.remove_task(task)
    files = outputs.files(own)
    result(
        {"made": len(left), "reused": len(own) - len(left), "volumes": files},
        [
            f"{len(left)} volumes made, {len(own) - len(left)} were there already"
            if count > 1 or not left
            else "1 volume made",
            *(f"volume   {entry['volume']}" for entry in files),
            *(f"picture  {entry['picture']}" for entry in files),
            "synthetic, not for diagnosis",
        ],
        json,
    )


@door
@reads_scans
def decompose(
    volume: Annotated[
        Path, typer.Option(help="A CT scan: DICOM folder or series, NIfTI, NRRD, MetaImage.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the parts and one picture.")],
    t: Annotated[
        float, typer.Option(help="Noise level, above 0 (clean) to 1000 (pure noise).")
    ] = 500.0,
    checkpoint: Checkpoint = "demo",
    size: Size = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    device: Device = "cpu",
    threads: Threads = None,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Split what a model predicts for a scan into local part, global residual and their sum.

    A model of several resolutions has a third part, that of its refiners.
    """
    from prdit_core.checkpoints.catalog import load
    from prdit_core.data.io import read_volume, write_volume
    from prdit_core.data.sources import refuse_overlap
    from prdit_core.files import check_writable, shown, write_json
    from prdit_core.machine import choose_device, use_threads
    from prdit_core.pictures import save_picture
    from prdit_core.verbs.decompose import decompose as split

    refuse_overlap([volume], out)
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{shown(out)} is not empty; choose another --out")
    prior = load(checkpoint, choose_device(device)).at_size(size)
    check_writable(out)
    use_threads(threads)
    scan = read_volume(volume, options)
    for note in scan.metadata.get("notes", []):
        say(f"note: {note}")
    decomposed = split(prior, scan, t, seed=seed)
    files = [write_volume(decomposed.scan, out / "scan.nii.gz")]
    files += [write_volume(part, out / f"{name}.nii.gz") for name, part in decomposed.parts.items()]
    picture = save_picture(decomposed.panels(), out / "decomposition.png", f"model {prior.name}")
    write_json(out / "decomposition.json", dict(decomposed.scan.metadata))
    result(
        {"picture": str(picture), "volumes": [str(file) for file in files]},
        [f"picture  {picture}", *(f"part     {file}" for file in files)],
        json,
    )
