"""The site of the documentation: every page has its place, every link its target."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import prdit_core

ROOT = Path(__file__).resolve().parents[1]
# What a browser loads by itself, as against links that people follow.
LOADED = re.compile(r"""<(?:script|img|iframe)[^>]+src="?([^" >]+)|<link[^>]+href="?([^" >]+)""")


def test_every_public_name_has_its_entry_in_the_api() -> None:
    text = "".join(page.read_text("utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    entries = set(re.findall(r"^::: prdit_core\.(\w+)$", text, re.MULTILINE))
    assert set(prdit_core.__all__) - entries == set()


@pytest.mark.slow
def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Strict: a page that is in no menu, a link or an anchor without target, is a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"index.html", "reproduce.html", "tutorial.html"} <= {page.name for page in pages}
    for page in pages:
        addresses = [one or other for one, other in LOADED.findall(page.read_text("utf-8"))]
        assert [a for a in addresses if a.startswith(("http", "//"))] == [], page.name
    for style in tmp_path.rglob("*.css"):
        assert (
            re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text("utf-8")) == []
        )
