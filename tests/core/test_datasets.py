"""The prepared data set reads back what was written, and refuses what is not that."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from prdit_core.data import manifest as manifests
from prdit_core.data.datasets import Case, Manifest, PreparedData, write_case, write_manifest
from prdit_core.data.presets import PRESETS
from prdit_core.data.transforms import Conformed
from prdit_core.errors import InputRejected
from prdit_core.volume import Volume, axial_affine

SIZE = 8


def cube(value: int, labels: bool = False) -> Conformed:
    shape = (SIZE, SIZE, SIZE)
    volume = Volume(
        (np.arange(SIZE**3).reshape(shape) + value).astype(np.int16),
        axial_affine((40.0,) * 3, shape, (1, 2, 3)),
    )
    return Conformed(volume, np.full(shape, 3, np.uint8) if labels else None, {"n": value}, ("a",))


def write_cases(folder: Path, labels: bool = False) -> list[Case]:
    return [
        write_case(
            folder, f"case-{i}", cube(i, labels), patient=f"p{i // 2}", source_sha256=f"{i:064x}"
        )
        for i in range(4)
    ]


@pytest.fixture
def folder(tmp_path):
    cases = write_cases(tmp_path, labels=True)
    manifest = Manifest(
        preset=PRESETS["chest-320"],
        size=SIZE,
        label_names={"lung": 3},
        train=tuple(cases[:2]),
        validation=tuple(cases[2:]),
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def test_what_was_written_is_read(folder):
    data = PreparedData.open(folder)
    assert [case.id for case in data.train] == ["case-0", "case-1"]
    assert [case.id for case in data.validation] == ["case-2", "case-3"]
    assert len(data.cases) == 4
    for index, case in enumerate(data.cases):
        assert np.array_equal(data.volume(case), cube(index).volume.voxels_hu)
        assert np.all(data.labels(case) == 3)
        assert np.array_equal(case.affine, cube(index).volume.affine)
    assert data.intensity.window_hu == (-1000, 400)
    assert data.geometry.shape == (SIZE,) * 3
    assert data.geometry.spacing_mm == (40.0,) * 3
    assert data.label_names == {"lung": 3}
    data.verify()


def test_volumes_are_mapped_and_cannot_be_changed(folder):
    data = PreparedData.open(folder)
    volume = data.volume(data.train[0])
    assert isinstance(volume, np.memmap)
    assert volume.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        volume[0, 0, 0] = 1


def test_a_data_set_without_labels_has_none(tmp_path):
    cases = write_cases(tmp_path)
    preset = PRESETS["lidc-idri"]
    write_manifest(tmp_path, Manifest(preset=preset, size=SIZE, train=tuple(cases), validation=()))
    data = PreparedData.open(tmp_path)
    assert data.labels(data.train[0]) is None


def test_the_digest_tells_voxels_split_and_window_apart(folder):
    manifest = PreparedData.open(folder).manifest
    swapped = {"train": manifest.validation, "validation": manifest.train}
    other_voxels = manifest.train[0].model_copy(update={"sha256": "f" * 64})
    variants = [
        manifest,
        Manifest(**{**dict(manifest), **swapped}),
        Manifest(**{**dict(manifest), "preset": PRESETS["chest-320-wide"]}),
        Manifest(**{**dict(manifest), "train": (other_voxels, manifest.train[1])}),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)
    assert Manifest(**dict(manifest)).digest == manifest.digest


VOLUME = "volumes/case-1.npy"


def _save(path: Path, array) -> None:
    np.save(path, array, allow_pickle=True)


class Canary:
    def __reduce__(self):
        return Path.touch, (Path(os.environ["PRDIT_CANARY"]),)


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "text": lambda path: path.write_text("no array"),
    "other type": lambda path: _save(path, np.zeros((SIZE,) * 3)),
    "other byte order": lambda path: _save(path, np.zeros((SIZE,) * 3, ">i2")),
    "other shape": lambda path: _save(path, np.zeros((SIZE, SIZE, SIZE + 1), np.int16)),
    "other order": lambda path: _save(path, np.zeros((SIZE,) * 3, np.int16, order="F")),
    "objects": lambda path: _save(path, np.full((SIZE,) * 3, Canary(), object)),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Canary())),
    "bomb": lambda path: path.write_bytes(
        path.read_bytes().replace(b"(8, 8, 8), }      ", b"(80000, 80000, 8),}")
    ),
    "nested header": lambda path: path.write_bytes(
        b"\x93NUMPY\x01\x00" + (4000).to_bytes(2, "little") + b"(" * 4000
    ),
    "link elsewhere": lambda path: (
        path.rename(path.parents[2] / "elsewhere.npy"),
        path.symlink_to(path.parents[2] / "elsewhere.npy"),
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused_by_name_when_the_data_set_is_opened(kind, folder, monkeypatch):
    canary = folder / "canary"
    monkeypatch.setenv("PRDIT_CANARY", str(canary))
    inside = folder / "inside"
    inside.mkdir()
    for part in ("manifest.json", "volumes", "labels"):
        (folder / part).rename(inside / part)
    PreparedData.open(inside)
    DAMAGE[kind](inside / VOLUME)
    with pytest.raises(InputRejected, match=r"case-1\.npy"):
        PreparedData.open(inside)
    assert not canary.exists()


def test_a_file_lost_after_opening_is_named(folder):
    data = PreparedData.open(folder)
    (folder / VOLUME).unlink()
    with pytest.raises(InputRejected, match=r"case-1\.npy.*prepare the data again"):
        data.volume(data.train[1])


@pytest.mark.parametrize("kind", ["volumes", "labels"])
def test_verify_finds_a_flipped_bit(kind, folder):
    path = folder / kind / "case-2.npy"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    data = PreparedData.open(folder)
    with pytest.raises(InputRejected, match="case-2"):
        data.verify()


CHANGES = {
    "id that leaves the folder": lambda m: m["train"][0].update(id="../../etc/passwd"),
    "absolute id": lambda m: m["train"][0].update(id="/etc/passwd"),
    "id used twice": lambda m: m["train"][0].update(id="case-1"),
    "patient on both sides": lambda m: m["validation"][0].update(patient="p0"),
    "unknown key": lambda m: m.update(colour="red"),
    "newer version": lambda m: m.update(version=2),
    "other format": lambda m: m.update(format="zip"),
    "infinite affine": lambda m: m["train"][0]["affine"][0].__setitem__(0, 1e999),
    "inverted window": lambda m: m["preset"].update(window_hu=[400, -1000]),
    "no cases": lambda m: m.pop("train"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_manifest_that_makes_no_sense_is_refused(kind, folder):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    CHANGES[kind](content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputRejected, match=r"manifest\.json is damaged"):
        PreparedData.open(folder)


def test_an_edited_manifest_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"n": 1', '"n": 2'))
    with pytest.raises(InputRejected, match="edited"):
        PreparedData.open(folder)


def test_a_folder_without_a_sound_manifest_is_refused(folder, monkeypatch):
    path = folder / "manifest.json"
    path.write_text("[" * 100_000)
    with pytest.raises(InputRejected, match="damaged"):
        PreparedData.open(folder)
    path.write_bytes(b"\xff\x00")
    with pytest.raises(InputRejected, match="damaged"):
        PreparedData.open(folder)
    monkeypatch.setattr(manifests, "MANIFEST_BYTES", 1)
    with pytest.raises(InputRejected, match="larger"):
        PreparedData.open(folder)
    path.unlink()
    with pytest.raises(InputRejected, match="no prepared data set"):
        PreparedData.open(folder)


@pytest.mark.slow
def test_five_thousand_cases_open(tmp_path):
    case = write_cases(tmp_path)[0]
    many = [case.model_copy(update={"id": f"c{i}", "patient": f"p{i}"}) for i in range(5000)]
    for other in many:
        (tmp_path / "volumes" / f"{other.id}.npy").hardlink_to(tmp_path / "volumes/case-0.npy")
    manifest = Manifest(preset=PRESETS["chest-320"], size=SIZE, train=tuple(many), validation=())
    path = write_manifest(tmp_path, manifest)
    assert path.stat().st_size < manifests.MANIFEST_BYTES / 4
    data = PreparedData.open(tmp_path)
    assert data.manifest == manifest
    assert np.array_equal(data.volume(data.cases[-1]), cube(0).volume.voxels_hu)
