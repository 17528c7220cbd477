"""All that pages tell people to type runs, or stands here with the reason why not."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from chests import HELD_OUT, TRAINING, chests, save
from latents import tiny_latent
from toys import TINY_CHAIN, tiny_checkpoint
from typer.main import get_command
from typer.testing import CliRunner

from prdit_core.cli.app import app
from prdit_core.data.io import read_volume, write_labels, write_volume
from prdit_core.data.phantoms import make_phantom
from prdit_core.verbs.phantoms import phantoms
from prdit_core.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (
        ROOT / "README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/howto/*.md"),
        *ROOT.glob("docs/api/*.md"),
    )
)
PROGRAMS = ("prdit-core", "pip", "make", "napari", "python", "torchrun", "srun")
INLINE = re.compile(rf"`((?:{'|'.join(PROGRAMS)}) [^`]+)`")
NAME_ALONE = re.compile(r"prdit-core [a-z-]+")
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)

INSTALLS = "installs packages; make demo and make test do the same from the clone"
MAKES = "builds or uses an environment of its own; its recipe is read by make -n below"
PAPER = "the paper's data and sizes: days on GPUs"
PROCESSES = "several processes; tests/core/test_distributed.py runs them"
FILES = "needs files of others; tests/core/test_importer*.py import such files"
TUNES = "takes a minute; tests/core/test_reconstruct_command.py tunes"
NOT_RUN = {
    "prdit-core reconstruct tooth.h5 --rows 0 1 --binning 4 --every 9 --method sirt "
    "--iterations 60 --out tooth": "test_reconstruct_faults.py runs it on the file in ../shared",
    "pip install h5py": INSTALLS,
    "pip install highdicom": INSTALLS,
    "pip install .": INSTALLS,
    "pip install .[all]": INSTALLS,
    "pip install huggingface_hub": INSTALLS,
    "python examples/01_generate.py": "tests/test_examples.py runs all examples",
    "prdit-core tune-tv m.npz": TUNES,
    "prdit-core tune-tv views-8.npz --phantoms 1": TUNES,
    "prdit-core bench": "measures the machine for a while; tests/core/test_speed.py runs it",
    "prdit-core runs stop RUN": "needs a run at work; tests/core/test_runs.py stops one",
    "prdit-core train-encoder --out DIR": "takes hours; tests/core/test_encoders.py trains one",
    "prdit-core import OFFICIAL.pt --norm layer --size 128 --channels 1 --heads 12 "
    "--out prdit-128": FILES,
    "prdit-core import BIFLOW.pt --codec AE.ckpt --release 3d-meddiffusion --out med": FILES,
    "prdit-core preprocess LIDC-IDRI --preset lidc-idri --size 128 --workers 16 --out "
    "lidc-128": PAPER,
    "prdit-core preprocess RAD-ChestCT --preset rad-chestct --size 128 --workers 16 --out "
    "rad-128": PAPER,
    "prdit-core train --stage local --model PRDiT-B/12/4 --data lidc-128 --run lidc/local "
    "--batch-size 64 --precision bf16-mixed": PAPER,
    "prdit-core train --stage global --from lidc/local --model PRDiT-B/12/4 --data "
    "lidc-128 --run lidc/4L --batch-size 64 --precision bf16-mixed": PAPER,
    "prdit-core generate --checkpoint lidc/4L --preset paper --count 1000 --device cuda "
    "--out lidc-4L": PAPER,
    "prdit-core evaluate --protocol paper --encoder RESNET-50 --real lidc-128 --training "
    "lidc-128 --fake 4L=lidc-4L --device cuda --out table-1": PAPER,
    "prdit-core preprocess LIDC-IDRI --preset lidc-idri --size 256 --workers 16 --out "
    "lidc-256": PAPER,
    "prdit-core train --stage refine --from lidc/4L --data lidc-256 --run lidc/4L-256 "
    "--batch-size 8 --precision bf16-mixed": PAPER,
    "prdit-core train --stage finetune --from lidc/4L-256 --data lidc-256 --run "
    "lidc/4L-256-tuned --batch-size 2 --precision bf16-mixed": PAPER,
    "python -m napari_prdit": "opens a window; tests/plugin/test_main.py does",
    "torchrun --standalone --nproc-per-node 2 --no-python -- prdit-core train --stage local "
    "--data data --run runs/two": PROCESSES,
    "torchrun --standalone --nproc-per-node 2 --no-python -- prdit-core generate --count 100 "
    "--out volumes": PROCESSES,
    "srun --ntasks 8 --ntasks-per-node 4 prdit-core train --stage local --data data "
    "--run runs/eight": PROCESSES,
}

# What makes a command take seconds: options that get these values, there or not.
SMALL = {
    "augment": {"--count": "1", "--steps": "1"},
    "generate": {"--size": "32", "--steps": "2", "--count": "3"},
    "decompose": {"--size": "32"},
    "reconstruct": {"--count": "2", "--steps": "2"},
    "phantoms": {"--count": "3"},
    "train": {
        "--iterations": "2",
        "--batch-size": "2",
        "--save-every": "2",
        "--preview-every": "1000",
    },
    "evaluate": {"--no-wscore": None},
}
# The same for blocks of Python.
SMALL_PYTHON = {"at_size(64)": "at_size(32)", "steps=30": "steps=2"}
DEMO_CANNOT_BE_TRAINED_IN_SECONDS = ("train", "preprocess")


def commands(page: str) -> list[str]:
    """Commands of a page: first the lines of its blocks, then what stands in running text.

    A name alone, such as `prdit-core evaluate`, is no command to type.
    """
    text = (ROOT / page).read_text("utf-8")
    blocks = [block for language, block in FENCE.findall(text) if language in ("", "sh")]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    spans = INLINE.findall(FENCE.sub("", text))
    found = [*lines, *(span for span in spans if not NAME_ALONE.fullmatch(span))]
    plain = (" ".join(shlex.split(line, comments=True)) for line in found)
    return list(dict.fromkeys(filter(None, plain)))


def python(page: str) -> list[str]:
    """Blocks of Python on a page."""
    text = (ROOT / page).read_text("utf-8")
    return [block for language, block in FENCE.findall(text) if language == "python"]


ALL = {command: page for page in PAGES for command in commands(page)}


def why_not(command: str) -> str | None:
    """Why a command does not run here."""
    return MAKES if command.startswith("make ") else NOT_RUN.get(command)


def runs_here(command: str) -> bool:
    return command.startswith("prdit-core ") and why_not(command) is None


def any_runs_here(page: str) -> bool:
    return any(map(runs_here, commands(page)))


def test_every_command_runs_or_is_listed_with_a_reason() -> None:
    assert [command for command in ALL if not (runs_here(command) or why_not(command))] == []
    assert NOT_RUN.keys() <= ALL.keys()
    assert len([c for c in ALL if runs_here(c)]) >= 15
    blocks = "".join(block for page in PAGES for block in python(page))
    assert all(usual in blocks for usual in SMALL_PYTHON)


def test_every_make_target_has_a_recipe() -> None:
    made = sorted({command.split()[1] for command in ALL if command.startswith("make ")})
    assert {"demo", "test", "napari", "gallery", "docs"} <= set(made)
    for target in made:
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(c for c in ALL if "prdit-core " in c))
def test_every_option_exists(command: str) -> None:
    words = command.partition("prdit-core ")[2].split()
    known = get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    options = {option for parameter in known.params for option in parameter.opts}
    options |= {option for parameter in known.params for option in parameter.secondary_opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: scans, held-out phantoms, finer data, models."""
    shelf = tmp_path_factory.mktemp("shelf")
    save(chests(TRAINING, 4), shelf / "SCANS")
    (shelf / "LABELS").mkdir()
    for path in sorted((shelf / "SCANS").iterdir()):
        scan = read_volume(path)
        write_labels(replace(scan, voxels_hu=scan.voxels_hu > 0), shelf / "LABELS" / path.name)
    save(chests(HELD_OUT, 1), shelf / "SCAN")
    (shelf / "MR-SCANS").mkdir()
    for index in range(2):  # as of strangers, whose files do not say that they are MR
        mr = make_phantom(0, index, spacing_mm=8.0, region="head", modality="t1").volume
        write_volume(Volume(mr.voxels_hu, mr.affine), shelf / "MR-SCANS" / f"{index}.nii")
    phantoms(3, size=32, seed=HELD_OUT, out=shelf / "held-out")
    phantoms(3, size=64, seed=TRAINING, out=shelf / "data-64")
    (shelf / "classes.json").write_text('{"chest": ["held-out", "data-64"]}')
    tiny_checkpoint(shelf / "DEMO", size=16, model=TINY_CHAIN)
    tiny_checkpoint(shelf / "BASE", size=32, edge_mm=320.0)
    tiny_latent(shelf / "LATENT")
    (shelf / "chests.json").write_text('{"chest": ["held-out"]}')
    painted = make_phantom(0, 0, spacing_mm=10.0)
    write_labels(Volume(painted.labels, painted.volume.affine), shelf / "PAINTED.nii.gz")
    return shelf


