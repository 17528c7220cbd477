"""Which checkpoints there are to choose from, and what one is, without loading its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_prdit.paces import Setting
from prdit_core.checkpoints.catalog import CATALOGUE, RUN_CHECKPOINTS, find
from prdit_core.checkpoints.header import HEADER, WEIGHTS, Header
from prdit_core.checkpoints.store import read_header
from prdit_core.geometry import by
from prdit_core.intensity import HU
from prdit_core.machine import default_threads

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prdit_core.config import NetworkConfig
    from prdit_core.geometry import Geometry

# Names of `data.presets.PRESETS`, which loads more than a dock should wait for.
CHEST_PRESETS = ("lidc-idri", "rad-chestct", "chest-320", "chest-320-wide")


def known(folders: Iterable[Path]) -> list[str]:
    """Bundled names, then checkpoints and runs directly below `folders`."""
    bundled = [name for name, entry in CATALOGUE.items() if entry.where == "bundled"]
    paths: list[str] = []
    for folder in folders:
        if folder.is_dir():
            paths += [str(path) for path in sorted(folder.iterdir()) if _is_one(path)]
    return bundled + paths


def described(name: str) -> str:
    """What a checkpoint is, in a few lines for people.

    Raises
    ------
    PrditError
        If there is none, or it cannot be read.
    """
    path = find(name)
    header = read_header(path)
    entry = CATALOGUE.get(name)
    lines = [
        _grid(header),
        _lower(header),
        f"classes {', '.join(one.name for one in header.classes)}" if header.classes else "",
        f"{header.model.summary}, "
        f"{(path / WEIGHTS).stat().st_size / 2**20:.1f}\N{NO-BREAK SPACE}MB",
        _units(header),
        _origin(header),
    ]
    if entry is not None:
        lines.append(f"{entry.description}; licence {entry.licence}")
    return "\n".join(line for line in lines if line)


def classes(name: str) -> tuple[str, ...]:
    """Classes of volumes that a checkpoint makes; none where all are of one kind.

    Raises as `described`.
    """
    return tuple(one.name for one in read_header(find(name)).classes)


def makes(name: str, edge: int | None = None, label: str | None = None) -> str:
    """What volumes a checkpoint makes, in words for everybody.

    Parameters
    ----------
    edge : of one of its grids; None: of the finest
    label : a class; None: the first

    Raises as `described`.
    """
    header = read_header(find(name))
    geometry = _grid_of(header, edge, label)
    edges_mm = geometry.spacing_mm if len(set(geometry.spacing_mm)) > 1 else geometry.spacing_mm[:1]
    spacing = " x ".join(f"{mm:g}" for mm in edges_mm)
    doubt = "" if geometry.exact else " (assumed)"
    return f"{_subject(header, label)}, {by(geometry.shape)} voxels of {spacing} mm{doubt}"


@dataclass(frozen=True)
class LabelControl:
    """That a checkpoint makes volumes for label maps.

    Attributes
    ----------
    names : of the labels 1, 2, ...
    grid : of the volumes; None: its control was not trained on such
    trained_on : class and grids that it was, for people
    """

    names: tuple[str, ...]
    grid: Geometry | None
    trained_on: str


def label_control(
    name: str, edge: int | None = None, label: str | None = None
) -> LabelControl | None:
    """What a checkpoint makes volumes for besides; None for one without a control by labels.

    Parameters and errors are those of `makes`.
    """
    header = read_header(find(name))
    control = None if header.control is None else header.control.config
    if control is None or not control.by_labels_alone:
        return None
    grid = _grid_of(header, edge, label)
    own = {one.name: one.geometries for one in control.trained_on}
    return LabelControl(
        control.label_names,
        grid if grid in own.get(label or header.classes[0].name, ()) else None,
        "; ".join(
            f"{one}, {' or '.join(by(each.shape) for each in grids)} voxels"
            for one, grids in own.items()
        ),
    )


def network_of(name: str) -> NetworkConfig:
    """What fixes its network; raises as `described`."""
    return read_header(find(name)).model


def setting(name: str, device: str) -> Setting:
    """What the pace of a checkpoint depends on here; raises as `described`."""
    return Setting(read_header(find(name)).base_digest, device, default_threads())


def resolutions(name: str, label: str | None = None) -> dict[int, str]:
    """Edges of the volumes that a checkpoint makes and what they mean, the highest first.

    Only chains and models of classes have several. Raises as `described`.
    """
    return {edge: f"{edge}: voxels of {mm:g} mm" for edge, mm in edges_mm(name, label).items()}


def edges_mm(name: str, label: str | None = None) -> dict[int, float]:
    """The same edges with those of their voxels in mm; raises as `described`."""
    grids = _edges(read_header(find(name)), label)
    return {edge: geometry.spacing_mm[0] for edge, geometry in grids.items()}


def _is_one(path: Path) -> bool:
    return (path / HEADER).is_file() or any((path / RUN_CHECKPOINTS).glob(f"*/{HEADER}"))


def _edges(header: Header, label: str | None) -> dict[int, Geometry]:
    """Grids by their first edge, the highest first; a cube where several have it, else the finest.

    As `Prior.at_size` takes them.
    """
    grids = sorted(header.grids(label), key=lambda grid: len(set(grid.shape)) == 1)
    by_edge = {grid.shape[0]: grid for grid in grids}
    return dict(sorted(by_edge.items(), reverse=True))


def _grid_of(header: Header, edge: int | None, label: str | None) -> Geometry:
    return header.finest(label) if edge is None else _edges(header, label)[edge]


def _subject(header: Header, label: str | None) -> str:
    for one in header.classes:
        if label in (None, one.name):
            units = one.intensity.units
            return f"Class {one.name}" + ("" if units == HU else f", in {units}")
    preset = header.record.get("preset")
    of_chests = isinstance(preset, dict) and preset.get("name") in CHEST_PRESETS
    return "Chest CT" if of_chests else "CT"


def _grid(header: Header) -> str:
    depth, height, width = header.geometry.shape
    spacing = " x ".join(f"{edge:g}" for edge in header.geometry.spacing_mm)
    doubt = "" if header.geometry.exact else " (spacing assumed)"
    return f"{depth} x {height} x {width} voxels of {spacing} mm{doubt}"


def _lower(header: Header) -> str:
    lower = " or ".join(str(edge) for edge in _sizes(header)[1:])
    return f"also {lower} along each edge" if lower else ""


def _sizes(header: Header) -> tuple[int, ...]:
    """Edges, the highest first."""
    return tuple(_edges(header, None))


def _units(header: Header) -> str:
    return f"{header.intensity}, {'exact' if header.intensity.exact else 'approximate'}"


def _origin(header: Header) -> str:
    training = header.record.get("training")
    if isinstance(training, dict) and "iteration" in header.record:
        stage = training.get("stage", "?")
        return f"trained: stage {stage}, {header.record['iteration']} iterations"
    return "imported" if "imported" in header.record else ""
