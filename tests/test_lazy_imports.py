"""Importing a package or asking for help loads no torch, and the public face is whole."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import prdit_core

HEAVY = (
    "torch",
    "matplotlib",
    "napari",
    "qtpy",
    "lightning_fabric",
    "SimpleITK",
    "nibabel",
    "pydicom",
)
PUBLIC = (
    "Decomposition",
    "Prediction",
    "Prior",
    "Volume",
    "decompose_levels",
    "decompose_state",
    "energy_shares",
    "evaluate",
    "evaluate_steps",
    "generate",
    "generate_steps",
    "import_official",
    "load",
    "open_sets",
    "preprocess",
    "read_evaluation",
    "read_measurement",
    "read_volume",
    "simulate",
    "train",
    "train_steps",
    "write_measurement",
    "write_report",
    "write_volume",
)
HELP = """
import contextlib, os, runpy, sys
for arguments in {all!r}:
    sys.argv = ["prdit-core", *arguments]
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            runpy.run_module("prdit_core.cli", run_name="__main__")
    except SystemExit as end:
        assert not end.code, (arguments, end.code)
    assert "torch" not in sys.modules, arguments
print("done")
"""


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def loaded_by(code: str) -> set[str]:
    """Which of `HEAVY` a fresh interpreter has loaded after running `code`."""
    report = f"\nprint('loaded', *(name for name in {HEAVY!r} if name in sys.modules))"
    return set(run("import sys\n" + code + report).splitlines()[-1].split()[1:])


@pytest.mark.parametrize("package", ["prdit_core", "napari_prdit"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert not loaded_by(f"import {package}")


@pytest.mark.slow
def test_the_plugin_opens_volumes_without_torch() -> None:
    assert "torch" not in loaded_by("from napari_prdit.sample_data import phantom; phantom()")


TRAIN_AND_GENERATE = """
import sys
sys.modules["SimpleITK"] = None  # importing it fails
import prdit_core
from pathlib import Path
folder = Path({folder!r})
prdit_core.phantoms(4, size=8, seed=0, out=folder / "data")  # they are all there
run = prdit_core.TrainConfig(
    stage="local", data=folder / "data", run=folder / "run", iterations=1, batch_size=1, threads=1
)
prdit_core.train(run)
one = prdit_core.SamplingConfig(steps=1)
volume = prdit_core.generate(prdit_core.load(folder / "run"), one)
prdit_core.write_volume(volume, folder / "volume.nii.gz")
"""


@pytest.mark.slow
def test_training_and_generating_need_no_itk(tmp_path: Path) -> None:
    """Its wheel is larger than all others together, and a machine with a GPU may lack it."""
    prdit_core.phantoms(4, size=8, seed=0, out=tmp_path / "data")
    run(TRAIN_AND_GENERATE.format(folder=str(tmp_path)))
    assert (tmp_path / "volume.nii.gz").stat().st_size


GPU_TESTS = """
import pytest, sys
class Missing:
    def find_spec(name, *_):
        if name in ("SimpleITK", "hypothesis"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing)
sys.exit(pytest.main(
    ["-q", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "tests/core/test_gpu.py"]
    + ["-k", "goes_on_exactly"]
))
"""


@pytest.mark.slow
def test_gpu_tests_need_only_what_their_wheels_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRDIT_TEST_GPU", "cpu")
    monkeypatch.chdir(Path(__file__).parents[1])
    assert "1 passed" in run(GPU_TESTS)


COMMANDS = (
    *("generate", "decompose", "preprocess", "phantoms", "train", "train-encoder"),
    *("evaluate", "runs", "import", "info", "devices", "simulate", "augment", "latents"),
)


@pytest.mark.slow
def test_help_loads_no_torch() -> None:
    helps = [["--help"], *([name, "--help"] for name in COMMANDS)]
    assert run(HELP.format(all=helps)).split() == ["done"]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_resolve(name: str) -> None:
    assert callable(getattr(prdit_core, name))
    assert name in dir(prdit_core)


def test_all_that_is_promised_is_there() -> None:
    assert [name for name in prdit_core.__all__ if not hasattr(prdit_core, name)] == []


def test_other_names_do_not() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = prdit_core.no_such_name


@pytest.mark.slow
def test_verbs_stay_functions_once_their_modules_were_imported() -> None:
    """Importing a module sets it as attribute of its package, where it could hide a lazy name."""
    verbs = ["decompose", "generate", "phantoms", "preprocess", "simulate", "train"]
    modules = "".join(f"import prdit_core.verbs.{verb} as _\n" for verb in verbs)
    kinds = "".join(f"print(type(prdit_core.{verb}).__name__)\n" for verb in verbs * 2)
    assert run(f"{modules}import prdit_core\n{kinds}").split() == ["function"] * 12


def test_generate_steps_takes_what_the_public_face_promises() -> None:
    parameters = inspect.signature(prdit_core.generate_steps).parameters
    promised = {"seed", "index", "edit", "device"}
    assert list(parameters)[:2] == ["prior", "config"] and promised <= parameters.keys()
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in promised)
    assert {"steps", "sampler", "k", "grid"} <= prdit_core.SamplingConfig.model_fields.keys()


def test_a_prior_denoises_and_decomposes() -> None:
    assert list(inspect.signature(prdit_core.Prior.denoise).parameters) == ["self", "x_t", "t"]
    assert list(inspect.signature(prdit_core.Prior.decompose).parameters) == ["self", "x_t", "t"]
    parts = inspect.signature(prdit_core.Decomposition).parameters
    assert {"local", "global_residual", "total"} <= parts.keys()
