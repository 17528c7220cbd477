"""`prdit-core info`, `devices` and `import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prdit_core.cli.console import Json, door, refuse_unheeded, result
from prdit_core.cli.reading import reads_scans
from prdit_core.config import ReleaseName, WeightsName
from prdit_core.errors import UsageError
from prdit_core.geometry import by, size_in_words
from prdit_core.intensity import HU
from prdit_core.prdit_config import Norm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prdit_core.checkpoints.header import Header
    from prdit_core.data.datasets import PreparedData
    from prdit_core.data.io import ReadOptions
    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity


@door
def import_(
    file: Annotated[Path, typer.Argument(help="The authors' .pt file.", metavar="FILE.pt")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")],
    release: Annotated[ReleaseName, typer.Option(help="Whose file it is.")] = "prdit",
    codec: Annotated[
        Path | None,
        typer.Option(help="3d-meddiffusion: the autoencoder's .ckpt that the file belongs to."),
    ] = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH",
            help="3d-meddiffusion: HU of the CT data of the training. [unknown: approximate]",
        ),
    ] = None,
    norm: Annotated[
        Norm | None,
        typer.Option(help="layer: PRDiT and PRDiT-FM; rms: TF-PRDiT. Same names, another network."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Edge of the volumes; of a high-resolution model, of its output."),
    ] = None,
    patch: Annotated[int | None, typer.Option(min=1, help="Edge of a patch.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Distance of patches.")] = None,
    padding: Annotated[int | None, typer.Option(min=0, help="Reflected border.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Image channels.")] = None,
    heads: Annotated[int | None, typer.Option(min=1, help="Attention heads.")] = None,
    noise_std: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the training noise; default: as in the release."),
    ] = None,
    refiner_patch: Annotated[
        int | None, typer.Option(min=1, help="As --patch, of a high-resolution model's refiner.")
    ] = None,
    refiner_stride: Annotated[int | None, typer.Option(min=1, help="Its --stride.")] = None,
    refiner_padding: Annotated[int | None, typer.Option(min=0, help="Its --padding.")] = None,
    weights: Annotated[
        WeightsName, typer.Option(help="ema samples best; model: raw weights.")
    ] = "ema",
    json: Json = False,
) -> None:
    """Convert files of the authors' releases into a checkpoint of ours.

    Of PRDiT, TF-PRDiT and PRDiT-FM one file; a high-resolution model becomes a chain of two sizes.
    Of 3D MedDiffusion two: BiFlowNet and its autoencoder. What they do not say must be given;
    nothing in them is executed.
    """
    from prdit_core.checkpoints.releases.latent.importer import import_latent
    from prdit_core.checkpoints.releases.prdit.importer import import_official
    from prdit_core.checkpoints.store import read_header

    of_prdit: dict[str, object] = {
        "norm": norm,
        "size": size,
        "patch": patch,
        "stride": stride,
        "padding": padding,
        "channels": channels,
        "heads": heads,
        "noise-std": noise_std,
        "refiner-patch": refiner_patch,
        "refiner-stride": refiner_stride,
        "refiner-padding": refiner_padding,
    }
    of_latent: dict[str, object] = {"codec": codec, "window": window}
    heeded = dict.fromkeys(of_prdit, ("prdit",)) | dict.fromkeys(of_latent, ("3d-meddiffusion",))
    refuse_unheeded(release, of_prdit | of_latent, heeded)
    if release == "prdit":
        path = import_official(
            file,
            out,
            norm=norm,
            size=size,
            patch=patch,
            stride=stride,
            padding=padding,
            channels=channels,
            heads=heads,
            noise_std=noise_std,
            refiner_patch=refiner_patch,
            refiner_stride=refiner_stride,
            refiner_padding=refiner_padding,
            weights=weights,
        )
    elif codec is None:
        raise UsageError("a file of 3d-meddiffusion needs its autoencoder: give --codec AE.ckpt")
    else:
        path = import_latent(file, codec, out, window=window, weights=weights)
    header = read_header(path)
    content = _described(header, str(path))
    result(content, [f"imported {path}", *_lines(content)], json)


@door
@reads_scans
def info(
    what: Annotated[
        str | None,
        typer.Argument(help="Checkpoint, run, prepared data set, classes.json, or scan."),
    ] = None,
    *,
    options: ReadOptions,
    json: Json = False,
) -> None:
    """Tell what a checkpoint, data set or scan is; without an argument, list known checkpoints."""
    from prdit_core.checkpoints.catalog import CATALOGUE, find
    from prdit_core.checkpoints.store import read_header
    from prdit_core.data.datasets import MANIFEST

    if what is None:
        entries = [vars(entry) for entry in CATALOGUE.values()]
        lines = [
            f"{e['name']:20}{e['size']}^3  HU {e['intensity']:12} {e['description']} ({e['where']})"
            for e in entries
        ]
        result({"catalogue": entries}, lines, json)
        return
    path = Path(what)
    if what in CATALOGUE or (path.is_dir() and _holds_checkpoint(path)):
        content = _described(read_header(find(what)), what)
    elif (path / MANIFEST).is_file():
        content = _described_data(path)
    elif path.suffix == ".json":
        content = _described_classes(path)
    else:
        content = _described_scan(path, options)
    result(content, _lines(content), json)


@door
def devices(json: Json = False) -> None:
    """List the devices this machine can compute on, best first."""
    from prdit_core.machine import devices as devices_here

    entries = devices_here()
    lines = [
        f"{e['device']:10}{e['description']:30}"
        + (f"{e['memory'] / 2**30:.0f} GiB" if e["memory"] else "")
        for e in entries
    ]
    result({"devices": entries}, lines, json)


def _holds_checkpoint(path: Path) -> bool:
    from prdit_core.checkpoints.catalog import RUN_CHECKPOINTS
    from prdit_core.checkpoints.header import HEADER

    return (path / HEADER).is_file() or (path / RUN_CHECKPOINTS).is_dir()


def _described(header: Header, name: str) -> dict[str, Any]:
    from prdit_core.models.families import parameter_count

    codec = header.codec
    return {
        "checkpoint": name,
        "volume": _volume(header.geometry),
        "sizes": sorted({grid.shape[0] for grid in header.grids()}),
        **_window(header.intensity, _exactness(header.intensity)),
        **{
            f"class {one.name}": {"volumes": list(map(_volume, one.geometries))}
            | _window(one.intensity, _exactness(one.intensity))
            for one in header.classes
        },
        "model": header.model.model_dump(mode="json"),
        "parameters": parameter_count(header.model),
        **({} if codec is None else {"codec": codec.model_dump(mode="json")}),
        **_control(header),
        "schedule": header.schedule.model_dump(mode="json"),
        "record": header.record,
        "sha256": header.digest,
    }


def _control(header: Header) -> dict[str, Any]:
    """By what a model can be steered, for which classes and grids, and of which base."""
    if header.control is None:
        return {}
    config = header.control.config
    labels = {name: number for number, name in enumerate(config.label_names, 1)}
    return {
        "control": config.summary,
        "control for": {one.name: list(map(_volume, one.geometries)) for one in config.trained_on},
        "labels": {str(number): name for name, number in labels.items()},
        **({"images": list(config.image_names)} if config.image_names else {}),
        "base": header.control.base,
    }


def _volume(geometry: Geometry) -> str:
    spacing = " x ".join(f"{mm:g}" for mm in geometry.spacing_mm)
    doubt = "" if geometry.exact else " (approximate)"
    return f"{by(geometry.shape)} voxels of {spacing} mm{doubt}"


def _window(intensity: Intensity, *remarks: str) -> dict[str, str]:
    """Under the name of its units, so that nothing else is taken for HU."""
    if intensity.units != HU:
        return {"units": ", ".join([str(intensity), *remarks])}
    low, high = intensity.window_hu
    return {"hu": ", ".join([f"{low:g} to {high:g}", *remarks])}


def _exactness(intensity: Intensity) -> str:
    return "exact" if intensity.exact else "approximate"


def _described_data(path: Path) -> dict[str, Any]:
    from prdit_core.data.datasets import PreparedData

    data = PreparedData.open(path)
    return {
        "data set": str(path),
        "training cases": len(data.train),
        "validation cases": len(data.validation),
        "volume": _grid_of(data),
        **_window(data.intensity),
        "sha256": data.digest,
    }


def _described_classes(path: Path) -> dict[str, Any]:
    from prdit_core.data.classed import ClassedData

    data = ClassedData.open(path)
    return {
        "data sets": str(path),
        "classes": list(data.classes),
        "training cases": len(data.train),
        "validation cases": len(data.validation),
        **{
            one.place: f"{one.label}, {_grid_of(one.data)}, {one.data.intensity}"
            for one in data.sets
        },
        "sha256": data.digest,
    }


def _grid_of(data: PreparedData) -> str:
    return f"{size_in_words(data.geometry.shape)} voxels of {data.geometry.spacing_mm[0]:g} mm"


def _described_scan(path: Path, options: ReadOptions) -> dict[str, Any]:
    from prdit_core.data.io import read_volume

    volume = read_volume(path, options)
    values = f"{volume.voxels_hu.min():g} to {volume.voxels_hu.max():g}"
    return {
        "scan": str(path),
        "volume": f"{by(volume.shape)} voxels (z, y, x)",
        "spacing": f"{' x '.join(f'{mm:g}' for mm in volume.spacing_mm)} mm (z, y, x)",
        **({"hu": values} if volume.units == HU else {"units": f"{values} {volume.units}"}),
        "format": volume.metadata.get("source_format"),
        "notes": list(volume.metadata.get("notes", [])),
    }


def _lines(content: dict[str, Any]) -> list[str]:
    texts = [(name, _text(value)) for name, value in _entries(content)]
    return [f"{name:17}{text}" for name, text in texts if text]


def _entries(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What to tell, line by line; each refiner of a network has a line of its own."""
    for name, value in content.items():
        if name != "model":
            yield name, value
            continue
        yield name, {k: inner for k, inner in value.items() if k not in ("refiners", "classes")}
        for place, refiner in enumerate(value.get("refiners", []), 1):
            yield f"refiner to {content['sizes'][place]}", refiner


def _text(value: Any) -> str:
    if isinstance(value, dict):
        words = [(key, _text(inner)) for key, inner in value.items()]
        return ", ".join(f"{key} {text}" for key, text in words if text)
    if isinstance(value, list):
        apart = "; " if any(isinstance(entry, str) for entry in value) else ", "
        return apart.join(_text(entry) for entry in value)
    return "" if value is None else str(value)
