"""`prdit-core augment`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.console import Json, door, progress, result, stoppable
from prdit_core.cli.generating import WALK, chosen
from prdit_core.cli.options import Class, Device, Shape, Threads, takes
from prdit_core.data.deformation import USUAL, Deformation
from prdit_core.data.labelled_pairs import LayoutName
from prdit_core.geometry import shape_of
from prdit_core.presets import PresetName

if TYPE_CHECKING:
    from prdit_core.volume import Volume


@door
@takes("wishes", WALK)
def augment(
    labels: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Label maps, NIfTI, whose numbers labels.json beside them may name; or a prepared "
            "data set with labels.",
        ),
    ],
    checkpoint: Annotated[str, typer.Option(help="Model with a control: run or checkpoint.")],
    out: Annotated[Path, typer.Option(help="Folder of the pairs, new or of an earlier call.")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of pairs.")],
    layout: Annotated[
        LayoutName,
        typer.Option(help="nnunet: imagesTr, labelsTr, dataset.json; nifti: side by side."),
    ] = "nnunet",
    reach: Annotated[
        float, typer.Option(help="Deformation: typical displacement in mm; 0 none.")
    ] = USUAL.reach_mm,
    nodes: Annotated[
        float, typer.Option(help="Deformation: distance in mm within which it is smooth.")
    ] = USUAL.nodes_mm,
    sizes: Annotated[
        float, typer.Option(help="Organs become at most so many times as large or small, 1 to 2.")
    ] = USUAL.sizes,
    label: Class = None,
    shape: Shape = None,
    control_scale: Annotated[float, typer.Option(help="Weight of the labels; 0 none.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Pair i depends on (seed, i) only.")] = 0,
    preset: Annotated[
        PresetName, typer.Option(help="Settings under one name, as of generate.")
    ] = "balanced",
    *,
    wishes: dict[str, Any],
    device: Device = "cpu",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Write labelled pairs to train others on: label maps, deformed anew, and volumes of them.

    Pair i is of map i modulo their number. Each has a record of how it was made. Run again with
    the same settings to go on where it stopped, or with a larger --count for more.
    """
    from prdit_core.checkpoints.catalog import load
    from prdit_core.data.label_maps import label_maps
    from prdit_core.data.labelled_pairs import PairFolder
    from prdit_core.data.sources import refuse_overlap
    from prdit_core.machine import choose_device, use_threads
    from prdit_core.verbs.augment import augment_steps
    from prdit_core.verbs.generate import generate_steps
    from prdit_core.verbs.paint import painter, painting_of
    from prdit_core.verbs.step_volume import step_volume

    refuse_overlap([labels], out)
    deformation = Deformation(reach, nodes, sizes)
    prior = load(checkpoint, choose_device(device)).of_control(label)
    prior = prior.at_shape(None if shape is None else shape_of(shape))
    config = chosen(preset, wishes, prior.network.config)
    maps = label_maps(labels, prior.labels)
    painting_of(prior, maps[0], control_scale)  # what is wrong with it is said before all else
    use_threads(threads)
    pairs = PairFolder(out, dict(enumerate(prior.labels, 1)), layout)
    made = 0
    with stoppable() as stop, progress(not json) as bar:
        all_pairs = bar.add_task("pairs", total=count)
        steps = bar.add_task("volume", total=config.steps)

        def drawn(deformed: Volume, index: int) -> Volume:
            painting = painting_of(prior, deformed, control_scale)
            for step in generate_steps(painting.prior, config, seed=seed, index=index):
                bar.update(steps, completed=step.index + 1, total=step.total)
                stop.raise_if_asked()
            volume = step_volume(painting.prior, config, step, seed=seed, index=index)
            return painting.on_labels(volume)

        for event in augment_steps(
            maps,
            drawn,
            pairs,
            count=count,
            painter=painter(prior, config, control_scale),
            deformation=deformation,
            seed=seed,
        ):
            made += event.made
            bar.update(all_pairs, completed=event.index + 1)
            stop.raise_if_asked()
    result(
        {"made": made, "reused": count - made, "out": str(out), "labels": pairs.numbers},
        [
            f"{made} pairs made, {count - made} were there already",
            f"pairs    {out}",
            "synthetic, not for diagnosis",
        ],
        json,
    )
