"""The architecture: imports go down, the core knows no window, and torchvision is nowhere."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).resolve().parents[1] / "src"
FLOORS = (
    {"errors", "files", "volume", "intensity", "geometry", "schedule", "patches", "config"}
    | {"prdit_config", "angles", "noise", "machine", "openmp", "provenance", "series", "classes"},
    {"models", "data", "codecs", "pictures"},
    {"sampling", "presets", "checkpoints", "metrics", "runs"},
    {"training", "inverse", "evaluation", "reports"},
    {"verbs"},
    {"cli"},
)
# The floor of words is one room; above it a room imports its own modules and lower floors.
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WINDOWS = {"napari", "napari_prdit", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt"}
# What the plugin must leave to the verbs.
INNER_ROOMS = {"models", "sampling", "training", "inverse", "metrics", "codecs", "patches", "noise"}

CORE = sorted(path for path in (SOURCE / "prdit_core").rglob("*.py"))
PLUGIN = sorted(path for path in (SOURCE / "napari_prdit").rglob("*.py"))


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Dotted names of everything a file imports, wherever in the file, also for types only."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor they reach"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)


def core_rooms(path: Path) -> Iterator[str]:
    """Rooms of prdit_core that a file imports from."""
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package == "prdit_core" and rest:
            yield rest.partition(".")[0]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE / "prdit_core").with_suffix("").parts[0]


def may_import(room: str, other: str) -> bool:
    floor, below = FLOOR_OF[room], FLOOR_OF[other]
    return below < floor or room == other or floor == below == 0


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in CORE if room_of(p) != "__init__"], ids=name)
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    assert room in FLOOR_OF, f"{room} has no floor: give it one in this file and in a decision"
    wrong = [other for other in core_rooms(path) if not may_import(room, other)]
    assert not wrong, f"{room} (floor {FLOOR_OF[room]}) imports {wrong}"


@pytest.mark.parametrize("path", CORE, ids=name)
def test_the_core_knows_no_window(path: Path) -> None:
    assert not WINDOWS & {imported.partition(".")[0] for imported in imports_of(path)}


@pytest.mark.parametrize("path", PLUGIN, ids=name)
def test_the_plugin_leaves_the_mathematics_to_the_core(path: Path) -> None:
    assert "torch" not in {imported.partition(".")[0] for imported in imports_of(path)}
    assert not INNER_ROOMS & set(core_rooms(path))


@pytest.mark.parametrize("path", CORE + PLUGIN, ids=name)
def test_nothing_needs_torchvision(path: Path) -> None:
    assert "torchvision" not in {imported.partition(".")[0] for imported in imports_of(path)}


def test_a_room_may_not_import_upwards_or_its_neighbour() -> None:
    assert may_import("sampling", "models")
    assert may_import("files", "errors")
    assert not may_import("models", "sampling")
    assert not may_import("models", "data")
    assert not may_import("verbs", "cli")


# Where a family's own classes and functions may be named: its folders, and the two tables.
OWN_FOLDERS = ("models", "training/families")
RELEASES = "prdit_core/checkpoints/releases/"  # which make configurations of what they read
TABLES = {"prdit_core/models/families.py", "prdit_core/training/stages.py"}
FAMILIES = sorted(path.name for path in (SOURCE / "prdit_core/models").iterdir() if path.is_dir())


@pytest.mark.parametrize("path", CORE + PLUGIN, ids=name)
def test_a_family_is_named_in_its_own_rooms_and_two_tables_only(path: Path) -> None:
    where = path.relative_to(SOURCE)
    for family in FAMILIES:
        own = [f"prdit_core/{folder}/{family}" for folder in OWN_FOLDERS]
        if str(where) in TABLES or str(where).startswith((*own, RELEASES)):
            continue
        rooms = tuple(f"prdit_core.{folder.replace('/', '.')}.{family}" for folder in OWN_FOLDERS)
        assert not [
            one for one in imports_of(path) if f"{one}.".startswith(tuple(f"{r}." for r in rooms))
        ]


def test_no_two_classes_have_one_name() -> None:
    """One word has one meaning, in the core and in the plugin; private classes are their file's."""
    where: dict[str, list[str]] = {}
    for path in CORE + PLUGIN:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(name(path))
    assert {one: files for one, files in where.items() if len(files) > 1} == {}
