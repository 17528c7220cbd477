"""PRDiT for 3D CT: generate, decompose, prepare, train and evaluate, headless.

Public names are loaded when first used, so that importing the package imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prdit_core.openmp import wait_briefly

wait_briefly()  # here, because whatever loads torch imports this package first

if TYPE_CHECKING:
    from prdit_core.checkpoints.catalog import load
    from prdit_core.checkpoints.releases.prdit.importer import import_official
    from prdit_core.config import Branch, SamplingConfig
    from prdit_core.data.classed import ClassedData
    from prdit_core.data.datasets import PreparedData
    from prdit_core.data.deformation import Deformation
    from prdit_core.data.io import ReadOptions, read_volume, write_volume
    from prdit_core.data.labelled_pairs import PairFolder
    from prdit_core.data.presets import PRESETS, Preset
    from prdit_core.data.volume_sets import VolumeSet
    from prdit_core.errors import PrditError
    from prdit_core.evaluation.sets import open_sets
    from prdit_core.inverse.astra import astra_geometry
    from prdit_core.inverse.calibration import read_calibration
    from prdit_core.inverse.couplings import Coupling
    from prdit_core.inverse.measurement import Measurement
    from prdit_core.inverse.measurement_files import read_measurement, write_measurement
    from prdit_core.inverse.scans import RawOptions, open_measurement
    from prdit_core.metrics.evaluation import Evaluation, read_evaluation
    from prdit_core.models.contracts import Decomposition, Prediction
    from prdit_core.models.prior import Prior
    from prdit_core.prdit_config import ModelConfig, TrainConfig
    from prdit_core.presets import sampling_preset
    from prdit_core.sampling.sampler import SAMPLERS, SampleStep
    from prdit_core.training.events import TrainStep
    from prdit_core.verbs.augment import augment_steps
    from prdit_core.verbs.calibrate import calibrate, calibrate_steps
    from prdit_core.verbs.classical import reconstruct_classically
    from prdit_core.verbs.decompose import decompose, decompose_state
    from prdit_core.verbs.evaluate import evaluate, evaluate_steps
    from prdit_core.verbs.export import ExportedSeries, export_dicom, open_volume
    from prdit_core.verbs.generate import branch_steps, generate, generate_steps
    from prdit_core.verbs.paint import paint
    from prdit_core.verbs.phantoms import phantoms
    from prdit_core.verbs.preprocess import preprocess
    from prdit_core.verbs.reconstruct import reconstruct, reconstruct_steps
    from prdit_core.verbs.regenerate import regenerate
    from prdit_core.verbs.report import write_report
    from prdit_core.verbs.shares import decompose_levels, energy_shares
    from prdit_core.verbs.simulate import simulate
    from prdit_core.verbs.train import train, train_steps
    from prdit_core.volume import Volume

_HOMES = {
    "Branch": "config",
    "ClassedData": "data.classed",
    "Coupling": "inverse.couplings",
    "Decomposition": "models.contracts",
    "Deformation": "data.deformation",
    "Evaluation": "metrics.evaluation",
    "Measurement": "inverse.measurement",
    "ExportedSeries": "verbs.export",
    "ModelConfig": "prdit_config",
    "PRESETS": "data.presets",
    "PairFolder": "data.labelled_pairs",
    "PrditError": "errors",
    "Prediction": "models.contracts",
    "PreparedData": "data.datasets",
    "Preset": "data.presets",
    "Prior": "models.prior",
    "RawOptions": "inverse.scans",
    "ReadOptions": "data.io",
    "SAMPLERS": "sampling.sampler",
    "SampleStep": "sampling.sampler",
    "SamplingConfig": "config",
    "TrainConfig": "prdit_config",
    "TrainStep": "training.events",
    "Volume": "volume",
    "VolumeSet": "data.volume_sets",
    "astra_geometry": "inverse.astra",
    "augment_steps": "verbs.augment",
    "branch_steps": "verbs.generate",
    "calibrate": "verbs.calibrate",
    "calibrate_steps": "verbs.calibrate",
    "decompose": "verbs.decompose",
    "decompose_levels": "verbs.shares",
    "decompose_state": "verbs.decompose",
    "energy_shares": "verbs.shares",
    "evaluate": "verbs.evaluate",
    "evaluate_steps": "verbs.evaluate",
    "export_dicom": "verbs.export",
    "generate": "verbs.generate",
    "generate_steps": "verbs.generate",
    "import_official": "checkpoints.releases.prdit.importer",
    "load": "checkpoints.catalog",
    "open_measurement": "inverse.scans",
    "open_sets": "evaluation.sets",
    "open_volume": "verbs.export",
    "paint": "verbs.paint",
    "phantoms": "verbs.phantoms",
    "preprocess": "verbs.preprocess",
    "read_calibration": "inverse.calibration",
    "read_evaluation": "metrics.evaluation",
    "read_measurement": "inverse.measurement_files",
    "read_volume": "data.io",
    "reconstruct": "verbs.reconstruct",
    "reconstruct_classically": "verbs.classical",
    "reconstruct_steps": "verbs.reconstruct",
    "regenerate": "verbs.regenerate",
    "sampling_preset": "presets",
    "simulate": "verbs.simulate",
    "train": "verbs.train",
    "train_steps": "verbs.train",
    "write_measurement": "inverse.measurement_files",
    "write_report": "verbs.report",
    "write_volume": "data.io",
}

__all__ = [
    "PRESETS",
    "SAMPLERS",
    "Branch",
    "ClassedData",
    "Coupling",
    "Decomposition",
    "Deformation",
    "Evaluation",
    "ExportedSeries",
    "Measurement",
    "ModelConfig",
    "PairFolder",
    "PrditError",
    "Prediction",
    "PreparedData",
    "Preset",
    "Prior",
    "RawOptions",
    "ReadOptions",
    "SampleStep",
    "SamplingConfig",
    "TrainConfig",
    "TrainStep",
    "Volume",
    "VolumeSet",
    "astra_geometry",
    "augment_steps",
    "branch_steps",
    "calibrate",
    "calibrate_steps",
    "decompose",
    "decompose_levels",
    "decompose_state",
    "energy_shares",
    "evaluate",
    "evaluate_steps",
    "export_dicom",
    "generate",
    "generate_steps",
    "import_official",
    "load",
    "open_measurement",
    "open_sets",
    "open_volume",
    "paint",
    "phantoms",
    "preprocess",
    "read_calibration",
    "read_evaluation",
    "read_measurement",
    "read_volume",
    "reconstruct",
    "reconstruct_classically",
    "reconstruct_steps",
    "regenerate",
    "sampling_preset",
    "simulate",
    "train",
    "train_steps",
    "write_measurement",
    "write_report",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
