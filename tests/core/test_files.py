"""Files and folders are written whole or not at all, and what was there stays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from prdit_core.data.resampling import WorkingGrid
from prdit_core.errors import OutputError
from prdit_core.files import write_folder_atomically


def fill(folder: Path) -> None:
    (folder / "new").write_text("new")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "old").write_text("old")
    write_folder_atomically(place, fill)
    assert [file.name for file in place.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [place]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "old").write_text("old")
    rename, tried = os.replace, []

    def failing(source: Path, target: Path) -> None:
        tried.append(Path(target))
        if Path(target) == place and len(tried) == 2:  # the new folder to its place
            raise OSError("no such luck")
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match="no such luck"):
        write_folder_atomically(place, fill)
    assert len(tried) == 3 and (place / "old").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("away", [0.2, 0.4, -0.4, 0.6, 1.3])
def test_a_grid_moves_to_the_nearest_voxel_of_its_source(away: float) -> None:
    """By half a voxel at most; rounding down would move it by up to a whole one."""
    source = np.diag([-2.0, -2.0, 2.0, 1.0])
    grid = WorkingGrid(8, 2.0, np.full(3, 8.0 + 2.0 * away))
    moved = grid.on_lattice(source)
    shift = (moved.affine[:3, 3] - grid.affine[:3, 3]) / 2.0
    assert np.abs(shift).max() <= 0.5 + 1e-9
    index = np.linalg.solve(source, moved.affine[:, 3])[:3]
    np.testing.assert_allclose(index, np.rint(index), atol=1e-9)
