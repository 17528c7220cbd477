"""What a checkpoint, data set or scan is, for JSON and in lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prdit_core.geometry import by, size_in_words
from prdit_core.intensity import HU

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prdit_core.checkpoints.header import Header
    from prdit_core.data.datasets import PreparedData
    from prdit_core.data.io import ReadOptions
    from prdit_core.geometry import Geometry
    from prdit_core.intensity import Intensity


def described(header: Header, name: str) -> dict[str, Any]:
    """A checkpoint, by its header and the name that the user gave."""
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


def described_data(path: Path) -> dict[str, Any]:
    """A prepared data set."""
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


def described_classes(path: Path) -> dict[str, Any]:
    """Prepared data sets of several classes, by their classes.json."""
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


def described_scan(path: Path, options: ReadOptions) -> dict[str, Any]:
    """A scan, read as the options say."""
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


def in_lines(content: dict[str, Any]) -> list[str]:
    """The same for people, one entry a line; entries without content are left out."""
    texts = [(name, _text(value)) for name, value in _entries(content)]
    return [f"{name:17}{text}" for name, text in texts if text]


def _entries(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What to tell, line by line; each refiner of a network has a line of its own."""
    for name, value in content.items():
        if name == "model":
            yield name, {k: inner for k, inner in value.items() if k not in ("refiners", "classes")}
            for place, refiner in enumerate(value.get("refiners", []), 1):
                yield f"refiner to {content['sizes'][place]}", refiner
        elif name == "record" and value:  # networks and grids have lines above
            yield name, {k: inner for k, inner in value.items() if k not in ("training", "base")}
            for record, whose in ((value, "training"), (value.get("base", {}), "base training")):
                settings = record.get("training", {})
                yield whose, {k: v for k, v in settings.items() if not isinstance(v, dict)}
        else:
            yield name, value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        words = [(key, _text(inner)) for key, inner in value.items()]
        return ", ".join(f"{key} {text}" for key, text in words if text)
    if isinstance(value, list):
        apart = "; " if any(isinstance(entry, str) for entry in value) else ", "
        return apart.join(_text(entry) for entry in value)
    return "" if value is None else str(value)
