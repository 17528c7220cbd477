"""What was imagined of a scan as a DICOM segmentation, which refers to the images of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from prdit_core.data.dicom_dataset import quiet, read_dataset
from prdit_core.data.dicom_header import MANUFACTURER
from prdit_core.data.dicom_writer import content_digest, derived_uid
from prdit_core.data.grid import rejected
from prdit_core.data.io import canonical, read_volume
from prdit_core.errors import UsageError
from prdit_core.files import shown, write_atomically
from prdit_core.machine import package_version

if TYPE_CHECKING:
    from pathlib import Path

    from prdit_core.volume import Volume

LABEL = "Imagined by a generative model"
_SAME_MM = 0.01


def write_segmentation(mask: Volume, series: Path, file: Path) -> Path:
    """Write a mask over an exported series as one binary segment.

    Its UIDs depend on mask and series alone; the standard wants the time of writing besides.

    Parameters
    ----------
    mask : not 0 where voxels were imagined, on the grid of the series
    series : folder that `export_dicom` wrote

    Raises
    ------
    UsageError
        If highdicom is not installed, or nothing was imagined.
    InputRejected
        If the mask lies on another grid.
    OutputError
        If the file cannot be written.
    """
    try:
        with quiet():
            import highdicom
    except ImportError as error:
        raise UsageError("DICOM segmentations need a package: pip install highdicom") from error
    from pydicom.sr.codedict import codes

    upright, name = canonical(mask), shown(file.name)
    imagined = upright.voxels_hu != 0
    if not imagined.any():
        raise UsageError(f"{name}: the mask is empty, so nothing was imagined")
    there = read_volume(series)
    same_place = np.allclose(there.affine, upright.affine, rtol=0, atol=_SAME_MM)
    if there.shape != upright.shape or not same_place:
        why = f"the mask lies on another grid than {shown(series.name)}"
        raise rejected(name, why, "give the mask that was written beside the volume")
    images = [read_dataset(image, image.name, tags=None) for image in sorted(series.iterdir())]
    digest = content_digest(upright, Dataset()) + images[0].SeriesInstanceUID
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=MANUFACTURER, version=package_version(), family=codes.DCM.ArtificialIntelligence
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=LABEL,
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.ImageRegion,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
    )
    with quiet():
        made = highdicom.seg.Segmentation(
            source_images=images,
            pixel_array=imagined.astype(np.uint8),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[segment],
            series_instance_uid=derived_uid("segmentation series", digest),
            series_number=2,
            sop_instance_uid=derived_uid("segmentation", digest),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=package_version(),
            device_serial_number="0",
            content_label="IMAGINED",
            content_description=f"{LABEL}; synthetic, not for diagnosis"[:64],
            omit_empty_frames=True,
        )
        made.SyntheticData = "YES"
        made.ContentQualification = "RESEARCH"
        return write_atomically(file, made.save_as)
