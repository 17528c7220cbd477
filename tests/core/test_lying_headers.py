"""Headers that lie are refused in one line, before a network is described or memory taken."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from toys import TINY

from prdit_core.checkpoints.header import HEADER
from prdit_core.checkpoints.store import read_header
from prdit_core.errors import CheckpointError
from prdit_core.models.families import FAMILIES

if TYPE_CHECKING:
    from pathlib import Path

PATCH: dict[str, Any] = {
    "family": "patch",
    "tile": [4, 4, 4],
    "factor": 2,
    "width": 8,
    "multipliers": [1, 2],
    "blocks": 1,
    "attention": [1],
    "groups": 4,
}
CODEC: dict[str, Any] = {
    "family": "patch-volume",
    "ratio": 4,
    "width": 8,
    "groups": 4,
    "code_size": 4,
    "codes": 16,
    "patch": 8,
}
INTENSITY = {"window_hu": [-1000, 400]}
GEOMETRY = {"shape": [8, 8, 8], "spacing_mm": [40, 40, 40], "field_of_view_mm": 320}
CLASS = {"name": "chest", "intensity": INTENSITY, "geometries": [GEOMETRY]}
LATENT: dict[str, Any] = {
    "family": "latent",
    "channels": 4,
    "width": 24,
    "multipliers": [1, 1, 2],
    "sub_volume": 2,
    "attention": [2],
    "heads": 2,
    "intra_heads": 2,
    "groups": 4,
    "classes": [CLASS],
}
HUGE = 10**12
NUMBERS = (-1, 0, HUGE, 1.5, "many", None)
LIES = [
    *((PATCH, {"tile": [edge, 4, 4]}) for edge in NUMBERS),
    (PATCH, {"tile": [4, 4]}),
    (PATCH, {"tile": [8, 8, 8]}),
    (PATCH, {"tile": [3, 4, 4]}),
    *((PATCH, {"factor": factor}) for factor in (*NUMBERS, 4)),
    *((PATCH, {"width": width}) for width in (*NUMBERS, 10)),
    *((PATCH, {"multipliers": [1, times]}) for times in NUMBERS),
    (PATCH, {"multipliers": []}),
    (PATCH, {"multipliers": [1] * 1000}),
    *((PATCH, {"blocks": blocks}) for blocks in NUMBERS),
    *((PATCH, {"groups": groups}) for groups in (*NUMBERS, 3)),
    (PATCH, {"attention": [7]}),
    (PATCH, {"attention": [0] * 1000}),
    (PATCH, {"channels": HUGE}),
    (PATCH, {"air": 2.0}),
    (PATCH, {"largest": 1e300}),
    (PATCH, {"target": "x"}),
    *((CODEC, {"ratio": ratio}) for ratio in (*NUMBERS, 16)),
    *((CODEC, {"width": width}) for width in (*NUMBERS, 10)),
    *((CODEC, {"code_size": size}) for size in NUMBERS),
    *((CODEC, {"codes": codes}) for codes in NUMBERS),
    *((CODEC, {"patch": patch}) for patch in (*NUMBERS, 10, 16)),
    *((LATENT, {"width": width}) for width in (*NUMBERS, 10)),
    *((LATENT, {"multipliers": [1, 1, times]}) for times in (*NUMBERS, 1)),
    (LATENT, {"multipliers": [1, 1] + [2] * 1000}),
    *((LATENT, {"sub_volume": edge}) for edge in (*NUMBERS, 64)),
    *((LATENT, {"heads": heads}) for heads in NUMBERS),
    (LATENT, {"attention": [2] * 1000}),
    (LATENT, {"channels": 8}),
    (LATENT, {"classes": []}),
    (LATENT, {"classes": [CLASS] * 2000}),
]


def header(model: dict[str, Any]) -> dict[str, Any]:
    latent = model["family"] == "latent"
    return {
        "format": "prdit-checkpoint",
        "version": 1,
        "model": model,
        "schedule": {"kind": "cosine"},
        "intensity": INTENSITY,
        "geometry": GEOMETRY,
        "files": {"weights.safetensors": "0" * 64, "codec.safetensors": "0" * 64},
        **({"codec": CODEC} if latent else {}),
    }


def written(folder: Path, model: dict[str, Any]) -> Path:
    (folder / HEADER).write_text(json.dumps(header(model)))
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: object) -> None:
        raise AssertionError("a network was described")

    for name, row in FAMILIES.items():
        monkeypatch.setitem(FAMILIES, name, replace(row, build=build))


@pytest.mark.parametrize("model", [PATCH, CODEC, LATENT, TINY.model_dump()], ids=str)
def test_the_truth_is_read(tmp_path: Path, model: dict[str, Any]) -> None:
    model = {"family": "prdit", **model}
    assert read_header(written(tmp_path, model)).model.family == model["family"]


@pytest.mark.parametrize(
    ("model", "lie"), LIES, ids=[f"{m['family']}-{str(lie)[:40]}" for m, lie in LIES]
)
def test_a_lie_is_refused_in_one_line(
    tmp_path: Path, model: dict[str, Any], lie: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError) as refusal:
        read_header(written(tmp_path, {**model, **lie}))
    text = str(refusal.value)
    assert HEADER in text and "\n" not in text and len(text) < 400
