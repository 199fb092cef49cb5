"""The figures of a report, as PNG and PDF; the same numbers give the same bytes.

Colors are Okabe and Ito's, which the color-blind tell apart, and mean the same in every figure:
`COLORS` for strategies, `SHADES` for parts of the forget set, black and gray for the calibration.
"""

import io
import itertools
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from rumjax.lab.report.columns import STRATEGIES, show_method
from rumjax.lab.report.tables import ORIGINAL, REFERENCE, SECOND, Results, Row, Summary, to_csv
from rumjax.lab.workdir import WorkDirectory

COLORS = {"vanilla": "#0072B2", "shuffle": "#CC79A7", "rum_f": "#009E73", "rum": "#E69F00"}
SHADES = ("#56B4E9", "#F0E442", "#D55E00")
MOST_PARTS = 5
INK, GRAY, PALE = "#222222", "#777777", "#CCCCCC"
MARKERS = "osD^vPXph<>d"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.bbox": "standard",
}


class Drawn(NamedTuple):
    """A figure as files."""

    png: bytes
    pdf: bytes
    data: str
    """what is drawn, as CSV"""


class Picture(NamedTuple):
    """A figure and what to look for in it."""

    name: str
    """of its file, without the ending"""
    title: str
    caption: str
    drawn: Drawn

    def write(self, work: WorkDirectory) -> None:
        """Writes `figures/NAME.png`, `.pdf`, and `.csv` with what is drawn."""
        for ending, content in {"png": self.drawn.png, "pdf": self.drawn.pdf}.items():
            with work.writing(f"figures/{self.name}.{ending}") as file:
                file.write(content)
        work.write_text(f"figures/{self.name}.csv", self.drawn.data)


class Scored(NamedTuple):
    """Scores of the training set and the forget set that they are shown with."""

    name: str
    """`memorization`, or `c_proxy` where no bank was trained"""
    values: np.ndarray
    """float32[N]"""
    parts: Mapping[str, np.ndarray]
    """S as named parts, indices into D"""
    images: np.ndarray
    """uint8[N, H, W, C]"""
    labels: np.ndarray
    """int32[N]"""
    class_names: Sequence[str]
    proxy: np.ndarray | None = None
    """float32[N], c_proxy, where `values` are memorization"""
    stability: Sequence[Mapping[str, float]] = ()
    """of memorization, by the number of models; see `rumjax.lab.bank.ModelBank.stability`"""

    @property
    def shown_name(self) -> str:
        """The name of the score on an axis."""
        return {"c_proxy": "C-proxy"}.get(self.name, self.name.capitalize())


def style() -> AbstractContextManager[None]:
    """How all figures look, while it lasts."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]  # its keys are literals there


def draw(results: Results, scored: Scored | None) -> list[Picture]:
    """Every figure that there are numbers for."""
    drawn: list[Picture] = []
    with style():
        if results.methods:
            drawn += [tug_of_war(results), accuracies(results)]
            tow = [f"tow_{part}" for part in scored.parts] if scored else []
            measured = [name for name in tow if name in results.measures]
            if measured:
                drawn.append(by_part(results, measured))
            drawn.append(times(results))
        if scored is not None:
            drawn += [histogram(scored), examples(scored)]
            if scored.proxy is not None:
                drawn.append(agreement(scored, scored.proxy))
            if scored.stability:
                drawn.append(stability(scored.stability))
    return drawn


# Methods


def tug_of_war(results: Results) -> Picture:
    """ToW and ToW-MIA of every method, between floor and ceiling."""
    measures = {"tow": "ToW", "tow_mia": "ToW-MIA"}
    return Picture(
        "tow",
        "How close to retraining",
        "Further right is better. Dots are means over the seeds, bars 95 % intervals. The solid "
        "line is a second retraining, as good as chance lets a perfect method be; the dotted line "
        "is the original model, which forgets nothing. Compare RUM^F with vanilla and with shuffle "
        "of the same algorithm: a gain over both is due to the refinement by score.",
        _panels(results, measures, (ORIGINAL, SECOND)),
    )


def accuracies(results: Results) -> Picture:
    """Accuracy on S, R and T of every method, against the oracle's."""
    sets = {"forget": "forget set S", "retain": "retain set R", "test": "test set T"}
    measures = {f"{name}_accuracy": f"Accuracy on {words}" for name, words in sets.items()}
    return Picture(
        "accuracy",
        "Accuracy against the oracle’s",
        "The solid line is the retrained model: a method should be on it, neither left of it nor "
        "right. Right of it on S means that not all was forgotten; left of it on S, that more was "
        "than retraining would have; left of it on R or T, that the model was damaged.",
        _panels(results, measures, (ORIGINAL, REFERENCE), sharex="none"),
    )


