"""The figures of a run: what is drawn where, and that all of it can be drawn."""

import csv
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rumjax.lab import report
from rumjax.lab.report import drawing, figures, method_figures, score_figures, tables
from rumjax.lab.report.tables import Calibration
from rumjax.metrics import Interval


def changed(record, **fields):
    return record._replace(**fields)


@pytest.fixture
def scored(work, experiment):
    return report.read_scored(work, experiment)


def test_the_same_numbers_give_the_same_bytes(scored):
    first, second = score_figures.histogram(scored).drawn, score_figures.histogram(scored).drawn
    assert first == second
    assert Image.open(io.BytesIO(first.png)).size == (1440, 518)
    assert first.pdf.startswith(b"%PDF")


def test_what_a_figure_shows_is_written_beside_it(work, experiment, scored, drawn):
    results, _ = tables.collect(work, experiment)
    for picture in figures.draw(results, scored):
        picture.write(work)
        rows = list(csv.DictReader(io.StringIO(picture.drawn.data)))
        assert rows
        assert all(rows[0])
        for ending in ("png", "pdf", "csv"):
            assert work.has(f"figures/{picture.name}.{ending}")
    rows = csv.DictReader(io.StringIO(method_figures.tug_of_war(results).drawn.data))
    shown = {(row["name"], row["measure"]): float(row["mean"]) for row in rows}
    for each in results.summaries:
        assert shown[each.line.name, "tow"] == each.measures["tow"].value
    rows = list(csv.DictReader(io.StringIO(score_figures.histogram(scored).drawn.data)))
    counted = sum(int(row["examples"]) for row in rows if row["set"] == "D")
    assert counted == len(scored.values)


def test_every_method_is_a_dot_at_its_mean_with_its_interval(work, experiment, drawn):
    results, _ = tables.collect(work, experiment)
    method_figures.tug_of_war(results)
    panel = drawn[0].axes[0]
    dots = [tuple(each[0].get_xydata()[0]) for each in panel.containers]
    bars = [each[2][0].get_segments()[0][:, 0] for each in panel.containers]
    means = [each.measures["tow"].value for each in results.methods]
    assert [x for x, _ in dots] == means
    assert len({y for _, y in dots}) == len(means)
    for (low, high), summary in zip(bars, results.methods, strict=True):
        np.testing.assert_allclose((high - low) / 2, summary.measures["tow"].half_width)


def test_floor_and_ceiling_are_where_the_calibration_is(work, experiment, drawn):
    results, _ = tables.collect(work, experiment)
    method_figures.tug_of_war(results)
    lines = drawn[0].axes[0].lines
    marks = [each.get_xdata()[0] for each in lines if len(each.get_xdata()) == 2]
    for which, mark in zip((Calibration.ORIGINAL, Calibration.SECOND), marks, strict=True):
        assert results.calibration(which).measures["tow"].value == mark


def test_a_single_seed_can_be_drawn(work, experiment):
    results, _ = tables.collect(work, changed(experiment, seeds=experiment.seeds[:1]))
    drawn = [method_figures.tug_of_war(results), method_figures.costs(results)]
    assert all(Image.open(io.BytesIO(each.drawn.png)).verify() is None for each in drawn)


def test_a_method_that_takes_no_time_is_left_out_of_a_logarithmic_axis(work, experiment, drawn):
    for seed in experiment.seeds:
        piece = work.read_json(f"rows/tuned_seed{seed}.json")
        piece["row"]["rte"] = 0.0
        work.write_json(f"rows/tuned_seed{seed}.json", piece)
    results, _ = tables.collect(work, experiment)
    method_figures.costs(results)
    assert len(drawn[0].axes[0].containers) == len(results.methods) - 1


def test_costs_are_gradients_where_they_are_counted(work, experiment, drawn):
    for name in work.names("rows/*"):
        piece = work.read_json(name)
        piece["row"]["rge"] = 0.25
        work.write_json(name, piece)
    results, _ = tables.collect(work, experiment)
    method_figures.costs(results)
    (axes,) = drawn[0].axes
    assert {each[0].get_xdata()[0] for each in axes.containers} == {0.25}
    assert axes.get_xlabel() == "gradients of unlearning / gradients of retraining"


def test_intervals_of_few_seeds_end_where_values_do_and_the_seeds_are_shown(
    work, experiment, drawn
):
    """Student's interval of two seeds at 0.2 and 0.9 is 0.55 ± 4.4."""
    two = changed(experiment, seeds=experiment.seeds[:2])
    for seed, tow in zip(two.seeds, (0.2, 0.9), strict=True):
        piece = work.read_json(f"rows/tuned_seed{seed}.json")
        piece["row"] |= {"tow": tow, "tow_mia": tow}
        work.write_json(f"rows/tuned_seed{seed}.json", piece)
    results, _ = tables.collect(work, two)
    assert results.summary("tuned").measures["tow"].half_width > 4
    method_figures.tug_of_war(results)
    for panel in drawn[0].axes:
        low, high = panel.get_xlim()
        assert -0.1 <= low < high <= 1.1
        bars = [each[2][0].get_segments()[0][:, 0] for each in panel.containers]
        assert min(bar[0] for bar in bars) >= 0
        assert max(bar[1] for bar in bars) <= 1
    circles = [sorted(line.get_xdata()) for line in drawn[0].axes[0].lines]
    assert [0.2, 0.9] in circles


