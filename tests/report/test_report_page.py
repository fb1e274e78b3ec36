"""The page: one file, escaped, private, with the answer first; and what it says when something is missing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from medseg.errors import MedsegError
from medseg.ranking.table import normalise
from medseg.report.answer import interval, podium, tally, versus_best
from medseg.report.content import Facts, Page, Paragraph, Picture, Points, Section, Table, table_of
from medseg.report.page import png_size, render, shrunk
from medseg.report.report import Options, write_report
from medseg.report.source import Source, from_study


class Reader(HTMLParser):
    """The text of a page, its tags, and faults of their nesting."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


EVIL = '<script>alert("1")</script>'


@pytest.fixture
def page() -> Page:
    blocks = (
        Paragraph(EVIL, "lead"),
        Points((EVIL,)),
        Facts(((EVIL, EVIL),)),
        Table(EVIL, ("loss", EVIL), ((EVIL, "0.5"),), (False, True), EVIL),
        Picture("f", EVIL, EVIL, EVIL, "data:image/png;base64,AA", 10, 20),
    )
    return Page(EVIL, EVIL, (Section("a", EVIL, blocks), Section("b", "B", ()), Section("c", "C", ())), EVIL)


def test_everything_is_escaped_and_well_formed(page):
    text = render(page)
    assert "<script" not in text
    read = Reader(text)
    assert (read.faults, read.open) == ([], [])
    assert read.text.count(EVIL) >= 12
    picture = next(attributes for tag, attributes in read.tags if tag == "img")
    assert picture["alt"] == EVIL
    assert (picture["width"], picture["height"]) == ("10", "20")


def test_it_has_language_viewport_and_one_heading(page):
    read = Reader(render(page))
    tags = [tag for tag, _ in read.tags]
    assert ("html", {"lang": "en"}) in read.tags
    assert any(attributes.get("name") == "viewport" for _, attributes in read.tags)
    assert tags.count("h1") == 1
    assert [a["scope"] for tag, a in read.tags if tag == "th"] == ["col", "col", "row"]
    assert [a.get("class") for tag, a in read.tags if tag == "td"] == ["number"]
    assert [a["href"] for tag, a in read.tags if tag == "a"] == ["#content", "#a", "#b", "#c"]


def test_the_answer_stands_before_the_contents(page):
    text = render(page)
    assert text.index('id="a"') < text.index("<nav") < text.index('id="b"')


def test_a_long_table_says_what_it_leaves_out():
    table = table_of(pd.DataFrame({"loss": list("abc"), "n": [1, 2, 3]}), "t", "A note.", rows=2)
    assert table.rows == (("a", "1"), ("b", "2"))
    assert table.right == (False, True)
    assert table.note == "A note. The first 2 of 3 rows; the file has them all."


def test_an_svg_is_shrunk_to_what_is_seen():
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<!-- a -->\n<svg>\n  <metadata>x\n</metadata>\n  <g/>\n</svg>\n'
    assert shrunk(svg) == "<svg>\n<g/>\n</svg>"


