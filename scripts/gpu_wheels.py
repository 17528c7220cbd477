"""Collect the wheels that a machine with a GPU lacks, for one that has no network.

Assumed there: torch, numpy, scipy and matplotlib with all that they need, and pip. Left out besides
is SimpleITK, whose wheel is four times all others: training and generating do without it, and
phantoms, which are cut out with it, come along made (`make gpu-data`). Versions are those of this
environment.

    python scripts/gpu_wheels.py [--out FOLDER] [--python 3.12] [--platform NAME ...]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

WANTED = ("napari-prdit", "pytest", "hatchling")
THERE = ("torch", "numpy", "scipy", "matplotlib")
LEFT_OUT = {"napari-prdit", "simpleitk"}
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MOST_BYTES = 12_000_000


def normal(name: str) -> str:
    """A package's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_by(names: tuple[str, ...], python: str) -> dict[str, str]:
    """Versions of these packages and of all that they need, on Linux with that Python."""
    place = {"python_version": python, "sys_platform": "linux", "extra": ""}
    versions: dict[str, str] = {}
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in versions:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another Python or platform than this one
            continue
        versions[name] = package.version
        needs = [Requirement(line) for line in package.requires or ()]
        waiting += [normal(n.name) for n in needs if n.marker is None or n.marker.evaluate(place)]
    return versions


def main() -> None:
    """Fetch them, and say how large they are."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("work/gpu-wheels"))
    parser.add_argument("--python", default=here, help="of the machine with the GPU")
    parser.add_argument("--platform", nargs="+", default=PLATFORMS)
    options = parser.parse_args()
    there = needed_by(THERE, options.python).keys() | LEFT_OUT
    wheels = needed_by(WANTED, options.python)
    pins = [f"{name}=={wheels[name]}" for name in sorted(wheels.keys() - there)]
    tags = [f"--platform={name}" for name in options.platform]
    fixed = ["--no-deps", "--only-binary=:all:", f"--python-version={options.python}", *tags]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(options.out)]
    for old in options.out.glob("*.whl"):
        old.unlink()
    subprocess.run([*command, *fixed, *pins], check=True)
    size = sum(file.stat().st_size for file in options.out.glob("*.whl"))
    print(f"{len(pins)} wheels for Python {options.python} in {options.out}, {size / 1e6:.1f} MB")
    if size > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
