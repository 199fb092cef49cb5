import base64
import html.parser
import io
import re

import numpy as np
import pytest
from conftest import SEEDS
from PIL import Image
from rich.console import Console

from rumjax import report

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


def write(work, experiment):
    console = Console(file=io.StringIO(), width=80)
    rows = report.write(work, experiment, console)
    page = (work.path / "report.html").read_text(encoding="utf-8")
    return rows, page, console.file.getvalue()


def changed(record, **fields):
    return record.__class__(**{**vars(record), **fields})


def test_the_page_needs_no_other_file_and_is_well_formed(work, experiment):
    _, page, _ = write(work, experiment)
    elements = Elements(page)
    assert elements.open == []
    assert not {"script", "link", "iframe"} & {tag for tag, _ in elements.found}
    for _, attributes in elements.found:
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes
    assert not re.search(r"https?://|url\(|@import", page)


def test_every_figure_is_in_the_page_and_is_the_file_in_figures(work, experiment):
    _, page, _ = write(work, experiment)
    images = [attributes for tag, attributes in Elements(page).found if tag == "img"]
    embedded = {base64.b64decode(each["src"].split(",")[1]) for each in images}
    files = sorted((work.path / "figures").iterdir())
    assert [file.stem for file in files] == FIGURES
    assert {file.read_bytes() for file in files} == embedded
    assert all(each["alt"] for each in images)
    for file in files:
        Image.open(file).verify()


def test_the_same_run_gives_the_same_page(work, experiment):
    assert write(work, experiment)[1] == write(work, experiment)[1]


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
    assert {row["seed"] for row in rows} == set(SEEDS)
    assert "scrub" not in {row["method"] for row in rows}


def test_a_partial_run_is_reported_with_what_is_missing(work, experiment):
    (work.path / f"rows/mixed_seed{SEEDS[0]}.json").unlink()
    for seed in SEEDS:
        (work.path / f"rows/tuned_seed{seed}.json").unlink()
    rows, page, printed = write(work, experiment)
    text = Elements(page).text
    assert "original → finetune → salun (RUM): seed 4\n" in text
    assert "finetune (vanilla): seeds 4, 5, 6\n" in text
    assert "(2 of 3 seeds)" in text
    assert "4 runs are missing" in printed
    assert len(rows) == 3 * 8 - 4


def test_a_whole_run_is_not_called_partial(work, experiment):
    _, page, printed = write(work, experiment)
    assert "partial" not in page + printed


def test_a_run_that_has_only_begun_still_has_a_page(work, experiment):
    work.forget("rows/*", "*.npz", "dynamics/*", "environment.json", stages=())
    rows, page, _ = write(work, experiment)
    assert rows == []
    assert "There are no results of unlearning methods yet." in page
    assert "<img" not in page


def test_a_single_seed_has_dashes_for_half_widths(work, experiment):
    _, page, printed = write(work, changed(experiment, seeds=SEEDS[:1]))
    assert "± –" in Elements(page).text
    assert "± –" in printed
    assert "nan" not in Elements(page).text


def test_without_a_bank_the_figures_are_of_the_proxy(work, experiment):
    scores = work.read_arrays("scores.npz")
    work.write_arrays("scores.npz", c_proxy=scores["c_proxy"])
    _, page, _ = write(work, experiment)
    assert "C-proxy of the training set" in page
    assert not work.has("figures/proxy.png")


def test_color_images_and_odd_class_names_can_be_drawn(work, experiment):
    train = experiment.data.train
    colored = train._replace(images=np.repeat(train.images, 3, axis=-1))
    names = ("$\\frac{$", "犬", "a name that is much too long for a caption")
    data = experiment.data._replace(train=colored, class_names=names)
    write(work, changed(experiment, data=data))
    assert work.has("figures/examples.png")


@pytest.mark.parametrize("sizes", [{"random": 2}, {"class_0": 5, "class_1": 4, "$a": 3, "d": 2}])
def test_any_parts_of_any_size_can_be_drawn(work, experiment, sizes):
    cuts = np.cumsum([0, *sizes.values()])
    parts = {
        name: np.arange(first, last, dtype=np.int32)
        for name, first, last in zip(sizes, cuts, cuts[1:], strict=False)
    }
    forget = np.arange(cuts[-1])
    work.write_arrays("forget_sets.npz", forget=forget, retain=np.arange(cuts[-1], 120), **parts)
    _, page, _ = write(work, experiment)
    assert f"{next(iter(sizes))} {next(iter(sizes.values()))}" in Elements(page).text
    assert work.has("figures/scores.png")
