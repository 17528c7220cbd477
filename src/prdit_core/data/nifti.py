"""NIfTI files (.nii, .nii.gz): a strict reader and a byte-stable writer."""

from __future__ import annotations

import gzip
import math
from contextlib import ExitStack
from io import BytesIO
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from prdit_core.data.grid import (
    Affine,
    affine_towards,
    check_affine,
    check_bytes,
    no_orientation,
    rejected,
)
from prdit_core.data.payload import Readable, damage_named, gzipped, read_declared
from prdit_core.files import shown
from prdit_core.provenance import stated_notice
from prdit_core.volume import Volume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
LABEL_INTENT = 1002
_MAX_GAP = 2**24  # bytes of header extensions


def read_nifti(
    path: Path, *, frame: int | None, assume_orientation: str | None, intent: int = 0
) -> Volume:
    """The voxels and geometry of a NIfTI file, axes as they are stored.

    Parameters
    ----------
    path
        A single-file NIfTI-1 or NIfTI-2, compressed or not.
    frame
        Which volume of a 4D file to take, from 0.
    assume_orientation
        Axis codes such as "LPS" for files that state none.
    intent
        `LABEL_INTENT` where a label map is wanted; else one is refused.

    Raises
    ------
    InputRejected
        On damage, on anything but one scalar volume, and where the geometry is contradictory.
    """
    name = shown(path.name)
    with ExitStack() as stack:
        with damage_named(name):
            stream: Any = stack.enter_context(path.open("rb"))
            if path.name.lower().endswith(".gz"):
                stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
            header = _read_header(stream, name)
        if int(header["intent_code"]) == LABEL_INTENT != intent:
            raise rejected(name, "it is marked as a label map", "give the scan itself")
        shape, frames = _shape(header, name)
        chosen = _choose_frame(frames, frame, name)
        dtype = _scalar_type(header, name)
        size = math.prod((frames, *shape, dtype.itemsize))
        check_bytes(size, name)
        affine, notes = _affine(header, shape, assume_orientation, name)
        check_affine(affine, name)
        _skip_to_voxels(stream, header, name)
        payload = read_declared(stream, size, name)
    voxels = _scaled(payload.view(dtype).reshape(frames, *shape)[chosen], header, name)
    if int(header["dim"][0]) > 3:
        notes.append(f"volume {chosen + 1} of {frames} of a file with {header['dim'][0]} axes")
    stated = stated_notice(header["descrip"].item().decode("ascii", "replace"))
    return Volume(voxels, affine, {"source_format": "nifti", "notes": notes, **stated})


def write_nifti(
    volume: Volume, path: Path, *, compressed: bool, description: str, intent: int = 0
) -> None:
    """Write voxels of whole numbers; equal volumes give equal bytes.

    Parameters
    ----------
    volume
        With int16 HU, or uint8 labels.
    path
        The file itself, not a temporary sibling.
    compressed
        Whether to write gzip, without time stamp or file name.
    description
        For the header, of which 79 ASCII characters are kept.
    intent
        `LABEL_INTENT` for a label map.
    """
    image = nib.Nifti1Image(volume.voxels_hu.T, volume.affine)
    image.set_qform(volume.affine, code=1)
    image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["intent_code"] = intent
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    content = image.to_bytes()
    path.write_bytes(gzipped(content) if compressed else content)


def _read_header(stream: Readable, name: str) -> Any:
    start = stream.read(4)
    size = next((n for n in _HEADERS for order in ("<i4", ">i4") if _is(start, n, order)), 0)
    content = start + stream.read(size - 4) if size else b""
    if not size or len(content) < size:
        why = "it is empty" if not start else "it does not start with a NIfTI header"
        raise rejected(name, why, "give a NIfTI file, or restore it from its source")
    header = _HEADERS[size].from_fileobj(BytesIO(content), check=False)
    if not bytes(header["magic"].item()).startswith(b"n+"):
        raise rejected(name, "it is not a single-file NIfTI", "convert it to one .nii file")
    return header


def _is(start: bytes, size: int, order: str) -> bool:
    return len(start) == 4 and int(np.frombuffer(start, order)[0]) == size


def _shape(header: Any, name: str) -> tuple[tuple[int, int, int], int]:
    """(z, y, x) and the number of volumes."""
    axes = int(header["dim"][0])
    sizes = [int(size) for size in header["dim"][1 : axes + 1]] if 3 <= axes <= 7 else []
    if not sizes or min(sizes) <= 0:
        why = f"its header states the size {[int(n) for n in header['dim']]}"
        raise rejected(name, why, "give a volume with three axes")
    if math.prod(sizes[4:]) > 1:
        raise rejected(name, "it holds vectors, not one value per voxel", "give a scalar volume")
    return (sizes[2], sizes[1], sizes[0]), sizes[3] if axes > 3 else 1


