"""An evaluation as one page of HTML that needs nothing beside itself, not even a script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prdit_core.files import write_text
from prdit_core.provenance import SYNTHETIC
from prdit_core.reports import figures
from prdit_core.reports.copies import alarms, copies_section
from prdit_core.reports.gallery import draw_all, gallery
from prdit_core.reports.looks import legend, looks, markers, told_apart
from prdit_core.reports.markup import Html, joined, paragraph, tag
from prdit_core.reports.origins import footer, method
from prdit_core.reports.summary import sentences
from prdit_core.reports.tables import distances_table, sets_table
from prdit_core.reports.tissues import tissues_table
from prdit_core.reports.wscore import wscore_section

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prdit_core.metrics.evaluation import Description, Evaluation
    from prdit_core.reports.gallery import Pictures
    from prdit_core.volume import Volume

TITLE = "How near are generated CT volumes to real ones?"
STYLE = Path(__file__).with_name("style.css")
# Nothing is fetched, and nothing runs, whatever names of sets and files say.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
DISTANCES = (
    "An encoder describes each volume by a list of numbers, its features. Distances between the "
    "features of generated and of real volumes say how alike the two sets are. The first row is "
    "how far two halves of the real set are from each other: no model can be told to be better "
    "than that. Below each number is the interval it lies in with a confidence of 95 %; two sets "
    "whose intervals overlap are not told apart and marked ≈. The dashed line is the first row."
)
TISSUES = (
    "How many voxels have the HU of each tissue. In brackets the difference from the real set in "
    "points of per cent: orange is too much of it, blue too little."
)
HISTOGRAMS = "The same without bands. Curves that lie on that of the real set are good."
SPECTRA = (
    "How sharp volumes are in details of each size: the mean square of the gradient, with its "
    "interval. On the right, 1 is as in the real set. Blurred volumes fall off towards fine "
    "details; noisy ones rise there."
)
PROJECTION = (
    "Each point is a volume; near points have alike features. A good model covers the cloud of the "
    "real volumes: a clump within it lacks diversity, a cloud beside it shows something else. "
    "Volumes may still differ in directions that this plane does not show."
)
EMBEDDING = (
    "Classes of {model} on a plane of their own: hollow markers are real volumes, filled ones are "
    "generated. Classes should lie apart, and the generated volumes of each among its real ones."
)
NO_WSCORE = "Not computed. Where it could not be, the warnings above say why."
GALLERY = (
    "The first volumes of each set, not picked: axial, coronal and sagittal plane through the "
    "middle, superior up, the patient's right on the left, all in one window of HU."
)


def write_report(
    evaluation: Evaluation, pictures: Iterable[tuple[str, str, Volume]], file: Path
) -> Path:
    """Write the page of an evaluation.

    Parameters
    ----------
    pictures : (name of its set, its own name, the volume) of what is shown, read one at a time:
        up to `gallery.SHOWN` volumes of the real set and of each fake, and `pictured_pairs`

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    return write_text(file, page(evaluation, draw_all(evaluation, pictures)))


def page(evaluation: Evaluation, pictures: Pictures) -> str:
    """The whole page; pictures are sources of images by set and volume."""
    body = [
        tag("header", tag("h1", TITLE), paragraph(_subtitle(evaluation))),
        _box("At a glance", sentences(evaluation), "glance"),
        alarms(evaluation),
        _box("To be careful about", evaluation.warnings, "warning"),
        *_sections(evaluation, pictures),
        footer(evaluation),
    ]
    head = joined([_meta(), tag("title", TITLE), tag("style", Html(STYLE.read_text("utf-8")))])
    whole = tag("html", tag("head", head), tag("body", tag("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def _sections(evaluation: Evaluation, pictures: Pictures) -> list[Html]:
    """What leads to each section, and all of them, in the order in which newcomers ask."""
    contents = {
        "What was compared": [sets_table(evaluation), method(evaluation)],
        "Pictures": [paragraph(GALLERY), gallery(evaluation, pictures)],
        "Distance from the real volumes": [paragraph(DISTANCES), distances_table(evaluation)],
        "W-score: models in pairs": _pairs_of_models(evaluation),
        "Tissues": [paragraph(TISSUES), tissues_table(evaluation), *_histograms(evaluation)],
        "Size of details": [paragraph(SPECTRA), *_spectra(evaluation)],
        "Where the volumes lie": [paragraph(PROJECTION), *_projection(evaluation)],
        "Copies of training volumes": [copies_section(evaluation, pictures)],
    }
    links = (tag("a", title, href=f"#{_anchor(title)}") for title in contents)
    sections = (
        tag("section", tag("h2", title, id=_anchor(title)), *parts)
        for title, parts in contents.items()
    )
    return [tag("nav", *links), *sections]


def _anchor(title: str) -> str:
    return title.partition(":")[0].lower().replace(" ", "-")


def _pairs_of_models(evaluation: Evaluation) -> list[Html]:
    scored = evaluation.wscore
    return [paragraph(NO_WSCORE) if scored is None else wscore_section(scored)]


def _histograms(evaluation: Evaluation) -> list[Html]:
    look = looks(evaluation)
    drawing = figures.histograms(_curves(evaluation), look)
    return [paragraph(HISTOGRAMS), legend(look.items()), drawing]


def _spectra(evaluation: Evaluation) -> list[Html]:
    look = looks(evaluation)
    drawing = figures.spectra(_curves(evaluation), look, evaluation.real_name)
    return [legend(look.items()), drawing]


def _projection(evaluation: Evaluation) -> list[Html]:
    look, plane = looks(evaluation), evaluation.projection
    drawing = figures.projection(plane.points, plane.explained, look)
    own = [legend(look.items()), drawing, paragraph(f"Method: {plane.method}.")]
    return [*own, *_embedding(evaluation)]


def _embedding(evaluation: Evaluation) -> list[Html]:
    """Real and generated volumes by class, where a class was named."""
    entry = evaluation.embedding
    if entry is None:
        return []
    look = told_apart(entry.points)
    words = paragraph(EMBEDDING.format(model=entry.model))
    drawing = figures.embedding(entry, look)
    return [words, markers(look.items()), drawing, paragraph(f"Method: {entry.method}.")]


def _curves(evaluation: Evaluation) -> dict[str, Description]:
    """Histogram and spectrum by set."""
    return {evaluation.real_name: evaluation.real, **evaluation.fakes}


def _subtitle(evaluation: Evaluation) -> str:
    sets = f"{', '.join(evaluation.fakes)} against {evaluation.real_name}"
    return f"{sets}. Generated volumes are {SYNTHETIC}."


def _box(title: str, lines: Iterable[str], kind: str) -> Html:
    """Sentences in a frame; nothing where there are none."""
    items = [tag("li", line) for line in lines]
    content = (tag("strong", title), tag("ul", *items))
    return tag("div", *content, class_=f"box {kind}") if items else Html("")


def _meta() -> Html:
    return Html(
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="color-scheme" content="light dark">'
    )
