"""The page of a run, as HTML and on the terminal."""

import base64
import html.parser
import io
import math
import re

import pytest
from PIL import Image
from rich.console import Console

from rumjax.lab import report
from rumjax.lab.report import tables

FIGURES = ["accuracy", "examples", "parts", "proxy", "scores", "time", "tow"]


class Elements(html.parser.HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, page):
        super().__init__()
        self.all, self.open, self.text = [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def write(work, experiment, *, figures=False):
    console = Console(file=io.StringIO(), width=80)
    rows = report.write(work, experiment, console, figures=figures)
    page = (work.path / "report.html").read_text(encoding="utf-8")
    return rows, page, console.file.getvalue()


def changed(record, **fields):
    return record._replace(**fields)


def test_the_page_needs_no_other_file_and_holds_every_figure_of_the_run(work, experiment):
    _, page, printed = write(work, experiment, figures=True)
    elements = Elements(page)
    assert elements.open == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in elements.all}
    assert not any("href" in attributes for _, attributes in elements.all)
    assert not re.search(r"https?://|url\(|@import", page)
    assert "partial" not in page + printed
    sources = [attributes["src"] for _, attributes in elements.all if "src" in attributes]
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    embedded = {base64.b64decode(source.split(",")[1]) for source in sources}
    files = sorted((work.path / "figures").glob("*.png"))
    assert [file.stem for file in files] == FIGURES
    assert {file.read_bytes() for file in files} == embedded
    for file in files:
        Image.open(file).verify()


def test_names_and_configuration_are_escaped(work, experiment):
    experiment = changed(experiment, name="<b>bold</b> & co")
    _, page, printed = write(work, experiment)
    assert "<b>bold" not in page
    assert "<script" not in page
    text = Elements(page).text
    assert "<b>bold</b> & co" in text
    assert '"note": "<script>"' in text
    assert "<b>bold</b> & co" in printed


def test_the_rows_are_those_of_results_csv(work, experiment):
    rows, _, _ = write(work, experiment)
    lines = (work.path / "results.csv").read_text().splitlines()
    assert len(rows) == len(lines) - 1
    assert {row["seed"] for row in rows} == set(experiment.seeds)
    assert "scrub" not in {row["method"] for row in rows}


def test_a_partial_run_is_reported_with_what_is_missing(work, experiment):
    (work.path / f"rows/mixed_seed{experiment.seeds[0]}.json").unlink()
    for seed in experiment.seeds:
        (work.path / f"rows/tuned_seed{seed}.json").unlink()
    rows, page, printed = write(work, experiment)
    text = Elements(page).text
    assert "mixed: seed 4\n" in text
    assert "tuned: seeds 4, 5, 6\n" in text
    assert "(2 of 3 seeds)" in text
    assert "4 runs are missing" in printed
    assert len(rows) == 3 * 8 - 4


def test_a_run_that_has_only_begun_still_has_a_page(work, experiment):
    work.forget("rows/*", "*.npz", "dynamics/*", "environment.json", stages=())
    rows, page, _ = write(work, experiment, figures=True)
    assert rows == []
    assert "There are no results of unlearning methods yet." in page
    assert "<img" not in page


def test_a_single_seed_has_no_half_widths(work, experiment):
    _, page, printed = write(work, changed(experiment, seeds=experiment.seeds[:1]))
    assert Elements(page).text.count("±") == 1  # where the table is explained
    assert "±" not in printed
    assert "nan" not in Elements(page).text


def test_times_have_no_half_widths_and_gradients_have(work, experiment):
    for name in work.names("rows/*"):
        piece = work.read_json(name)
        piece["row"]["rge"] = piece["row"]["rte"] + 0.001
        work.write_json(name, piece)
    results, _ = tables.collect(work, experiment)
    rte, rge = (results.summary("mixed").measures[name] for name in ("rte", "rge"))
    assert rge.value == pytest.approx(rte.value + 0.001)
    assert math.isnan(rte.half_width)
    assert rge.half_width > 0


def test_methods_keep_their_names_on_every_page(work, experiment):
    """Two that run the same are told apart, in a terminal of 80 characters too."""
    twin = experiment.methods[0].__class__(**{**vars(experiment.methods[0]), "name": "gone"})
    long = twin.__class__(**{**vars(twin), "name": "finetune_at_a_hundredth_of_the_rate"})
    for seed in experiment.seeds:
        row = work.read_json(f"rows/tuned_seed{seed}.json")
        work.write_json(f"rows/{long.name}_seed{seed}.json", row)
    methods = (*experiment.methods, twin, long)
    _, page, printed = write(work, changed(experiment, methods=methods))
    table = (work.path / "tables/summary.md").read_text()
    for method in methods:
        assert f"<td>{method.name}</td>" in page
        assert f"| {method.name} |" in table
        assert method.name in "".join(printed.split()) or method is long
    assert "finetune_at_a" in printed
    assert "…" not in printed
    assert "original → finetune → salun, RUM" in page


def test_a_report_can_do_without_figures(work, experiment):
    _, page, _ = write(work, experiment)
    assert "<img" not in page
    assert "Figures" not in Elements(page).text
    assert not work.names("figures/*")
    assert work.has("results.csv")
    report.write_tuning(work, [{"method": "tuned"}], figures=False)
    assert not work.names("figures/*")
