"""What the docks list and say of checkpoints, of whichever family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import toy_family

from napari_prdit.known_checkpoints import described, known, makes, resolutions
from prdit_core.checkpoints.header import Header
from prdit_core.checkpoints.store import save_checkpoint
from prdit_core.geometry import cubic
from prdit_core.intensity import Intensity
from prdit_core.models.families import FAMILIES
from prdit_core.schedule import CosineSchedule

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_model_of_another_family_is_listed_and_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "gaussian", toy_family.FAMILY)
    header = Header(
        model=toy_family.GaussianConfig(std=0.1),
        schedule=CosineSchedule(),
        intensity=Intensity(),
        geometry=cubic(16, 160.0),
    )
    path = save_checkpoint(tmp_path / "toy", header, {"mean": torch.zeros(1)})
    assert known([tmp_path]) == ["demo", "demo-latent", "demo-control", str(path)]
    assert "one number" in described(str(path))
    assert "16 x 16 x 16 voxels of 10 mm" in makes(str(path))
    assert list(resolutions(str(path))) == [16]
