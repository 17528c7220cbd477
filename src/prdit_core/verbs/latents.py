"""Encode prepared data once, so that training in latents does not do it again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prdit_core.checkpoints.catalog import load_codec
from prdit_core.data.builder import claim_folder
from prdit_core.data.classed import ClassedData, folders_of, open_data
from prdit_core.data.datasets import LABELS, LATENTS, VOLUMES, case_path
from prdit_core.data.latent_sets import FLOATS
from prdit_core.data.manifest import Case, Manifest, write_manifest
from prdit_core.data.npy import write_array
from prdit_core.data.outcomes import CasePrepared, DataSetWritten, PreparationEvent, outcome
from prdit_core.data.preparing import finish, finished
from prdit_core.data.sources import named, refuse_overlap
from prdit_core.errors import UsageError
from prdit_core.files import check_writable, shown, write_json
from prdit_core.geometry import by
from prdit_core.machine import choose_device, package_version, use_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from prdit_core.checkpoints.catalog import LoadedCodec
    from prdit_core.data.datasets import PreparedData
    from prdit_core.geometry import Geometry
    from prdit_core.models.contracts import Shape

CLASSES = "classes.json"


def latents_steps(
    data: str | Path,
    *,
    codec: str | Path,
    out: str | Path,
    shape: Shape | None = None,
    labels: bool = False,
    device: str = "auto",
) -> Iterator[PreparationEvent]:
    """Make a set of latents of a prepared data set, or one of each that a file names.

    Volumes that are not made of whole patches get air at their far ends, which decoding takes away.
    Patients, split and order stay; the settings of a set name the codec by its digest and the data
    by theirs. The same call goes on where it was stopped. Of a file that names several sets, the
    sets of latents lie in `out` beside a file `classes.json` that names them.

    Parameters
    ----------
    codec : an autoencoder, or a model in latents that has one
    shape : voxels (D, H, W) of the box in the middle of every volume that is encoded; None: all
    labels : whether label maps come along, as they are, for what is trained to obey them

    Yields
    ------
    CasePrepared for each case, DataSetWritten at the end.

    Raises
    ------
    UsageError
        If `codec` is none, or the box does not fit into the volumes.
    InputRejected, CheckpointError
        If the data or the codec cannot be trusted.
    OutputError
        If `out` cannot be written, or holds something else or latents of other settings.
    """
    folder, opened = named(out), open_data(data)
    refuse_overlap(folders_of(opened), folder)
    place = choose_device(device)
    encoder = _Encoder(load_codec(codec, place), place)
    use_threads()
    if not isinstance(opened, ClassedData):
        jobs = [_Job(folder, opened, encoder, shape, labels)]
    else:
        check_writable(folder)
        places = _places(opened)
        jobs = [
            _Job(folder / place, one.data, encoder, shape, labels)
            for place, one in zip(places, opened.sets, strict=True)
        ]
    total, done, manifests = sum(len(job.data.cases) for job in jobs), 0, []
    for job in jobs:
        job.claim()
        cases = {}
        for case in job.data.cases:
            made, reused = job.encoded(case)
            cases[case.id] = made
            yield CasePrepared(done, total, case.id, made, reused)
            done += 1
        manifests.append(job.written(cases))
    if isinstance(opened, ClassedData):
        named_sets: dict[str, list[str]] = {}
        for place, one in zip(places, opened.sets, strict=True):
            named_sets.setdefault(one.label, []).append(place)
        write_json(folder / CLASSES, named_sets)
    yield DataSetWritten(
        folder,
        sum(len(manifest.train) for manifest in manifests),
        sum(len(manifest.validation) for manifest in manifests),
        (_clipped_note(manifests),),
    )


def latents(
    data: str | Path,
    *,
    codec: str | Path,
    out: str | Path,
    shape: Shape | None = None,
    labels: bool = False,
    device: str = "auto",
) -> DataSetWritten:
    """As `latents_steps`, without looking at the steps."""
    return outcome(
        latents_steps(data, codec=codec, out=out, shape=shape, labels=labels, device=device)
    )


@dataclass(frozen=True)
class _Encoder:
    """A codec somewhere, with what is known of it."""

    loaded: LoadedCodec
    device: str

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents (C', d, h, w) of a volume (C, D, H, W) in model units."""
        import torch

        encoded = self.loaded.codec.encode(torch.from_numpy(x)[None].to(self.device))
        latents: NDArray[np.float32] = encoded[0].float().cpu().numpy()
        return latents