@pytest.fixture
def desk(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of that, to work in."""
    desk = shutil.copytree(shelf, tmp_path / "desk")
    monkeypatch.chdir(desk)
    return desk


def tiny(command: str, desk: Path) -> list[str]:
    """The words of a command, with stand-ins for what a user would put in, at small settings."""
    stand_ins = {
        "SCAN": str(next((desk / "SCAN").iterdir())),
        "SCANS...": str(desk / "SCANS"),
        "MR-SCANS...": str(desk / "MR-SCANS"),
        "RUN": "runs/local",
        "BASE": str(desk / "BASE"),
        "128,128,64": "16,32,16",  # a grid of the tiny LATENT
    }
    words = command.split()[1:]
    verb = words[0]
    if verb in DEMO_CANNOT_BE_TRAINED_IN_SECONDS:
        stand_ins["demo"] = str(desk / "DEMO")
    words = [stand_ins.get(word, word) for word in words]
    of_a_run = any(word.startswith("runs/") for word in words)
    sized = of_a_run or "--shape" in words or "--condition" in words
    small = {} if "--method" in words else SMALL.get(verb, {})
    if "tv" in words:
        small = {"--tv-strength": "2.5e-6"}  # or it tunes itself; test_reconstruct_command.py
    for option, value in small.items():
        if option in words and value is not None:
            words[words.index(option) + 1] = value
        elif option not in words and not (option == "--size" and sized):
            words += [option] if value is None else [option, value]
    if verb in ("preprocess", "phantoms"):  # pages show several ways into one folder
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    return words


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if python(page) or any_runs_here(page)])
def test_a_page_works_from_its_top_to_its_end(page: str, desk: Path) -> None:
    """Its commands in their order, then its Python."""
    for command in filter(runs_here, commands(page)):
        words = tiny(command, desk)
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{command}\n{shlex.join(words)}\n{done.output}"
    for block in python(page):
        for usual, small in SMALL_PYTHON.items():
            block = block.replace(usual, small)
        exec(compile(block, page, "exec"), {})


def test_nothing_is_said_to_be_on_an_index() -> None:
    """Until it is: then this test goes, and README, docs and messages change together."""
    texts = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.py")]
    claim = re.compile(r"pip install[^\n.]*napari-prdit")
    assert [str(text) for text in texts if claim.search(text.read_text("utf-8"))] == []
