"""The page of an evaluation: whole in itself, honest, and readable whatever sets are called."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from evaluations import chest, convergence, invented, measured, pictures, typed
from PIL import Image

from prdit_core.errors import OutputError
from prdit_core.reports.copies import alarms, copies_section, pictured_pairs
from prdit_core.reports.gallery import draw_all, gallery
from prdit_core.reports.looks import legend, looks
from prdit_core.reports.markup import tag
from prdit_core.reports.numbers import plain
from prdit_core.reports.page import page, write_report
from prdit_core.reports.summary import sentences
from prdit_core.reports.tables import distances_table
from prdit_core.reports.wscore import wscore_section
from prdit_core.volume import Volume, axial_affine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VOID = {"meta", "img"}
HOSTILE = '<script>alert("1")</script> & $x_1$ _\x1b'


class Reader(HTMLParser):
    """Elements, their attributes, and text in the order of the page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(content)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.pieces.append(" ".join(text.split()))

    @property
    def text(self) -> str:
        return " ".join(filter(None, self.pieces))


def read(evaluation: dict[str, Any], drawn: dict[tuple[str, str], str] | None = None) -> Reader:
    return Reader(page(typed(evaluation), drawn or {}))


def decoded(source: str) -> Image.Image:
    kind, content = source.split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def rows_of(content: str) -> list[str]:
    """Rows of the first table, as markup."""
    return re.findall("<tr>.*?</tr>", content[: content.index("</table>")])


@pytest.mark.slow
def test_the_page_needs_nothing_beside_itself(tmp_path: Path) -> None:
    evaluation = invented()
    file = write_report(typed(evaluation), pictures(evaluation), tmp_path / "report.html")
    read_back = Reader(file.read_text(encoding="utf-8"))
    assert read_back.open == []
    names = {name for name, _ in read_back.elements}
    assert not names & {"script", "link", "iframe", "object", "base", "form"}
    for _, attributes in read_back.elements:
        for key in ("src", "href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,"))
    content = file.read_text(encoding="utf-8")
    # Names of the namespaces of SVG are the only addresses.
    addresses = re.findall(r"https?://[^\s\"'<>)]+", content)
    assert {address.split("/")[2] for address in addresses} <= {"www.w3.org"}
    assert "url(http" not in content and "@import" not in content