@pytest.mark.parametrize("seeds", [1, 5])
def test_one_seed_and_many_seeds_are_not_shown_one_by_one(seeds):
    rows = tuple({"seed": seed, "tow": 0.5} for seed in range(seeds))
    summary = tables.Summary(tables.Line("a", "a", "vanilla"), rows, {})
    assert summary.seeds("tow") == []


@pytest.mark.parametrize("name", ["$a", "_a", "$a$", "a$_b$", "\\", "RUM^F", "\udcff", "[b]", "%s"])
def test_any_name_is_drawn_as_it_is(name):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0], [0], label=drawing.label(name))
    legend = axes.legend()
    assert len(legend.get_texts()) == 1
    axes.set(title=drawing.label(name), xlabel=drawing.label(name))
    assert drawing.render(figure, []).png.startswith(b"\x89PNG")


def test_the_images_shown_are_the_least_and_the_most_memorized(scored, drawn):
    score_figures.examples(scored, columns=3)
    titles = [axes.get_title() for axes in drawn[0].get_axes()]
    shown = [float(title.split("\n")[1].replace("−", "-")) for title in titles]
    forget = np.sort(scored.values[np.concatenate(list(scored.parts.values()))])
    expected = [*forget[:3], *forget[13:16], *forget[::-1][:3]]
    np.testing.assert_allclose(shown, expected, atol=0.0051)


def test_color_images_and_odd_class_names_can_be_drawn(scored):
    names = ("$\\frac{$", "犬", "a name that is much too long for a caption")
    images = np.repeat(scored.images, 3, axis=-1)
    picture = score_figures.examples(scored._replace(images=images, class_names=names), columns=2)
    assert Image.open(io.BytesIO(picture.drawn.png)).verify() is None


@pytest.mark.parametrize("sizes", [{"random": 2}, {"class_0": 5, "class_1": 4, "$a": 3, "d": 2}])
def test_any_parts_of_any_size_can_be_drawn(scored, sizes):
    ends = np.cumsum(list(sizes.values()))
    parts = dict(zip(sizes, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    for draw in (score_figures.histogram, score_figures.examples):
        picture = draw(scored._replace(parts=parts))
        assert Image.open(io.BytesIO(picture.drawn.png)).verify() is None


def test_the_correlation_shown_is_that_of_the_ranks(scored, drawn):
    score_figures.agreement(scored, scored.values**3 - 1)
    assert drawn[0].axes[0].get_title() == "Spearman’s ρ = 1.00"


def test_scores_that_are_all_equal_have_no_correlation(scored, drawn):
    score_figures.agreement(scored, np.zeros_like(scored.values))
    assert drawn[0].axes[0].get_title() == ""


def test_without_a_bank_the_scores_shown_are_the_proxy(work, experiment, drawn):
    work.write_arrays("scores.npz", {"c_proxy": work.read_arrays("scores.npz")["c_proxy"]})
    results, _ = tables.collect(work, experiment)
    drawn = {
        each.name: each for each in figures.draw(results, report.read_scored(work, experiment))
    }
    assert drawn["scores"].title == "C-proxy of the training set"
    assert "proxy" not in drawn


def test_of_many_parts_the_first_are_drawn_and_the_rest_is_pointed_to(work, experiment, drawn):
    results, _ = tables.collect(work, experiment)
    few = method_figures.by_part(results, ["tow_low", "tow_high"])
    many = method_figures.by_part(results, [f"tow_{part}" for part in "abcdefg"])
    assert [len(figure.axes) for figure in drawn] == [2, method_figures.MOST_PARTS]
    assert "results.csv" in many.caption
    assert "results.csv" not in few.caption


def test_error_bars_have_the_ends_of_an_interval_and_are_never_negative():
    assert drawing.error_bar(Interval(0.5, 0.25, 1.0)) == [[0.25], [0.5]]
    assert drawing.error_bar(Interval(0.5, np.nan, np.nan)) == [[0.0], [0.0]]
    assert drawing.error_bar(Interval(0.5, 0.75, 1.0)) == [[0.0], [0.5]]


def test_no_two_of_many_methods_look_alike_even_without_color():
    looks = [drawing.look(position) for position in range(14)]
    assert len({(look.marker, look.style) for look in looks}) == 14


def test_labels_are_no_formulas_but_for_the_raised_f():
    assert drawing.label("boot $5, RUM^F") == r"boot \$5, RUM$^F$"
