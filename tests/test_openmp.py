"""OpenMP's threads wait briefly, unless the user chose how; all processes of ours inherit it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from prdit_core.openmp import SHORT_WAIT, USERS_CHOICE, wait_briefly

PRINT = "import os, prdit_core, sys; print(os.environ.get({name!r}), 'torch' in sys.modules)"


def said(name: str, **more: str) -> str:
    """What a fresh process that imported the package has in its environment."""
    kept = {key: value for key, value in os.environ.items() if key not in USERS_CHOICE}
    command = [sys.executable, "-c", PRINT.format(name=name)]
    done = subprocess.run(command, env=kept | more, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", SHORT_WAIT)
def test_importing_the_package_sets_it_before_torch_is_loaded(name: str) -> None:
    assert said(name) == f"{SHORT_WAIT[name]} False"


@pytest.mark.parametrize("name", USERS_CHOICE)
def test_the_user_s_choice_stays(name: str) -> None:
    environment = {name: "passive"}
    wait_briefly(environment)
    assert environment == {name: "passive"}
    assert said("GOMP_SPINCOUNT", OMP_WAIT_POLICY="active") == "None False"


@pytest.mark.slow
def test_results_stay_the_same() -> None:
    """The same bytes whether threads spin or sleep."""
    code = (
        "import hashlib, prdit_core, torch; torch.set_num_threads(2);"
        "v = prdit_core.generate(prdit_core.load('demo').at_size(32),"
        "prdit_core.SamplingConfig(steps=3));"
        "print(hashlib.sha256(v.voxels_hu.tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | setting, capture_output=True, check=True
        ).stdout
        for setting in ({"GOMP_SPINCOUNT": "1000000"}, {"OMP_WAIT_POLICY": "passive"}, SHORT_WAIT)
    }
    assert len(digests) == 1
