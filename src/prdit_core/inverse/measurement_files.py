"""Measurements as .npz files.

Arrays of the file: one of `line_integrals`, `counts` (with `photons`), `kspace` or `hu`;
`geometry`, the operator's spec as JSON, whose `angles_deg` may be an array of its own; and, where
they are known, `weights`, `affine` and `metadata` (JSON).
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from prdit_core.data.grid import rejected
from prdit_core.data.npz import read_member
from prdit_core.data.payload import damage_named
from prdit_core.errors import InputRejected, UsageError
from prdit_core.files import shown, write_atomically
from prdit_core.inverse.dose import integrals_of
from prdit_core.inverse.measurement import Measurement
from prdit_core.inverse.operators.kspace import KspaceSpec
from prdit_core.inverse.operators.projector import ViewsSpec
from prdit_core.inverse.operators.slices import SlicesSpec
from prdit_core.inverse.operators.table import read_spec
from prdit_core.inverse.sinograms import check_angles, check_integrals, check_views, missing_arc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from prdit_core.inverse.operators.contract import Spec

Quantity = Literal["line_integrals", "counts", "kspace", "hu"]
QUANTITIES: tuple[Quantity, ...] = ("line_integrals", "counts", "kspace", "hu")
_JSON_LIMIT = 2**24
# Axes that a measurement may have: known voxels; slices or views; and none left out.
_DIMENSIONS = (1, 2, 3)


def check_name(path: Path) -> None:
    """Raise `UsageError` unless the name ends in .npz."""
    if path.suffix != ".npz":
        raise UsageError(f"a measurement is an .npz file, not {shown(path.name)}")


def write_measurement(measurement: Measurement, path: Path) -> Path:
    """Write as .npz, whole or not at all; equal measurements give equal bytes.

    Raises
    ------
    UsageError
        If the name does not end in .npz.
    OutputError
        If it cannot be written.
    """
    check_name(path)
    arrays: dict[str, NDArray[Any]] = {
        _quantities(measurement.spec)[0]: measurement.values,
        "geometry": np.array(measurement.spec.model_dump_json()),
        "length": np.array(measurement.length),
        "metadata": np.array(json.dumps(dict(measurement.metadata), sort_keys=True)),
    }
    if measurement.weights is not None:
        arrays["weights"] = measurement.weights
    if measurement.affine is not None:
        arrays["affine"] = measurement.affine

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    return write_atomically(path, write)


def read_measurement(path: Path) -> Measurement:
    """Read a measurement, or refuse it; what is unusual stands in the notes of its metadata.

    Raises
    ------
    InputRejected
        If the file is damaged, does not say what it holds, or cannot be what it says.
    """
    name = shown(path.name)
    try:
        with damage_named(name), zipfile.ZipFile(path) as archive:
            return _measurement_in(_Arrays(archive, name))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise rejected(name, "it is no whole .npz file", "copy it again from its source") from error


@dataclass(frozen=True)
class _Arrays:
    """The arrays of an .npz archive, each judged before it is read."""

    archive: zipfile.ZipFile
    name: str

    def __contains__(self, key: str) -> bool:
        return f"{key}.npy" in self.archive.namelist()

    def numbers(self, key: str, *dimensions: int) -> NDArray[np.float64]:
        return read_member(self.archive, key, self.name, "iuf", dimensions).astype(np.float64)

    def text(self, key: str) -> str:
        return str(read_member(self.archive, key, self.name, "U", (0,)))

    def json(self, key: str) -> dict[str, Any]:
        text = self.text(key)
        try:
            content = json.loads(text) if len(text) <= _JSON_LIMIT else None
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise rejected(self.name, f"its `{key}` is no JSON object", "write it again")
        return content


def _measurement_in(arrays: _Arrays) -> Measurement:
    name, spec = arrays.name, _spec(arrays)
    values, weights = _values(arrays, spec)
    unknown = int(np.count_nonzero(~np.isfinite(values)))
    if unknown:
        raise rejected(name, f"{unknown} of its values are NaN or infinite", "repair them")
    if weights is not None and not (np.all(np.isfinite(weights)) and weights.min() >= 0):
        raise rejected(name, "its weights are not all 0 or more", "repair them")
    length = arrays.text("length") if "length" in arrays else "mm"
    if length not in ("mm", "pixel"):
        raise rejected(name, f"its lengths are in {length!r}", "give mm or pixel")
    affine = arrays.numbers("affine", 2) if "affine" in arrays else None
    if affine is not None and not (affine.shape == (4, 4) and np.all(np.isfinite(affine))):
        raise rejected(name, "its affine is no finite 4 x 4 matrix", "repair or remove it")
    metadata = arrays.json("metadata") if "metadata" in arrays else {}
    known = metadata.get("notes")
    notes = known if isinstance(known, list) else []
    if isinstance(spec, ViewsSpec):
        notes += [note for note in _notes_on(values, spec, name) if note not in notes]
    about = metadata | {"notes": notes}
    return Measurement(values, spec, weights, length, affine, about)  # type: ignore[arg-type]


def _spec(arrays: _Arrays) -> Spec:
    if "geometry" not in arrays:
        why = "it has no geometry, the JSON of an operator's spec"
        raise rejected(arrays.name, why, "add it as text: shape, spacing_mm, bins, ... of a kind")
    content = arrays.json("geometry")
    if "angles_deg" in arrays:
        angles = arrays.numbers("angles_deg", 1).tolist()
        if content.setdefault("angles_deg", angles) != angles:
            why = "it has angles twice, and they differ"
            raise rejected(arrays.name, why, "leave one of them out")
    try:
        return read_spec(content)
    except UsageError as error:
        raise InputRejected(f"{arrays.name}: {error}") from error


def _values(arrays: _Arrays, spec: Spec) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Line integrals or HU, and their weights."""
    given = [quantity for quantity in QUANTITIES if quantity in arrays]
    if len(given) != 1:
        why = "it does not say whether it holds line integrals, raw counts, k-space or HU"
        if given:
            why = f"it holds {' and '.join(given)}, but should hold one of them"
        raise rejected(arrays.name, why, f"name the array one of {', '.join(QUANTITIES)}")
    (quantity,) = given
    fitting = _quantities(spec)
    if quantity not in fitting:
        why = f"what a {spec.kind} operator measures is not {quantity}"
        raise rejected(arrays.name, why, f"call it {' or '.join(fitting)}")
    values = _in_shape(arrays.numbers(quantity, *_DIMENSIONS), spec, arrays.name)
    if quantity == "counts":
        return _of_counts(values, arrays)
    if "weights" not in arrays:
        return values, None
    return values, _in_shape(arrays.numbers("weights", *_DIMENSIONS), spec, arrays.name)


