"""What the site takes from outside docs/, and how it reads our docstrings; see mkdocs.yml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
HELP = ROOT / "src/napari_prdit/help"
DECISIONS = ROOT / "docs/decisions"
# Links of README.md and its sisters, as they are from the top of the site.
MOVED = (
    ("](docs/decisions)", "](decisions/README.md)"),
    ("](docs/", "]("),
    ("](CONTRIBUTING.md)", "](contributing.md)"),
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put into the navigation what comes one file at a time: decisions, and help of the docks."""
    helps = [f"help/{page.name}" for page in sorted(HELP.glob("*.md"))]
    if helps:
        config.nav.insert(3, {"Help of the docks": helps})
    decisions = [f"decisions/{page.name}" for page in sorted(DECISIONS.glob("[0-9]*.md"))]
    config.nav.append({"Decisions": ["decisions/README.md", *decisions]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README and its sisters as pages, and examples as files to look at."""
    taken = {ROOT / source: target for source, target in PAGES.items()}
    taken |= {page: f"help/{page.name}" for page in HELP.glob("*.md")}
    taken |= {script: f"examples/{script.name}" for script in ROOT.glob("examples/*.py")}
    for source, target in taken.items():
        files.append(File.generated(config, target, abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links of pages from the top of the repository point into the site."""
    if page.file.src_uri not in PAGES.values():
        return markdown
    for written, meant in MOVED:
        markdown = markdown.replace(written, meant)
    return markdown


class DescriptionsBesideNames(griffe.Extension):
    """Our docstrings write `name : what it is`, since annotations have the type."""

    SECTION = re.compile(r"(?:Parameters|Attributes)\n-+\n(?:.+\n?|\n(?=\S+(?:, \S+)* :))+")
    ENTRY = re.compile(r"^(\w+(?:, \w+)*) : (.+)$", re.MULTILINE)

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Move each description to a line of its own."""
        if obj.docstring is not None:
            obj.docstring.value = self.SECTION.sub(
                lambda section: self.ENTRY.sub(r"\1\n    \2", section.group()), obj.docstring.value
            )