@pytest.mark.slow
def test_the_same_evaluation_gives_the_same_page(tmp_path: Path) -> None:
    evaluation = invented()
    files = [
        write_report(typed(evaluation), pictures(evaluation), tmp_path / name) for name in "ab"
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_names_of_sets_and_files_cannot_become_markup() -> None:
    evaluation = invented(first=HOSTILE, real="real <b>")
    pair = {"fake": "<img src=x onerror=y>", "training": '"><b>', "distance": 0.1}
    evaluation["fakes"][HOSTILE]["nearest"] |= {"flagged": [pair], "pairs": [pair]}
    evaluation["warnings"] = ["<i>careful</i>"]
    evaluation["wscore"]["log_ratio"][0][1] = None
    evaluation["wscore"]["reasons"] = {f"{HOSTILE} | blurred": '" onmouseover="x'}
    content = page(typed(evaluation), {(HOSTILE, "a"): "data:image/png;base64,"})
    reader = Reader(content)
    assert reader.open == []
    names = {name for name, _ in reader.elements}
    assert not names & {"script", "b", "i"}
    assert not [a for _, attributes in reader.elements for a in attributes if a.startswith("on")]
    assert '<script>alert("1")</script> & $x_1$' in reader.text
    assert "\x1b" not in content


def test_text_is_escaped_and_markup_is_not_escaped_twice() -> None:
    inner = tag("b", "1 < 2")
    assert tag("p", inner, "&", title='"') == '<p title="&quot;"><b>1 &lt; 2</b>&amp;</p>'


def test_the_first_row_is_real_against_real_and_the_best_is_marked() -> None:
    head, floor, base, blurred = rows_of(distances_table(typed(invented())))
    assert "lower is better" in head
    assert "real against real" in floor and "badge" not in floor
    assert base.count(">best<") == 5 and "badge" not in blurred


def test_sets_that_cannot_be_told_apart_are_both_marked() -> None:
    evaluation = invented()
    evaluation["fakes"]["blurred"]["fid"] = measured(2.3, 0.3)
    _, _, base, blurred = rows_of(distances_table(typed(evaluation)))
    assert ">best<" in base and blurred.count("≈ best") == 1


def test_the_best_diversity_is_that_of_the_real_set() -> None:
    evaluation = invented()
    evaluation["fakes"]["blurred"]["ms_ssim"] = measured(0.1, 0.01)  # as noise has it
    _, _, base, blurred = rows_of(distances_table(typed(evaluation)))
    assert base.count(">best<") == 5 and "badge" not in blurred


def test_one_fake_alone_is_no_winner() -> None:
    evaluation = invented()
    del evaluation["fakes"]["blurred"]
    assert "badge" not in "".join(rows_of(distances_table(typed(evaluation))))
    assert sentences(typed(evaluation))[0].startswith(
        "base against real volumes: corrected FID 1.60"
    )


def test_the_glance_says_who_is_nearest_and_what_the_floor_is() -> None:
    nearest, alike, copies = sentences(typed(invented()))
    assert nearest.startswith("base lies nearest to the real volumes: corrected FID 1.60")
    assert "Halves of the real set differ less: 0.100" in nearest
    assert alike.startswith("blurred: volumes resemble each other more")
    assert copies == "No volume looks like a copy of a training volume."


def test_a_fake_within_the_floor_is_said_to_be_so() -> None:
    evaluation = invented()
    evaluation["fakes"]["base"]["fid_unbiased"] = measured(0.2, 0.2)
    assert "not told apart from halves of the real set" in sentences(typed(evaluation))[0]


@pytest.mark.slow
def test_copies_are_in_a_red_box_above_everything_else() -> None:
    evaluation = invented()
    copy = {"fake": "f1.nii.gz", "training": "t1.nii.gz", "distance": 0.02}
    evaluation["fakes"]["base"]["nearest"]["flagged"] = [copy] * 25
    content = page(typed(evaluation), {})
    assert content.index('<div class="box alarm">') < content.index("<section>")
    box = alarms(typed(evaluation))
    assert "base: 25 volumes look like copies of a training volume" in box
    assert box.count("f1.nii.gz") == 20 and "5 more" in box
    assert '<div class="pair alarm">' in content
    assert '<td class="alarm">25 of 200</td>' in content
    assert alarms(typed(invented())) == ""


def test_the_page_says_below_which_distance_volumes_are_flagged() -> None:
    text = Reader(copies_section(typed(invented()), {})).text
    assert "nearer than 66.0 HU: 0.5 × the median of the real volumes" in text
    assert "132 (124 to 140)" in text


def test_an_interval_below_zero_is_drawn_whole() -> None:
    evaluation = invented()
    evaluation["fakes"]["base"]["fid_unbiased"] = measured(-1.0, 2.0)
    _, floor, base, _ = rows_of(distances_table(typed(evaluation)))
    axis, drawn = (
        re.search(f'x1="([\\d.]+)"[^>]*class="{kind}"', base) for kind in ("axis", "range")
    )
    assert axis and drawn and axis[1] == drawn[1]  # both begin at the least of the column
    dots = [float(x) for x in re.findall(r'cx="([\d.]+)"', floor + base)]
    assert dots[len(dots) // 2] < dots[0]


def test_without_training_volumes_the_page_says_copies_were_not_looked_for() -> None:
    evaluation = invented()
    del evaluation["sets"]["training"]
    evaluation["nearest_scale"] = None
    for fake in evaluation["fakes"].values():
        fake["nearest"] = None
    assert "Not checked: no training volumes were given" in copies_section(typed(evaluation), {})
    assert sentences(typed(evaluation))[-1] == (
        "Whether volumes are copies of training volumes was not checked."
    )
    assert pictured_pairs(typed(evaluation)) == []


@pytest.mark.slow
def test_warnings_stand_above_the_tables() -> None:
    text = read(invented()).text
    assert text.index("blurred has 64 volumes; below 100") < text.index("what it is")
    evaluation = invented()
    evaluation["warnings"] = []
    assert "To be careful about" not in read(evaluation).text


def test_the_matrix_names_the_direction_and_why_a_cell_is_empty() -> None:
    evaluation = invented()
    _, first, second = rows_of(wscore_section(typed(evaluation).wscore))
    assert "+1.05 ± 0.06" in first and "-1.05 ± 0.06" in second
    assert "42, 143, 208" in first and "213, 94, 0" in second  # nearer is blue, farther orange
    evaluation["wscore"]["log_ratio"] = [[None, None], [None, None]]
    evaluation["wscore"]["reasons"] = {"base | blurred": "no distance was left"}
    evaluation["wscore"]["converged"] = {"critic 2": convergence("it knows its volumes")}
    text = Reader(wscore_section(typed(evaluation).wscore)).text
    assert "base | blurred: no distance was left" in text
    assert "Do not trust the critic 2, which did not converge: it knows its volumes" in text


@pytest.mark.slow
def test_numbers_that_could_not_be_had_are_named_so() -> None:
    evaluation = invented()
    evaluation["wscore"] = evaluation["real"]["ms_ssim"] = None
    for fake in evaluation["fakes"].values():
        fake["ms_ssim"] = None
        fake["fid_unbiased"] = None
        fake["fid"]["low"] = fake["fid"]["high"] = None
    head, _, base, _ = rows_of(distances_table(typed(evaluation)))
    assert base.count(">n/a<") == 1 and "MS-SSIM" not in head and "unsure" in base
    assert "W-score: models in pairs Not computed." in read(evaluation).text


@pytest.mark.slow
def test_it_says_with_what_it_was_made_and_what_it_is_not_for() -> None:
    evaluation = invented()
    text = read(evaluation).text
    assert "ab" * 32 in text and "cd" * 32 in text
    assert "not comparable with the paper's FID" in text
    assert "synthetic, not for diagnosis" in text and "prdit-core 0.1.0" in text
    assert "/data/someone" not in text  # whose disk it was is nobody's business


def test_the_gallery_shows_the_first_volumes_of_real_and_fakes() -> None:
    evaluation = invented()
    shown = gallery(typed(evaluation), draw_all(typed(evaluation), pictures(evaluation)))
    captions = re.findall("<figcaption>(.*?)</figcaption>", shown)
    assert captions == [f"{letter}{i}.nii.gz" for letter in "rff" for i in range(4)]


def test_pairs_lie_beside_each_other_with_their_distance() -> None:
    evaluation = invented()
    drawn = draw_all(typed(evaluation), pictures(evaluation))
    content = copies_section(typed(evaluation), drawn)
    (pair, *_) = re.findall('<div class="pair">(.*?)</div>', content, re.DOTALL)
    sources = re.findall('src="(.*?)"', pair)
    assert sources == [drawn["base", "f0.nii.gz"], drawn["training", "t0.nii.gz"]]
    assert "differ by 90.0 HU; 0.68 × what is usual for real volumes" in pair
    assert set(pictured_pairs(typed(evaluation))) <= drawn.keys()


def test_pairs_whose_volumes_are_not_at_hand_are_listed_without_pictures() -> None:
    text = Reader(copies_section(typed(invented()), {})).text
    assert "no picture generated: f0.nii.gz" in text


def test_pictures_have_square_millimetres_and_the_window_of_the_protocol() -> None:
    evaluation = invented()
    evaluation["protocol"]["window_hu"] = [0, 100]
    hu = np.full((8, 16, 16), 50, np.int16)
    hu[:, :, 8:] = 400
    volume = Volume(hu, axial_affine((10.0, 10.0, 10.0), hu.shape))
    (source,) = draw_all(typed(evaluation), [("base", "a", volume)]).values()
    picture = decoded(source)
    assert picture.mode == "L" and picture.size == (3 * 160 + 6, 160)
    axial, coronal = picture.crop((0, 0, 160, 160)), picture.crop((163, 0, 323, 160))
    assert axial.getpixel((20, 80)) == pytest.approx(128, abs=1)
    assert axial.getpixel((140, 80)) == 255
    grey = np.asarray(coronal)[:, 20]  # half as high as it is wide
    assert grey[30] == 0 and grey[130] == 0 and grey[80] == pytest.approx(128, abs=1)


@pytest.mark.slow
def test_volumes_are_read_one_at_a_time() -> None:
    evaluation, alive = invented(), []

    def counted() -> Iterator[tuple[str, str, Volume]]:
        import gc
        import weakref

        for i in range(6):
            volume = chest(i)
            alive.append(weakref.ref(volume))
            yield "base", str(i), volume
            del volume
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1

    assert len(draw_all(typed(evaluation), counted())) == 6


@pytest.mark.slow
def test_a_page_with_many_sets_stays_small() -> None:
    few, many = invented(), invented()
    for i in range(10):
        many["sets"][f"model {i}"] = many["sets"]["base"]
        many["fakes"][f"model {i}"] = many["fakes"]["base"]
    sizes = [
        sum(map(len, draw_all(typed(evaluation), pictures(evaluation)).values()))
        / (4 * len(evaluation["sets"]))
        for evaluation in (few, many)
    ]
    assert sizes[1] < 0.7 * sizes[0]
    assert len(page(typed(many), {})) < 2**20  # without its pictures


def test_every_set_has_its_own_look_in_all_legends() -> None:
    evaluation = invented()
    for i in range(10):
        evaluation["sets"][f"model {i}"] = evaluation["sets"]["base"]
        evaluation["fakes"][f"model {i}"] = evaluation["fakes"]["base"]
    names = looks(typed(evaluation))
    keys = [legend([("", look)]) for look in names.values()]
    assert next(iter(names)) == "held-out" and len(keys) == len(set(keys)) == 13


@pytest.mark.slow
def test_drawings_take_the_colours_of_the_page() -> None:
    content = page(typed(invented()), {})
    drawings = re.findall('<div class="drawing".*?</div>', content, re.DOTALL)
    assert len(drawings) == 3
    for drawing in drawings:
        assert "currentColor" in drawing and "#010203" not in drawing
        assert "#000000" not in drawing and "#ffffff" not in drawing


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (1.6, "1.60"),
        (123.4, "123"),
        (4321.0, "4,321"),
        (0.00214, "0.00214"),
        (0.0000214, "2.14 × 10⁻⁵"),
        (-3e6, "-3.00 × 10⁶"),
        (float("nan"), "n/a"),
    ],
)
def test_numbers_are_written_for_people(value: float, words: str) -> None:
    assert plain(value) == words


@pytest.mark.slow
def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_report(typed(invented()), [], tmp_path / "file" / "report.html")