def _quantities(spec: Spec) -> tuple[Quantity, ...]:
    """What an operator may measure, the one that is written first."""
    if isinstance(spec, ViewsSpec):
        return "line_integrals", "counts"
    return ("kspace",) if isinstance(spec, KspaceSpec) else ("hu",)


def _in_shape(values: NDArray[np.float64], spec: Spec, name: str) -> NDArray[np.float32]:
    """Float32 as the geometry has them, with an axis for one slice where it was left out."""
    expected = spec.range_shape
    if values.ndim == 2 and len(expected) == 3 and expected[0] == 1:
        values = values[None]
    if values.shape != expected:
        if isinstance(spec, SlicesSpec) and values.ndim == 3:
            check_views(values, spec.views, name)
        why = f"its values are {values.shape}, but its geometry measures {expected}"
        raise rejected(name, why, "check the geometry's shape, views and bins")
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _of_counts(
    counts: NDArray[np.float32], arrays: _Arrays
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Line integrals and weights of photon counts."""
    if "photons" not in arrays:
        why = "it has counts but not how many photons were sent"
        raise rejected(arrays.name, why, "add `photons`, the counts without object")
    photons = float(arrays.numbers("photons", 0))
    if not (np.all(np.isfinite(counts)) and counts.min() >= 0 and 0 < photons < np.inf):
        why = "its counts or photons are no counts"
        raise rejected(arrays.name, why, "give numbers of 0 or more")
    if not counts.any():
        raise rejected(arrays.name, "not one photon arrived", "check the counts")
    values, weights = integrals_of(torch.from_numpy(counts), photons)
    return values.numpy(), weights.numpy()


def _notes_on(values: NDArray[np.float32], spec: ViewsSpec, name: str) -> list[str]:
    notes = check_angles(np.array(spec.angles_deg), spec.period_deg, name)
    rows = values if isinstance(spec, SlicesSpec) else values.swapaxes(0, 1)
    return [*notes, *missing_arc(spec), *check_integrals(rows, spec.views, name)]
