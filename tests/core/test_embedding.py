"""Classes beside each other on a plane of features, in an evaluation and on its page (Fig. 5)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from chests import HELD_OUT, OTHERS, Standin, chests, save
from evaluations import cloud, invented, typed

from prdit_core.errors import InputRejected, UsageError
from prdit_core.evaluation.sets import open_sets
from prdit_core.metrics.evaluation import Evaluation
from prdit_core.reports.page import page
from prdit_core.verbs.evaluate import evaluate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

COUNT = 6


def flat(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Another region: half of a chest, air and soft tissue exchanged."""
    return np.clip(-600 - voxels[:8], -1000, 400)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real and generated volumes of two classes, each on its own grid."""
    work = tmp_path_factory.mktemp("classes")
    for name, seed in (("real", HELD_OUT), ("made", OTHERS)):
        save(chests(seed, COUNT), work / f"chest-{name}")
        save(map(flat, chests(seed, COUNT - 2)), work / f"flat-{name}")
    return work


def evaluated(folders: Path, **more: object) -> Evaluation:
    fakes = {"model": folders / "chest-made"}
    sets = open_sets(folders / "chest-real", fakes, **more)  # type: ignore[arg-type]
    return evaluate(sets, Standin(), wscore="off")  # type: ignore[arg-type]


def test_generated_volumes_lie_among_the_real_ones_of_their_class(folders: Path) -> None:
    pair = folders / "flat-real", folders / "flat-made"
    found = evaluated(folders, label="chest", beside={"flat": pair})
    entry = found.embedding
    assert entry is not None and entry.model == "model" and list(entry.points) == ["chest", "flat"]
    counts = {name: (len(p.real), len(p.generated)) for name, p in entry.points.items()}
    assert counts == {"chest": (COUNT, COUNT), "flat": (COUNT - 2, COUNT - 2)}
    middle = {
        (name, kind): np.mean(points, axis=0)
        for name, both in entry.points.items()
        for kind, points in both
    }
    apart = np.linalg.norm(middle["chest", "real"] - middle["flat", "real"])
    for name in entry.points:
        assert np.linalg.norm(middle[name, "real"] - middle[name, "generated"]) < apart / 5
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
    # Nothing else of the evaluation looks beside its own class.
    assert found.model_copy(update={"embedding": None}) == evaluated(folders)


def test_one_class_has_a_plane_too_and_none_without_its_name(folders: Path) -> None:
    entry = evaluated(folders, label="chest").embedding
    assert entry is not None and list(entry.points) == ["chest"]
    assert evaluated(folders).embedding is None


def test_classes_that_cannot_lie_there_are_refused(folders: Path, tmp_path: Path) -> None:
    pair = folders / "flat-real", folders / "flat-made"
    with pytest.raises(UsageError, match="say which class is evaluated"):
        evaluated(folders, beside={"flat": pair})
    with pytest.raises(UsageError, match="chest cannot lie beside itself"):
        evaluated(folders, label="chest", beside={"chest": pair})
    with pytest.raises(UsageError, match="is no name for a class"):
        evaluated(folders, label=" ")
    mixed = folders / "flat-real", folders / "chest-made"
    with pytest.raises(InputRejected, match="bring both to one grid"):
        evaluated(folders, label="chest", beside={"flat": mixed})


@pytest.mark.slow
def test_the_page_draws_classes_by_colour_and_real_volumes_hollow() -> None:
    plain = invented()
    without = page(typed(plain), {})
    names = ("chest", "<head>")
    both = {
        n: {"real": cloud(k, (k, 0)), "generated": cloud(k + 5, (k, 0))}
        for k, n in enumerate(names)
    }
    entry = {"model": "base", "method": "PCA", "explained": [0.5, 0.2], "points": both}
    content = page(typed(plain | {"embedding": entry}), {})
    drawings = [
        re.findall('<div class="drawing".*?</div>', c, re.DOTALL) for c in (without, content)
    ]
    assert [len(found) for found in drawings] == [3, 4]
    (drawing,) = [one for one in drawings[1] if "of each class" in one]
    for colour in ("#d55e00", "#2a8fd0"):
        assert drawing.count(f'"fill: {colour}"') == 60
        assert drawing.count(f'"fill-opacity: 0; stroke: {colour}') == 60
    assert "&lt;head&gt;" in content and "<head>" not in content[content.index("<body") :]
    assert "hollow markers are real" in content and "hollow markers" not in without
