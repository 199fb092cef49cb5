"""The page of a run: complete in one file, escaped, and right when a run is partial."""

import base64
import html.parser
import io
import re

import pytest
from PIL import Image
from rich.console import Console

from rumjax.lab import report

FIGURES = ["accuracy", "examples", "parts", "proxy", "scores", "time", "tow"]


class Elements(html.parser.HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.text = [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves the figures out, which take longest."""
    monkeypatch.setattr(report.figures, "draw", lambda *_: [])


def write(work, experiment):
    console = Console(file=io.StringIO(), width=80)
    rows = report.write(work, experiment, console)
    page = (work.path / "report.html").read_text(encoding="utf-8")
    return rows, page, console.file.getvalue()


def changed(record, **fields):
    return record.__class__(**{**vars(record), **fields})


def test_the_page_needs_no_other_file_and_holds_every_figure_of_the_run(work, experiment):
    _, page, printed = write(work, experiment)
    elements = Elements(page)
    assert elements.open == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in elements.found}
    assert not any("href" in attributes for _, attributes in elements.found)
    assert not re.search(r"https?://|url\(|@import", page)
    assert "partial" not in page + printed
    sources = [attributes["src"] for _, attributes in elements.found if "src" in attributes]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    embedded = {base64.b64decode(source.split(",")[1]) for source in sources}
    files = sorted((work.path / "figures").glob("*.png"))
    assert [file.stem for file in files] == FIGURES
    assert {file.read_bytes() for file in files} == embedded
    for file in files:
        Image.open(file).verify()


def test_names_and_configuration_are_escaped(work, experiment, undrawn):
    experiment = changed(experiment, name="<b>bold</b> & co")
    _, page, printed = write(work, experiment)
    assert "<b>bold" not in page
    assert "<script" not in page
    text = Elements(page).text
    assert "<b>bold</b> & co" in text
    assert '"note": "<script>"' in text
    assert "<b>bold</b> & co" in printed


def test_the_rows_are_those_of_results_csv(work, experiment, undrawn):
    rows, _, _ = write(work, experiment)
    lines = (work.path / "results.csv").read_text().splitlines()
    assert len(rows) == len(lines) - 1
    assert {row["seed"] for row in rows} == set(experiment.seeds)
    assert "scrub" not in {row["method"] for row in rows}


def test_a_partial_run_is_reported_with_what_is_missing(work, experiment, undrawn):
    (work.path / f"rows/mixed_seed{experiment.seeds[0]}.json").unlink()
    for seed in experiment.seeds:
        (work.path / f"rows/tuned_seed{seed}.json").unlink()
    rows, page, printed = write(work, experiment)
    text = Elements(page).text
    assert "original → finetune → salun (RUM): seed 4\n" in text
    assert "finetune (vanilla): seeds 4, 5, 6\n" in text
    assert "(2 of 3 seeds)" in text
    assert "4 runs are missing" in printed
    assert len(rows) == 3 * 8 - 4


def test_a_run_that_has_only_begun_still_has_a_page(work, experiment):
    work.forget("rows/*", "*.npz", "dynamics/*", "environment.json", stages=())
    rows, page, _ = write(work, experiment)
    assert rows == []
    assert "There are no results of unlearning methods yet." in page
    assert "<img" not in page


def test_a_single_seed_has_dashes_for_half_widths(work, experiment, undrawn):
    _, page, printed = write(work, changed(experiment, seeds=experiment.seeds[:1]))
    assert "± –" in Elements(page).text
    assert "± –" in printed
    assert "nan" not in Elements(page).text