def _choose_frame(frames: int, frame: int | None, name: str) -> int:
    if frame is None and frames > 1:
        raise rejected(name, f"it holds {frames} volumes", "choose one with --frame, from 0")
    if frame is not None and frame >= frames:
        raise rejected(name, f"it has no frame {frame}, only {frames}", "choose a smaller frame")
    return frame or 0


def _scalar_type(header: Any, name: str) -> np.dtype[Any]:
    try:
        dtype = header.get_data_dtype()
    except Exception as error:
        raise rejected(name, "its data type is unknown", "convert it to int16") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise rejected(name, "it holds colours, not one number per voxel", "give a scalar volume")
    scalar: np.dtype[Any] = dtype
    return scalar


def _affine(
    header: Any, shape: tuple[int, int, int], assume: str | None, name: str
) -> tuple[Affine, list[str]]:
    spacing = np.array(header["pixdim"][1:4], dtype=np.float64)
    if not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        why = f"its header states the voxel spacing {spacing.tolist()}"
        raise rejected(name, why, "repair the header")
    scale = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if scale is None:
        raise rejected(name, "its unit of length is unknown", "repair xyzt_units in the header")
    forms = _forms(header, name)
    if not forms and assume is None:
        raise no_orientation(name)
    if not forms:
        forms = {"assumed": affine_towards(str(assume), spacing)}
    _check_agreement(forms, spacing, shape, scale, name)
    affine = np.array(next(iter(forms.values())), dtype=np.float64)
    affine[:3] *= scale
    notes = [f"spacing converted to mm (x {scale:g})"] if scale != 1 else []
    return affine, notes + (["orientation assumed"] if "assumed" in forms else [])


def _forms(header: Any, name: str) -> dict[str, Affine]:
    """The affines that the header states, sform first, since it is the one that is used."""
    if header["pixdim"][0] == 0:
        header["pixdim"][0] = 1
    try:
        forms = {"sform": header.get_sform(coded=True)[0], "qform": header.get_qform(coded=True)[0]}
    except Exception as error:
        raise rejected(name, "its qform or sform is invalid", "repair the header") from error
    return {key: affine for key, affine in forms.items() if affine is not None}


def _check_agreement(
    forms: dict[str, Affine],
    spacing: Affine,
    shape: tuple[int, int, int],
    scale: float,
    name: str,
) -> None:
    """Refuse a qform, sform and pixdim that place the corners of the volume apart."""
    lengths = {key: np.linalg.norm(affine[:3, :3], axis=0) for key, affine in forms.items()}
    lengths["pixdim"] = spacing
    corners = np.array([(x, y, z, 1) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners = corners * [shape[2] - 1, shape[1] - 1, shape[0] - 1, 1]
    placed = [corners @ affine.T for affine in forms.values()]
    # NumPy's maximum, since Python's passes over NaN.
    apart = float(np.max([np.abs(places - placed[0]) for places in placed]))
    uneven = float(np.max([np.abs(length / spacing - 1) for length in lengths.values()]))
    if apart > spacing.min() / 4 or uneven > 0.01 or not np.isfinite(apart + uneven):
        sizes = ", ".join(f"{key} {np.round(n * scale, 4).tolist()}" for key, n in lengths.items())
        why = f"its geometries disagree by {apart * scale:.4g} mm (spacing in mm: {sizes})"
        raise rejected(name, why, "repair the header so that sform, qform and pixdim agree")


def _skip_to_voxels(stream: Readable, header: Any, name: str) -> None:
    size = int(header["sizeof_hdr"])
    offset = float(header["vox_offset"])
    if not size <= offset <= _MAX_GAP:
        raise rejected(name, f"its voxels start at byte {offset:g}", "repair vox_offset")
    with damage_named(name):
        stream.read(int(offset) - size)


def _scaled(voxels: NDArray[Any], header: Any, name: str) -> NDArray[Any]:
    try:
        slope, inter = header.get_slope_inter()
    except Exception as error:
        raise rejected(name, "its scl_slope is invalid", "repair the header") from error
    if slope is None or (slope, inter) == (1, 0):
        return voxels
    scaled: NDArray[Any] = voxels.astype(np.float32) * np.float32(slope) + np.float32(inter)
    return scaled