def test_no_png_no_size(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(MedsegError, match="not a PNG"):
        png_size(tmp_path / "a.png")


def table(**losses: list[float]) -> pd.DataFrame:
    """A normalised table of two data sets and two repeats, Dice by loss with a little spread."""
    rows = []
    for loss, values in losses.items():
        for number, value in enumerate(values):
            for repeat in (0, 1):
                for case in range(6):
                    rows.append(
                        {
                            "dataset": f"d{number}",
                            "model": "unet",
                            "loss": loss,
                            "repeat": repeat,
                            "case": f"c{case}",
                            "metric": "dice",
                            # the last term: equal values for all cases would be taken for copies
                            "value": value + 0.002 * case + 0.001 * repeat * (case % 2) + 1e-6 * len(rows),
                        }
                    )
    return normalise(pd.DataFrame(rows))


CLEAR = {"good": [0.8, 0.801, 0.802], "same": [0.8, 0.8, 0.801], "bad": [0.4, 0.401, 0.402]}


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Source(table(**CLEAR), "clear")
    return write_report(source, tmp_path_factory.mktemp("clear"), Options(draws=200, title="Which <loss>?"))


def test_the_answer_is_said_in_words(clear):
    text = Reader(clear.read_text(encoding="utf-8")).text
    assert "Which <loss>?" in text
    assert "On these 3 data sets good has the highest mean Dice of 3 losses: 0.806" in text
    assert "Tied with it: same. Really worse: bad." in text
    assert "Of 3 pairs, 2 differ really (by more than 0.01 Dice), 1 are tied (within it), and 0 are" in text


def test_what_a_table_cannot_tell_is_left_out_with_a_reason(clear):
    text = Reader(clear.read_text(encoding="utf-8")).text
    assert "learning curves: no curves.csv of these runs is at hand" in text
    assert "cases under each contestant, and failures: only the table is known, not the images" in text
    assert "dice against lesion size: the table has no column reference_px" in text
    assert "Only the table is known: settings, versions and dates are not." in text


def test_figures_and_tables_lie_beside_it(clear):
    folder = clear.parent
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    assert {"means_loss", "heatmap_loss_by_dataset", "places_loss", "distributions_loss_by_dataset"} <= names
    assert {path.stem for path in (folder / "figures").glob("*.svg")} == names
    pairs = pd.read_csv(folder / "tables" / "pairs.csv")
    assert pairs["verdict"].tolist().count("real") == 2
    assert {"ranking_dataset", "places", "levels", "suspicious", "missing"} <= {
        path.stem for path in (folder / "tables").glob("*.csv")
    }


def test_the_same_table_gives_the_same_page(clear, tmp_path):
    again = write_report(Source(table(**CLEAR), "clear"), tmp_path, Options(draws=200, title="Which <loss>?"))
    assert again.read_bytes() == clear.read_bytes()


def test_names_from_a_table_are_escaped(tmp_path, no_plots):
    named = table(**{EVIL: [0.5, 0.6], "b&amp;": [0.4, 0.5]})
    text = write_report(Source(named, EVIL), tmp_path, Options(draws=200)).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "b&amp;amp;" in text


def test_a_published_table_of_means_is_enough(tmp_path):
    rows = [
        {"dataset": f"d{d}", "model": model, "metric": "dice", "value": 0.7 + 0.01 * m + 0.02 * d}
        for d in range(4)
        for m, model in enumerate(("unet", "fcn", "emcad"))
    ]
    page = write_report(Source(normalise(pd.DataFrame(rows)), "published"), tmp_path, Options(of="model"))
    text = Reader(page.read_text(encoding="utf-8")).text
    assert "emcad has the highest mean Dice of 3 models: 0.750" in text
    assert "distributions over cases, lesion sizes: the table has no values per case" in text


def test_holes_and_doubts_are_named(tmp_path, no_plots):
    holed = table(**CLEAR)
    holed = holed[~((holed["loss"] == "bad") & (holed["dataset"] == "d2") & (holed["repeat"] == "1"))]
    flat = (holed["loss"] == "same") & (holed["dataset"] == "d0") & (holed["repeat"] == "0")
    holed.loc[flat, "value"] = 0.25
    page = write_report(Source(holed, "holed"), tmp_path, Options(draws=200))
    read = Reader(page.read_text(encoding="utf-8"))
    assert "1 run that is ranked is suspicious" in read.text
    assert "1 run of the grid is missing or incomplete" in read.text
    assert re.search(r"Suspicious runs .*constant", read.text)
    assert re.search(r"Missing from the grid .* d2 unet bad 1", read.text)


def test_a_study_is_reported_whole(tiny_report):
    text = Reader(tiny_report.read_text(encoding="utf-8")).text
    names = {path.stem for path in (tiny_report.parent / "figures").glob("*.png")}
    assert {"binarised_loss_discs", "failures_worst_loss", "cost_seconds_loss"} <= names
    assert any(name.startswith("curves_val_dice") for name in names)
    assert "2 of 6 planned runs have no results." in text
    assert "4 of 6 planned" in text
    assert "16 x 16" in text
    assert "medseg study run tiny.yaml medseg report tiny" in text


def test_a_page_tells_no_path_no_host_and_no_patient(tiny_report, tiny_study):
    import socket

    whole = tiny_report.read_text(encoding="utf-8")
    tables = "".join(
        path.read_text(encoding="utf-8") for path in (tiny_report.parent / "tables").glob("*.csv")
    )
    for secret in (str(tiny_study.parents[1]), "private/"):
        assert secret not in whole
        assert secret not in tables
    words = set(re.findall(r"[\w.-]+", Reader(whole).text + tables))
    assert socket.gethostname() not in words
    assert "cannot read p01.png" in Reader(whole).text
    groups = set(from_study(tiny_study).table["group"])
    assert groups
    assert not groups & words


def test_images_can_be_left_out(tiny_study, tmp_path, no_plots):
    page = write_report(from_study(tiny_study), tmp_path, Options(images=False, draws=200))
    assert not list((tmp_path / "figures").glob("binarised*")) + list(
        (tmp_path / "figures").glob("failures*")
    )
    text = page.read_text(encoding="utf-8")
    assert "image/jpeg" not in text
    assert "images of cases: they were not wanted" in Reader(text).text


def test_weights_that_were_not_kept_cost_the_images_only(tiny_study, tmp_path, no_plots):
    import shutil

    bundles = tmp_path / "bundles"
    shutil.copytree(tiny_study / "bundles", bundles)
    for weights in bundles.rglob("model.pt"):
        weights.unlink()
    whole = from_study(tiny_study)
    source = Source(whole.table, "tiny", bundles, whole.prepared)
    text = Reader(write_report(source, tmp_path, Options(draws=200)).read_text(encoding="utf-8")).text
    assert "cases under each contestant, and failures: none of 4 runs kept its weights" in text


def test_the_loss_study_s_shape_fits_one_page(wide_table, tmp_path):
    page = write_report(Source(wide_table, "loss_study"), tmp_path, Options(draws=200))
    assert page.stat().st_size < 8_000_000
    text = Reader(page.read_text(encoding="utf-8")).text
    assert "On these 6 data sets iou_focal has the highest mean Dice of 10 losses" in text
    assert "10 losses by model" in text


def test_cases_cannot_be_fewer_than_none(tmp_path):
    with pytest.raises(MedsegError, match="cases is -1"):
        write_report(Source(table(**CLEAR), "clear"), tmp_path, Options(cases=-1))


def test_an_interval_that_is_not_known_is_not_written():
    assert interval(0.1, 0.25) == "0.100 to 0.250"
    assert interval(float("nan"), 0.2) == ""


def test_verdicts_against_the_best_and_their_count():
    from medseg.ranking.judge import judge

    evidence = judge(table(**CLEAR), draws=200)
    assert versus_best(evidence) == {"same": "tied", "bad": "real"}
    assert tally(evidence).startswith("Of 3 pairs, 2 differ really")


def test_who_shares_the_most_points_is_not_said_to_lose() -> None:
    from medseg.ranking.judge import judge
    from medseg.ranking.podium import rank

    rows = [("s0", "dice", 0.9), ("s0", "bce", 0.5), ("s1", "dice", 0.5), ("s1", "bce", 0.6)]
    table = pd.DataFrame(rows, columns=["dataset", "loss", "value"]).assign(metric="dice")
    ranking, evidence = rank(table), judge(table)
    assert evidence.contestants[0] == "dice"
    assert ranking.table["contestant"][0] == "bce"  # by name: points and mean ranks are equal
    assert podium(ranking, evidence) == ""
    more = [("s2", "dice", 0.5), ("s2", "bce", 0.6)]
    table = pd.DataFrame(rows + more, columns=["dataset", "loss", "value"]).assign(metric="dice")
    assert podium(rank(table), judge(table)) == "By 3-2-1 points (dataset) bce leads with 8, not dice."


def test_the_answer_tells_these_data_sets_from_others() -> None:
    from dataclasses import replace

    from medseg.ranking.findings import find
    from medseg.ranking.judge import judge
    from medseg.report.answer import lead

    values = table(**CLEAR)
    found = find(values, "loss", None, ["dice"], {}, judge=lambda name: judge(values, "loss", name))
    evidence = found.evidence["dice"]

    def answer(here: str, elsewhere: str) -> str:
        pairs = evidence.pairs.assign(here=here, verdict=elsewhere)
        return lead(replace(found, evidence={"dice": replace(evidence, pairs=pairs)}), "dice", 3)

    assert "other data sets" not in answer("real", "real")
    here, elsewhere = answer("real", "under-powered").split(" On other data sets like these: ")
    assert here.startswith("On these 3 data sets good has the highest mean Dice")
    assert here.endswith("It is really better than every other.")
    assert elsewhere == "Not told apart from it yet: same and bad."
