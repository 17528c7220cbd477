"""What the files of an exported series say of themselves, the same in every slice.

docs/decisions/0017-dicom-out.md has the rules and their reasons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from prdit_core.data.dicom_source import IDENTITY
from prdit_core.data.dicom_writer import content_digest, derived_uid
from prdit_core.machine import package_version
from prdit_core.provenance import RESEARCH, notice_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prdit_core.data.dicom_source import SourceScan
    from prdit_core.volume import Volume

MANUFACTURER = "napari-prdit"
# Metadata that Derivation Description names, in this order. No others, since what is not known
# here might be a patient's.
_NAMED = (
    "case",
    "source",
    "preset",
    "source_sha256",
    "checkpoint",
    "checkpoint_sha256",
    "seed",
    "index",
    "sampler",
    "steps",
    "k",
    "grid",
    "refresh_every",
    "refresh_change",
    "precision",
    "t",
    "size",
    "window_hu",
    "device",
    "threads",
    "linear",
    "version",
    "torch",
)
_SHORT, _LONG = 64, 1024  # characters of LO and ST
# Of type 2: there, and empty for want of a value.
_UNKNOWN = (
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "Laterality",
    "PatientPosition",
    "PositionReferenceIndicator",
    "KVP",
    "AcquisitionNumber",
)


def series_header(volume: Volume, source: SourceScan | None, *, keep_identity: bool) -> Dataset:
    """Patient, study, series, equipment and provenance of a volume's images.

    Parameters
    ----------
    volume
        Of `axial_slices`; its metadata say whether it is synthetic.
    source
        The DICOM scan it was made from, to refer to its images.
    keep_identity
        Whether patient, study and frame of reference are those of `source`.
    """
    header = _common(volume.metadata)
    if source is not None:
        header.SourceImageSequence = Sequence(_reference(*image) for image in source.images)
    if source is not None and keep_identity:
        for tag in IDENTITY:
            setattr(header, tag, source.identity[tag].value)
        header.SeriesNumber = None  # those of the study are not known
    else:
        _anonymise(header, volume)
    digest = content_digest(volume, header)
    for kind, tag in (("study", "StudyInstanceUID"), ("frame", "FrameOfReferenceUID")):
        if not header.get(tag):
            setattr(header, tag, derived_uid(kind, digest))
    header.SeriesInstanceUID = derived_uid("series", digest)
    return header


def is_synthetic(metadata: Mapping[str, Any]) -> bool:
    """Whether a model or an algorithm made the content, or part of it."""
    return notice_of(metadata) != RESEARCH


def _common(metadata: Mapping[str, Any]) -> Dataset:
    notice, derivation = notice_of(metadata), _derivation(metadata)
    description = str(metadata.get("description", "")) if is_synthetic(metadata) else notice
    header = Dataset()
    for tag in _UNKNOWN:
        setattr(header, tag, None)
    header.SpecificCharacterSet = "ISO_IR 192"
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    header.Modality = "CT"
    if is_synthetic(metadata):
        header.SyntheticData = "YES"
    header.ContentQualification = "RESEARCH"
    header.SeriesNumber = 1
    header.SeriesDescription = _text(description or notice)[:_SHORT].strip()
    header.DerivationDescription = derivation[:_LONG].strip()
    header.ImageComments = f"{notice}; {derivation}"
    header.Manufacturer = MANUFACTURER
    header.SoftwareVersions = package_version()
    header.BurnedInAnnotation = "NO"
    header.LossyImageCompression = "00"
    if "window_hu" in metadata:
        low, high = (float(hu) for hu in metadata["window_hu"])
        header.WindowCenter, header.WindowWidth = (low + high) / 2, high - low
    return header


def _anonymise(header: Dataset, volume: Volume) -> None:
    """A patient that is nobody, for scans one for each, so that an archive keeps them apart."""
    if is_synthetic(volume.metadata):
        header.PatientName = header.PatientID = "SYNTHETIC"
    else:
        header.PatientName = "ANONYMOUS"
        header.PatientID = f"ANONYMOUS-{content_digest(volume, Dataset())[:8]}"
        header.PatientIdentityRemoved = "YES"
        header.DeidentificationMethod = "voxels and geometry kept, nothing else of the source"


def _derivation(metadata: Mapping[str, Any]) -> str:
    """How the volume came about, as far as is known."""
    named = [f"{key} {_value(metadata[key])}" for key in _NAMED if metadata.get(key) is not None]
    if is_synthetic(metadata):
        start = str(metadata.get("description", "")) or notice_of(metadata)
    else:
        start = f"{metadata.get('source_format', 'CT')} volume as read by {MANUFACTURER}"
    return _text("; ".join([start, ", ".join(named)] if named else [start]))


def _value(value: Any) -> str:
    return " to ".join(map(_value, value)) if isinstance(value, list | tuple) else f"{value}"


def _text(value: str) -> str:
    """One line; a backslash would part it in two values."""
    return " ".join("".join(c if c.isprintable() else " " for c in value).split()).replace(
        "\\", "/"
    )


def _reference(sop_class: str, instance: str) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    image = Dataset()
    image.ReferencedSOPClassUID = UID(sop_class)
    image.ReferencedSOPInstanceUID = UID(instance)
    image.PurposeOfReferenceCodeSequence = Sequence([purpose])
    return image