@dataclass(frozen=True)
class _Job:
    """One data set, and where its latents go."""

    folder: Path
    data: PreparedData
    encoder: _Encoder
    shape: Shape | None
    labels: bool

    def claim(self) -> None:
        """See that the folder is ours, and the volumes fit."""
        if self.labels and not self.data.label_names:
            raise UsageError(
                f"{shown(self.data.folder)} has no labels to take along; prepare it with "
                "preprocess --labels"
            )
        claim_folder(self.folder, self.settings)

    @property
    def corner(self) -> Shape:
        """First voxel of the box that is encoded."""
        own, wanted = self.data.geometry.shape, self.shape or self.data.geometry.shape
        if not all(1 <= part <= edge for edge, part in zip(own, wanted, strict=True)):
            raise UsageError(
                f"a box of {by(wanted)} voxels does not fit into the volumes of {by(own)} in "
                f"{shown(self.data.folder)}"
            )
        z, y, x = ((edge - part) // 2 for edge, part in zip(own, wanted, strict=True))
        return z, y, x

    @property
    def geometry(self) -> Geometry:
        """Grid of what is encoded."""
        own = self.data.geometry
        return own if self.shape is None else own.model_copy(update={"shape": self.shape})

    @property
    def settings(self) -> dict[str, Any]:
        """What all cases are made with."""
        network, manifest = self.encoder.loaded.config, self.data.manifest
        grid = network.latent_grid(self.geometry.shape)
        return {
            "kind": LATENTS,
            "made_with": f"napari-prdit {package_version()}",
            "preset": manifest.preset.model_dump(mode="json"),
            "size": manifest.size,
            "codec": self.encoder.loaded.digest,
            "data_sha256": self.data.digest,
            "geometry": self.geometry.model_dump(mode="json"),
            "latents": [network.latent_channels, *grid],
            **({LABELS: self.data.label_names} if self.labels else {}),
        }

    def encoded(self, case: Case) -> tuple[Case, bool]:
        """Entry of a case whose latents are written, and whether an earlier call did that."""
        if entry := finished(self.folder, case.id):
            return Case(**entry, patient=case.patient), True
        z, y, x = self.corner
        depth, height, width = self.geometry.shape
        box = (slice(None), slice(z, z + depth), slice(y, y + height), slice(x, x + width))
        latent = self.encoder(self.data.model_units(case)[box])
        maps: dict[str, str] = {}
        if self.labels:
            part = np.ascontiguousarray(self.data.labels_of(case)[box[1:]])
            maps["labels_sha256"] = write_array(case_path(self.folder, LABELS, case.id), part)
        affine = np.array(case.affine)
        affine[:, 3] = affine @ [x, y, z, 1]
        made = Case(
            id=case.id,
            patient=case.patient,
            source_sha256=case.sha256,
            sha256=write_array(case_path(self.folder, VOLUMES, case.id), latent.astype(FLOATS)),
            **maps,
            affine=affine.tolist(),
            record={"clipped": round(float((np.abs(latent) > 1).mean()), 6)},
            notes=case.notes,
        )
        return finish(self.folder, made), False

    def written(self, cases: dict[str, Case]) -> Manifest:
        """The manifest, which makes the set complete; split as the data are."""
        settings = self.settings
        own = ("preset", "size", "made_with")
        manifest = Manifest(
            **{name: settings[name] for name in own},
            settings={n: value for n, value in settings.items() if n not in (*own, LABELS)},
            label_names=settings.get(LABELS, {}),
            train=tuple(cases[case.id] for case in self.data.train),
            validation=tuple(cases[case.id] for case in self.data.validation),
        )
        write_manifest(self.folder, manifest)
        return manifest


def _places(data: ClassedData) -> list[str]:
    """A folder for each set: its class, and which one of that class."""
    counts: dict[str, int] = {}
    places = []
    for one in data.sets:
        counts[one.label] = counts.get(one.label, 0) + 1
        places.append(f"{one.label}-{counts[one.label]}")
    return places


def _clipped_note(manifests: list[Manifest]) -> str:
    shares = [case.record["clipped"] for manifest in manifests for case in manifest.cases]
    share = 100 * sum(shares) / len(shares)
    return f"{share:.2g} % of the numbers lie beyond -1 or 1, to which samplers clip"
