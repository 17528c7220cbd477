"""Keys of random numbers: two purposes never share a stream, generated volumes stay the same."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainings import settings, train

import prdit_core
from prdit_core.errors import UsageError
from prdit_core.noise import Draw, generator, key_words, numpy_generator, unit_noise
from prdit_core.runs.folder import RunFolder

SOURCE = Path(prdit_core.__file__).parent
POOL = 4  # words that numpy mixes at least: shorter keys are filled up with zeros
words = st.integers(0, 2**32 - 1)
keys = st.tuples(st.integers(0, 2**64 - 1), words, st.lists(words, max_size=3))


def mixed(draw: Draw, seed: int, index: int, place: list[int]) -> list[int]:
    """The words that numpy makes of a key before it mixes them."""
    given = key_words(draw, seed, index, *place)
    return given + [0] * (POOL - len(given))


@given(keys, keys)
def test_two_purposes_never_meet(
    one: tuple[int, int, list[int]], other: tuple[int, int, list[int]]
) -> None:
    """The third word is the purpose in every key, one word for numpy too, and unique."""
    purposes = [(draw.library, draw.word) for draw in Draw]
    assert len(set(purposes)) == len(purposes)
    for draw, key in product(Draw, (one, other)):
        assert mixed(draw, *key)[2] == draw.word
        assert all(0 <= word < 2**32 for word in mixed(draw, *key))


@given(keys, keys)
def test_two_keys_of_one_purpose_meet_only_if_they_are_equal(
    one: tuple[int, int, list[int]], other: tuple[int, int, list[int]]
) -> None:
    filled = [(seed, index, place + [0] * (3 - len(place))) for seed, index, place in (one, other)]
    assert (mixed(Draw.BATCH, *filled[0]) == mixed(Draw.BATCH, *filled[1])) == (
        filled[0] == filled[1]
    )


def test_each_purpose_has_one_place_in_the_source() -> None:
    uses = [
        name
        for file in SOURCE.rglob("*.py")
        if file.name != "noise.py"
        for name in re.findall(r"\bDraw\.([A-Z_]+)", file.read_text(encoding="utf-8"))
    ]
    assert sorted(uses) == sorted(draw.name for draw in Draw)


def test_nothing_else_draws() -> None:
    other = re.compile(r"default_rng|SeedSequence|manual_seed|torch\.Generator\(|random\.seed")
    drawing = [
        file.relative_to(SOURCE).as_posix()
        for file in SOURCE.rglob("*.py")
        if other.search(file.read_text(encoding="utf-8"))
    ]
    assert drawing == ["noise.py"]


def test_streams_that_were_one_before_differ_now() -> None:
    """Preview and volume 3, validation and 4, a batch and a corrector, a crop and volume 6."""
    once_equal = [
        ((Draw.PREVIEW, 5), (Draw.START, 5, 3)),
        ((Draw.VALIDATION, 5, 0, 0, 0), (Draw.START, 5, 4)),
        ((Draw.BATCH, 5, 0, 1, 3), (Draw.CORRECTOR, 5, 2, 3)),
        ((Draw.CROP, 5, 0, 0), (Draw.START, 5, 6)),
        ((Draw.START, 2**32, 1), (Draw.CORRECTOR, 0, 1, 0)),  # a seed of two words
    ]
    for one, other in once_equal:
        assert not torch.equal(unit_noise((8,), *one), unit_noise((8,), *other))
    chest, faults = numpy_generator(Draw.PATIENT, 5, 3), numpy_generator(Draw.SPOILT, 5, 0, 3)
    assert not np.array_equal(chest.random(8), faults.random(8))


@pytest.mark.parametrize(
    ("draw", "key", "digest"),
    [
        (Draw.START, (0, 0), "7d4400d3"),
        (Draw.START, (7, 3), "67be1e9a"),
        (Draw.CORRECTOR, (7, 3, 11), "cf82098d"),
        (Draw.BRANCH, (7, 0, 11), "27c64eac"),
        (Draw.DECOMPOSE, (4,), "1c9c820c"),
    ],
)
def test_generated_volumes_keep_their_noise(draw: Draw, key: tuple[int, ...], digest: str) -> None:
    """Recorded before keys had a purpose: what users made must come out again."""
    drawn = unit_noise((4, 4), draw, *key).numpy().tobytes()
    assert hashlib.sha256(drawn).hexdigest()[:8] == digest


@pytest.mark.slow
def test_a_run_begun_under_other_keys_is_not_resumed(tmp_path: Path) -> None:
    """It could not end with the bytes of one go; going on with its weights is another run."""
    data = tmp_path / "data"
    prdit_core.phantoms(4, size=8, seed=0, out=data)
    config = settings(data, tmp_path / "run")
    train(config)
    file = RunFolder(config.run).config
    content = json.loads(file.read_text())
    del content["facts"]["noise_keys"]
    file.write_text(json.dumps(content))
    for begin in ("resume", "change"):
        with pytest.raises(UsageError, match=r"by other keys.*--from this one"):
            train(config, begin)
    train(settings(data, tmp_path / "next", start=str(config.run)))


def test_all_64_bits_of_a_seed_count() -> None:
    seeds = (5, 2**32 + 5, 2**40 + 5, 2**64 - 1)
    drawn = {unit_noise((4,), Draw.START, seed).numpy().tobytes() for seed in seeds}
    assert len(drawn) == len(seeds)


@pytest.mark.parametrize("key", [(-1, 0), (0, -1), (2**64, 0), (0, 2**32), (0, 0, 2**32)])
def test_numbers_that_are_no_words_are_refused(key: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no key"):
        unit_noise((1,), Draw.START, *key)


def test_purposes_of_the_other_library_are_refused() -> None:
    with pytest.raises(ValueError, match="by torch"):
        numpy_generator(Draw.START, 0)
    with pytest.raises(ValueError, match="by numpy"):
        generator(Draw.PATIENT, 0)
