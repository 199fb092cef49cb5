"""Figures show the numbers that are written beside them."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from rumjax.lab import report
from rumjax.lab.report import figures, tables


def changed(record, **fields):
    return record.__class__(**{**vars(record), **fields})


@pytest.fixture
def scored(work, experiment):
    return report.scored(work, experiment)


@pytest.fixture
def rendered(monkeypatch):
    """The figures that were drawn, instead of their pixels."""
    drawn = []
    monkeypatch.setattr(figures, "render", lambda figure, _: drawn.append(figure))
    return drawn


def test_the_same_numbers_give_the_same_bytes(scored):
    first, second = figures.histogram(scored).drawn, figures.histogram(scored).drawn
    assert first == second
    assert Image.open(io.BytesIO(first.png)).size == (1440, 518)
    assert first.pdf.startswith(b"%PDF")


def test_what_a_figure_shows_is_written_beside_it(work, experiment, scored):
    results, _ = tables.collect(work, experiment)
    for picture in figures.draw(results, scored):
        picture.write(work)
        rows = list(csv.DictReader(io.StringIO(picture.drawn.data)))
        assert rows
        assert all(rows[0])
        for ending in ("png", "pdf", "csv"):
            assert work.has(f"figures/{picture.name}.{ending}")
    rows = csv.DictReader(io.StringIO(figures.tug_of_war(results).drawn.data))
    shown = {(row["name"], row["measure"]): float(row["mean"]) for row in rows}
    for each in results.summaries:
        assert shown[each.line.name, "tow"] == each.measures["tow"].mean
    rows = list(csv.DictReader(io.StringIO(figures.histogram(scored).drawn.data)))
    counted = sum(int(row["examples"]) for row in rows if row["set"] == "D")
    assert counted == len(scored.values)


def test_every_method_is_a_dot_at_its_mean_with_its_interval(work, experiment, rendered):
    results, _ = tables.collect(work, experiment)
    figures.tug_of_war(results)
    panel = rendered[0].axes[0]
    dots = [tuple(each[0].get_xydata()[0]) for each in panel.containers]
    bars = [each[2][0].get_segments()[0][:, 0] for each in panel.containers]
    means = [each.measures["tow"].mean for each in results.methods]
    assert [x for x, _ in dots] == means
    assert len({y for _, y in dots}) == len(means)
    for (low, high), summary in zip(bars, results.methods, strict=True):
        np.testing.assert_allclose((high - low) / 2, summary.measures["tow"].half_width)


def test_floor_and_ceiling_are_where_the_calibration_is(work, experiment, rendered):
    results, _ = tables.collect(work, experiment)
    figures.tug_of_war(results)
    lines = rendered[0].axes[0].lines
    marks = [each.get_xdata()[0] for each in lines if len(each.get_xdata()) == 2]
    for which, mark in zip((tables.ORIGINAL, tables.SECOND), marks, strict=True):
        assert results.calibration(which).measures["tow"].mean == mark


def test_a_single_seed_can_be_drawn(work, experiment):
    results, _ = tables.collect(work, changed(experiment, seeds=experiment.seeds[:1]))
    drawn = [figures.tug_of_war(results), figures.times(results)]
    assert all(Image.open(io.BytesIO(each.drawn.png)).verify() is None for each in drawn)


def test_a_method_that_takes_no_time_is_left_out_of_a_logarithmic_axis(work, experiment, rendered):
    for seed in experiment.seeds:
        piece = work.read_json(f"rows/tuned_seed{seed}.json")
        piece["row"]["rte"] = 0.0
        work.write_json(f"rows/tuned_seed{seed}.json", piece)
    results, _ = tables.collect(work, experiment)
    figures.times(results)
    assert len(rendered[0].axes[0].containers) == len(results.methods) - 1


def test_the_images_shown_are_the_least_and_the_most_memorized(scored, rendered):
    figures.examples(scored, columns=3)
    titles = [axes.get_title() for axes in rendered[0].get_axes()]
    shown = [float(title.split("\n")[1].replace("−", "-")) for title in titles]
    forget = np.sort(scored.values[np.concatenate(list(scored.parts.values()))])
    expected = [*forget[:3], *forget[13:16], *forget[::-1][:3]]
    np.testing.assert_allclose(shown, expected, atol=0.0051)


def test_color_images_and_odd_class_names_can_be_drawn(scored):
    names = ("$\\frac{$", "犬", "a name that is much too long for a caption")
    images = np.repeat(scored.images, 3, axis=-1)
    picture = figures.examples(scored._replace(images=images, class_names=names), columns=2)
    assert Image.open(io.BytesIO(picture.drawn.png)).verify() is None


@pytest.mark.parametrize("sizes", [{"random": 2}, {"class_0": 5, "class_1": 4, "$a": 3, "d": 2}])
def test_any_parts_of_any_size_can_be_drawn(scored, sizes):
    ends = np.cumsum(list(sizes.values()))
    parts = dict(zip(sizes, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    for picture in (figures.histogram, figures.examples):
        assert (
            Image.open(io.BytesIO(picture(scored._replace(parts=parts)).drawn.png)).verify() is None
        )


def test_the_correlation_shown_is_that_of_the_ranks(scored, rendered):
    figures.agreement(scored, scored.values**3 - 1)
    assert rendered[0].axes[0].get_title() == "Spearman’s ρ = 1.00"


def test_scores_that_are_all_equal_have_no_correlation(scored, rendered):
    figures.agreement(scored, np.zeros_like(scored.values))
    assert rendered[0].axes[0].get_title() == ""


def test_without_a_bank_the_scores_shown_are_the_proxy(work, experiment, rendered):
    work.write_arrays("scores.npz", c_proxy=work.read_arrays("scores.npz")["c_proxy"])
    results, _ = tables.collect(work, experiment)
    drawn = {each.name: each for each in figures.draw(results, report.scored(work, experiment))}
    assert drawn["scores"].title == "C-proxy of the training set"
    assert "proxy" not in drawn


def test_of_many_parts_the_first_are_drawn_and_the_rest_is_pointed_to(work, experiment, rendered):
    results, _ = tables.collect(work, experiment)
    few = figures.by_part(results, ["tow_low", "tow_high"])
    many = figures.by_part(results, [f"tow_{part}" for part in "abcdefg"])
    assert [len(figure.axes) for figure in rendered] == [2, figures.MOST_PARTS]
    assert "results.csv" in many.caption
    assert "results.csv" not in few.caption