def by_part(results: Results, measures: Sequence[str]) -> Picture:
    """ToW of every method on each part of S, `tow_low` and so on; on the first five of many."""
    shown = {name: f"ToW, {_plain(name.removeprefix('tow_'))}" for name in measures[:MOST_PARTS]}
    rest = "" if len(measures) <= MOST_PARTS else " The other parts are in results.csv."
    return Picture(
        "parts",
        "ToW by part of the forget set",
        "ToW with the accuracy on one part in place of that on all of S. A method that is strong "
        "on one part and weak on another is a reason to choose an algorithm for each, as RUM does."
        + rest,
        _panels(results, shown, (ORIGINAL, SECOND)),
    )


def _panels(
    results: Results,
    measures: Mapping[str, str],
    marks: Sequence[tuple[str, str]],
    sharex: Literal["all", "none"] = "all",
) -> Drawn:
    """Panels side by side: algorithms downwards, a dot with its interval for every strategy."""
    groups: dict[str, list[Summary]] = {}
    for each in results.methods:
        note = f" ({each.line.note})" if each.line.note else ""
        groups.setdefault(show_method(each.line) + note, []).append(each)
    height = 1.0 + 0.2 * len(groups) + 0.15 * len(results.methods)
    figure = Figure(figsize=(10, max(height, 2.6)), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(
        1, len(measures), sharex=sharex, sharey=True, squeeze=False
    )[0]
    for panel, (measure, title) in zip(axes, measures.items(), strict=True):
        panel.set_title(title)
        _draw_marks(panel, results, measure, marks)
        for row, group in enumerate(groups.values()):
            for offset, summary in zip(_offsets(len(group)), group, strict=True):
                _draw_dot(panel, summary, measure, row + offset)
        panel.grid(axis="x")
        panel.margins(x=0.06)
        panel.tick_params(axis="y", length=0)
        panel.locator_params(axis="x", nbins=5)
    axes[0].set_yticks(range(len(groups)), [textwrap.fill(_plain(name), 24) for name in groups])
    axes[0].set_ylim(len(groups) - 0.5, -0.5)
    handles = [*_strategy_handles(results), *_mark_handles(results, marks)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return render(figure, numbers(results, measures))


def numbers(results: Results, measures: Iterable[str]) -> list[Row]:
    """The means and half-widths of some measures, a row each."""
    return [
        {
            "name": summary.line.name,
            "method": summary.line.method,
            "strategy": summary.line.strategy,
            "measure": measure,
            "mean": summary.measures[measure].mean,
            "half_width": summary.measures[measure].half_width,
        }
        for summary in results.summaries
        for measure in measures
        if measure in summary.measures
    ]


def _offsets(count: int) -> np.ndarray:
    return (np.arange(count) - (count - 1) / 2) * min(0.24, 0.7 / count)


def _draw_dot(axes: Axes, summary: Summary, measure: str, y: float) -> None:
    if measure in summary.measures:
        mean, half_width = summary.measures[measure]
        color = COLORS.get(summary.line.strategy, GRAY)
        axes.errorbar(mean, y, xerr=np.nan_to_num(half_width), fmt="o", ms=6, color=color)


def _draw_marks(
    axes: Axes, results: Results, measure: str, marks: Sequence[tuple[str, str]]
) -> None:
    """Calibration as vertical lines: dotted for the original, solid with a band for oracles."""
    for which in marks:
        summary = results.calibration(which)
        if summary is None or measure not in summary.measures:
            continue
        mean, half_width = summary.measures[measure]
        if which == ORIGINAL:
            axes.axvline(mean, color=INK, ls=":", lw=1.4)
        else:
            axes.axvline(mean, color=INK, lw=1.2)
            if not math.isnan(half_width):
                axes.axvspan(mean - half_width, mean + half_width, color=PALE, alpha=0.5, lw=0)


def _strategy_handles(results: Results) -> list[Line2D]:
    used = {each.line.strategy for each in results.methods}
    return [
        Line2D([], [], marker="o", ls="", color=COLORS[name], label=shown)
        for name, shown in STRATEGIES.items()
        if name in used
    ]


def _mark_handles(results: Results, marks: Sequence[tuple[str, str]]) -> list[Line2D]:
    labels = {ORIGINAL: "original", REFERENCE: "retrained", SECOND: "retrained again"}
    return [
        Line2D([], [], color=INK, ls=":" if which == ORIGINAL else "-", label=labels[which])
        for which in marks
        if results.calibration(which)
    ]


def times(results: Results) -> Picture:
    """ToW against the time that a method takes."""
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes: Axes = figure.subplots()
    algorithms = dict.fromkeys(show_method(each.line) for each in results.methods)
    markers = dict(zip(algorithms, itertools.cycle(MARKERS), strict=False))
    for summary in results.methods:
        _draw_time(axes, summary, markers[show_method(summary.line)])
    for which, style in ((ORIGINAL, ":"), (SECOND, "-")):
        found = results.calibration(which)
        if found and "tow" in found.measures:
            axes.axhline(found.measures["tow"].mean, color=INK, ls=style, lw=1.2)
    axes.axvline(1.0, color=PALE, lw=4, zorder=0)
    axes.set(xscale="log", ylabel="ToW", xlabel="time of unlearning / time of retraining")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid()
    shapes = [
        Line2D([], [], marker=marker, ls="", color=GRAY, label=textwrap.fill(_plain(name), 28))
        for name, marker in markers.items()
    ]
    handles = [*_strategy_handles(results), *_mark_handles(results, (ORIGINAL, SECOND)), *shapes]
    figure.legend(handles=handles, loc="outside right center")
    return Picture(
        "time",
        "What it costs",
        "Upper left is best. Right of the gray line, at 1, a method takes longer than retraining, "
        "which is exact. Scores are not counted; results.csv has rte_with_scores too.",
        render(figure, numbers(results, ("rte", "tow"))),
    )


def _draw_time(axes: Axes, summary: Summary, marker: str) -> None:
    if not {"rte", "tow"} <= summary.measures.keys() or summary.measures["rte"].mean <= 0:
        return
    (x, dx), (y, dy) = summary.measures["rte"], summary.measures["tow"]
    # A logarithmic axis has no room for an interval that reaches zero.
    xerr = [[min(np.nan_to_num(dx), 0.9 * x)], [np.nan_to_num(dx)]]
    look: dict[str, Any] = {"color": COLORS.get(summary.line.strategy, GRAY), "fmt": marker}
    look |= {"ms": 8, "mec": "white", "elinewidth": 0.8}
    axes.errorbar(x, y, xerr=xerr, yerr=np.nan_to_num(dy), **look)


# Scores


def histogram(scored: Scored) -> Picture:
    """How many examples have which score, and where the parts of S lie."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    edges = np.histogram_bin_edges(scored.values, bins=60).tolist()
    counts = [
        {"set": name, "from": edges[bar], "to": edges[bar + 1], "examples": int(count)}
        for name, part in {"D": np.arange(len(scored.values)), **scored.parts}.items()
        for bar, count in enumerate(np.histogram(scored.values[part], edges)[0])
    ]
    axes.hist(scored.values, edges, color=PALE, label=f"all of D ({len(scored.values):,})")
    for (name, part), color in zip(scored.parts.items(), _shades(scored.parts), strict=False):
        label = f"{_plain(name)} ({len(part):,})"
        axes.hist(scored.values[part], edges, color=color, alpha=0.85)
        axes.hist(
            scored.values[part], edges, histtype="step", color=INK, lw=0.6, fc=color, label=label
        )
    axes.set(yscale="log", xlabel=scored.shown_name, ylabel="examples")
    axes.set_ylim(bottom=0.7)
    legend = figure.legend(loc="outside upper center", ncols=5)
    for patch, color in zip(legend.get_patches(), [PALE, *_shades(scored.parts)], strict=False):
        patch.set(fill=True, facecolor=color)
    return Picture(
        "scores",
        f"{scored.shown_name} of the training set",
        "How many training examples have which score, on a logarithmic axis. Colored are the parts "
        "of the forget set. Memorization is an estimate, so that it can be below zero by chance.",
        render(figure, counts),
    )


def _shades(named: Iterable[str]) -> Iterator[str]:
    for position, name in enumerate(named):
        levels = {"low": 0, "medium": 1, "high": 2}
        yield SHADES[levels.get(name, position % len(SHADES))]


def examples(scored: Scored, *, columns: int = 8) -> Picture:
    """The images of S with the lowest, middle and highest scores."""
    forget = np.concatenate(list(scored.parts.values()))
    ordered = forget[np.argsort(scored.values[forget], kind="stable")]
    columns = min(columns, len(ordered))
    middle = (len(ordered) - columns) // 2
    rows = {
        "least memorized": ordered[:columns],
        "in between": ordered[middle : middle + columns],
        "most memorized": ordered[::-1][:columns],
    }
    shown = [
        {
            "row": name,
            "index": int(index),
            "class": str(scored.class_names[scored.labels[index]]),
            scored.name: float(scored.values[index]),
        }
        for name, chosen in rows.items()
        for index in chosen
    ]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    strips: Any = figure.subfigures(3, 1)
    for strip, (name, chosen) in zip(strips, rows.items(), strict=True):
        strip.suptitle(name, fontsize=10, weight="bold", x=0.01, ha="left")
        for axes, index in zip(strip.subplots(1, columns, squeeze=False)[0], chosen, strict=True):
            draw_image(axes, scored, int(index), signed(scored.values[index]))
    return Picture(
        "examples",
        "The least and the most memorized images of the forget set",
        f"With their classes and {scored.shown_name.lower()}. Expect the least memorized to be "
        "typical of their class, and the most memorized unusual, ambiguous or mislabelled.",
        render(figure, shown),
    )


def draw_image(axes: Axes, scored: Scored, index: int, said: str) -> None:
    """An example of D, titled with its class and what else is said of it."""
    image = scored.images[index]
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    name = str(scored.class_names[scored.labels[index]])
    name = name if len(name) <= 14 else name[:13] + "…"
    axes.set_title(f"{_plain(name)}\n{said}", fontsize=8.5)
    axes.set_axis_off()


def agreement(scored: Scored, proxy: np.ndarray) -> Picture:
    """Memorization against its proxy, with Spearman's rank correlation."""
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axes: Axes = figure.subplots()
    cells = axes.hexbin(
        proxy, scored.values, gridsize=40, bins="log", mincnt=1, cmap="cividis", linewidths=0.1
    )
    figure.colorbar(cells, label="examples")
    axes.set(xlabel="C-proxy", ylabel=scored.shown_name)
    if np.ptp(proxy) > 0 and np.ptp(scored.values) > 0:
        rho = float(stats.spearmanr(proxy, scored.values).statistic)
        axes.set_title(f"Spearman’s ρ = {rho:.2f}")
    return Picture(
        "proxy",
        "Memorization and its cheap stand-in",
        "C-proxy costs one training run, memorization a bank of models. The closer ρ is to 1, the "
        "safer it is to refine by the proxy alone.",
        render(
            figure,
            [
                {"c_proxy": float(x), scored.name: float(y)}
                for x, y in zip(proxy, scored.values, strict=True)
            ],
        ),
    )


def stability(table: Sequence[Mapping[str, float]]) -> Picture:
    """How far two banks of so many models agree, in scores and in the sets made of them."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes: Axes = figure.subplots()
    models = [row["models"] for row in table]
    shown = {"spearman": "scores (Spearman’s ρ)", "high": "highest set", "low": "lowest set"}
    shown["medium"] = "middle set"
    for (name, label), marker in zip(shown.items(), "osvD", strict=True):
        axes.plot(models, [row[name] for row in table], marker=marker, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(models, [f"{each:g}" for each in models])
    axes.set(xlabel="models in each of two banks", ylabel="agreement", ylim=(None, 1.02))
    axes.legend()
    return Picture(
        "stability",
        "How much the scores depend on the bank",
        "Two halves of the bank that share no model: the rank correlation of their scores, and the "
        "share of examples that they put into the same set. The whole bank, twice as large as the "
        "last point, agrees better than that. Where a line is still rising, more models help.",
        render(figure, [dict(row) for row in table]),
    )


def signed(value: float) -> str:
    """Two digits after the point, with a minus that is one."""
    return f"{value:.2f}".replace("-", "−")


def _plain(text: str) -> str:
    """Text that Matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def render(figure: Figure, data: Sequence[Row]) -> Drawn:
    """A figure as PNG and PDF, without a date or a version in them.

    Args:
      figure: to be drawn.
      data: what is drawn, a row each.
    """
    FigureCanvasAgg(figure)
    undated = {"CreationDate": None, "Producer": None, "Creator": None}
    found: list[bytes] = []
    with warnings.catch_warnings():
        # Class names may be in a script that the font lacks; boxes are shown for them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        for form, metadata in {"png": {"Software": None}, "pdf": undated}.items():
            file = io.BytesIO()
            figure.savefig(file, format=form, dpi=144, metadata=metadata)
            found.append(file.getvalue())
    columns = dict.fromkeys(key for row in data for key in row)
    png, pdf = found
    return Drawn(png, pdf, to_csv(list(columns), data))
