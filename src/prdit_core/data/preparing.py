"""One case of a prepared data set: from a scan or a phantom to its files.

`cases/<id>.json` holds the manifest entry of a finished case, so that a stopped run goes on. Whose
it is stays out of it and is read from the scan again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prdit_core.data.datasets import CASES, LABELS, VOLUMES, Case, case_path, is_intact, write_case
from prdit_core.data.dicom import PATIENT_KEY
from prdit_core.data.io import ReadOptions, read_patient_key, read_volume
from prdit_core.data.patients import unknown_patient
from prdit_core.data.phantoms import CT, check_modality, make_phantom, region_of
from prdit_core.data.presets import PRESETS, Preset
from prdit_core.data.sources import ScanSource, content_hash
from prdit_core.data.transforms import WORKING_EDGE, conform
from prdit_core.errors import InputRejected, MemoryLimit, NumericalError
from prdit_core.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.data.paired_labels import LabelFolder
    from prdit_core.data.transforms import Conformed
    from prdit_core.volume import Volume


@dataclass(frozen=True)
class Prepared:
    """A case whose files are written, by this run or (`reused`) by an earlier one."""

    case: Case
    reused: bool


@dataclass(frozen=True)
class Refused:
    """Why a scan cannot be used."""

    reason: str


def prepare_scan(
    folder: Path,
    preset: Preset,
    size: int,
    options: ReadOptions,
    labels: LabelFolder | None,
    source: ScanSource,
) -> Prepared | Refused:
    """Read a scan, and its label map if there are any, and write its case, unless that was done.

    Raises
    ------
    OutputError
        If `folder` cannot be written; what is wrong with the scan is returned.
    """
    try:
        source_sha256 = content_hash(source.path)
        case_id = f"case-{source_sha256[:16]}"
        entry = finished(folder, case_id)
        if entry and (labels is None or labels.is_current(source, entry["record"])):
            patient = _patient(read_patient_key(source.path, options), source_sha256)
            return Prepared(Case(**entry, patient=patient), reused=True)
        volume = read_volume(source.path, options)
        if content_hash(source.path) != source_sha256:
            raise InputRejected("it was modified while being read; run again when it is at rest")
        conformed = _conformed(volume, preset, size, labels, source)
        patient = _patient(volume.metadata.get(PATIENT_KEY), source_sha256)
    except (InputRejected, MemoryLimit, NumericalError) as error:
        return Refused(str(error))
    except MemoryError:
        return Refused("it does not fit into memory; give fewer workers or a smaller scan")
    except OSError as error:
        return Refused(f"it cannot be read: {error.strerror}; check the file")
    case = write_case(folder, case_id, conformed, patient=patient, source_sha256=source_sha256)
    return Prepared(finish(folder, case), reused=False)


def _conformed(
    volume: Volume, preset: Preset, size: int, labels: LabelFolder | None, source: ScanSource
) -> Conformed:
    """The scan as a cube, with its label map where there are any."""
    if labels is None:
        return conform(volume, preset, size)
    paired, record = labels.read(source, volume)
    made = conform(volume, preset, size, paired)
    notes = made.notes if paired.any() else (*made.notes, "its label map is empty")
    return replace(made, record={**made.record, **record}, notes=notes)


def prepare_phantom(
    folder: Path,
    region: str,
    modality: str,
    preset: Preset,
    size: int,
    seed: int,
    index: int,
) -> Prepared:
    """Make a phantom and write its case with labels, unless that was done before.

    It is rendered with half the voxels of the cube, at the finest 256 along each edge.
    """
    case_id = phantom_id(region, seed, index)
    if entry := finished(folder, case_id):
        return Prepared(Case(**entry, patient=case_id), reused=True)
    spacing_mm = preset.field_of_view_mm / min(2 * size, WORKING_EDGE)
    phantom = make_phantom(seed, index, spacing_mm=spacing_mm, region=region, modality=modality)
    conformed = conform(phantom.volume, preset, size, phantom.labels)
    scanned = "" if modality == CT else f"{modality} of "
    source_sha256 = hashlib.sha256(f"{scanned}{case_id} at {spacing_mm} mm".encode()).hexdigest()
    case = write_case(folder, case_id, conformed, patient=case_id, source_sha256=source_sha256)
    return Prepared(finish(folder, case), reused=False)


def phantom_id(region: str, seed: int, index: int) -> str:
    """Name of an invented patient; those of the chest, which was the first region, go without.

    It is the same in all modalities, so that a split by patient is.
    """
    return f"phantom-{'' if region == 'chest' else region + '-'}{seed}-{index:06d}"


def phantom_preset(region: str, modality: str) -> Preset:
    """How phantoms of a region are prepared.

    Raises
    ------
    UsageError
        If the region or the modality is not known, or the region has no MR signal.
    """
    name = region_of(region).preset
    check_modality(region, modality)
    return PRESETS[name if modality == CT else f"{name}-mr"]


def phantom_fingerprint(region: str, modality: str) -> str:
    """What the phantoms' code draws, as a hash, so that two versions of it are not mixed."""
    probe = make_phantom(0, 0, spacing_mm=10.0, region=region, modality=modality)
    return hashlib.sha256(probe.volume.voxels_hu.tobytes() + probe.labels.tobytes()).hexdigest()


def files_of(folder: Path, case_id: str) -> list[Path]:
    """Where the files of a case are, if it has them all."""
    cubes = [case_path(folder, kind, case_id) for kind in (VOLUMES, LABELS)]
    return [*cubes, _entry_path(folder, case_id)]


def _patient(key: str | None, source_sha256: str) -> str:
    """A hash of the key that reading gives (itself a hash), or of the scan where there is none."""
    if not key:
        return unknown_patient(source_sha256)
    return hashlib.sha256(f"prdit patient {key}".encode()).hexdigest()[:16]


def finished(folder: Path, case_id: str) -> dict[str, Any] | None:
    """The entry, without patient, of a case that an earlier run finished, its files intact."""
    try:
        entry = dict(json.loads(_entry_path(folder, case_id).read_bytes()))
        case = Case(**entry, patient=case_id)
    except (OSError, ValueError, TypeError):
        return None
    return entry if case.id == case_id and is_intact(folder, case) else None


def finish(folder: Path, case: Case) -> Case:
    """Keep the entry of a case whose files are written."""
    entry = case.model_dump(mode="json", exclude={"patient"})
    write_json(_entry_path(folder, case.id), entry)
    return case


def _entry_path(folder: Path, case_id: str) -> Path:
    return folder / CASES / f"{case_id}.json"
