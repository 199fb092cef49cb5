"""The figures of scores, and of the examples that are chosen by them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from rumjax.lab.report import drawing, wording
from rumjax.lab.report.drawing import INK, PALE, SHADES, Picture
from rumjax.lab.report.tables import Row
from rumjax.types import Origin

LONGEST_NAME = 14
"""letters of a class name above an image"""


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
    origin: Origin
    """what the source calls the examples of D"""
    proxy: np.ndarray | None = None
    """float32[N], c_proxy, where `values` are memorization"""
    stability: Sequence[Mapping[str, float]] = ()
    """of memorization, by the number of models; see `rumjax.lab.bank.ModelBank.stability`"""

    @property
    def title(self) -> str:
        """The name of the score on an axis."""
        return "C-proxy" if self.name == "c_proxy" else self.name.capitalize()

    def class_of(self, index: int) -> str:
        """Returns the name of an example's class."""
        return str(self.class_names[self.labels[index]])

    def source_of(self, index: int) -> Row:
        """Returns what the source calls an example: its row, and its file or id if it has one."""
        row = int(self.origin.rows[index])
        named = {} if self.origin.names is None else {"source_name": str(self.origin.names[row])}
        return {"source_row": row, **named}


@drawing.forgiving
def histogram(scored: Scored) -> Picture:
    """Draws how many examples have which score, and where the parts of S lie."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes: Axes = figure.subplots()
    edges = np.histogram_bin_edges(scored.values, bins=60).tolist()

    # The bars of D and of every part share their edges.
    counts: list[Row] = [
        {"set": name, "from": edges[bar], "to": edges[bar + 1], "examples": int(count)}
        for name, part in {"D": np.arange(len(scored.values)), **scored.parts}.items()
        for bar, count in enumerate(np.histogram(scored.values[part], edges)[0])
    ]

    # All of D is behind, and each part of S before it, filled and with an outline.
    axes.hist(scored.values, edges, color=PALE, label=f"all of D ({len(scored.values):,})")
    shades = _shades(scored.parts)
    for (name, part), color in zip(scored.parts.items(), shades, strict=True):
        values = scored.values[part]
        words = f"{drawing.label(name)} ({len(part):,})"
        axes.hist(values, edges, color=color, alpha=0.85)
        axes.hist(values, edges, histtype="step", color=INK, lw=0.6, fc=color, label=words)
    axes.set(yscale="log", xlabel=scored.title, ylabel="examples")
    axes.set_ylim(bottom=0.7)

    # The entries of the legend are those of the outlines, and are filled here.
    legend = figure.legend(loc="outside upper center", ncols=5)
    for patch, color in zip(legend.get_patches(), [PALE, *shades], strict=False):
        patch.set(fill=True, facecolor=color)
    return Picture(
        "scores",
        f"{scored.title} of the training set",
        "How many training examples have which score, on a logarithmic axis. Colored are the parts "
        "of the forget set. Memorization is an estimate, so that it can be below zero by chance.",
        drawing.render(figure, counts),
    )


def _shades(parts: Iterable[str]) -> list[str]:
    """Returns a color for each part: low, medium and high have theirs, others take turns."""
    levels = {"low": 0, "medium": 1, "high": 2}
    return [SHADES[levels.get(name, position % len(SHADES))] for position, name in enumerate(parts)]


@drawing.forgiving
def examples(scored: Scored, *, columns: int = 8) -> Picture:
    """Draws the images of S with the lowest, middle and highest scores."""
    forget = np.concatenate(list(scored.parts.values()))

    # Three rows of images, out of all of S in the order of scores.
    ordered = forget[np.argsort(scored.values[forget], kind="stable")]
    columns = min(columns, len(ordered))
    middle = (len(ordered) - columns) // 2
    rows = {
        "least memorized": ordered[:columns],
        "in between": ordered[middle : middle + columns],
        "most memorized": ordered[::-1][:columns],
    }

    # A strip for each row, titled on the left.
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    strips: Any = figure.subfigures(3, 1)
    data: list[Row] = []
    for strip, (name, chosen) in zip(strips, rows.items(), strict=True):
        strip.suptitle(name, fontsize=10, weight="bold", x=0.01, ha="left")
        panels = strip.subplots(1, columns, squeeze=False)[0]
        for panel, index in zip(panels, map(int, chosen), strict=True):
            score = float(scored.values[index])
            draw_image(panel, scored, index, wording.number(score, 2))
            row: Row = {"row": name, "index": index, "class": scored.class_of(index)}
            data.append(row | {scored.name: score} | scored.source_of(index))
    return Picture(
        "examples",
        "The least and the most memorized images of the forget set",
        f"With their classes, their {scored.title.lower()}, and their rows in the source of the "
        "images (and files, in examples.csv). Expect the least memorized to be typical of their "
        "class, and the most memorized unusual, ambiguous or mislabelled.",
        drawing.render(figure, data),
    )


def draw_image(panel: Axes, scored: Scored, index: int, remark: str) -> None:
    """Draws an example of D, titled with its class, a remark, and its row in the source."""
    # Gray images are drawn without their channel.
    image = scored.images[index]
    if image.shape[-1] == 1:
        image = image.squeeze(-1)
    panel.imshow(image, cmap="gray", vmin=0, vmax=255)

    # Long names would run into each other.
    name = scored.class_of(index)
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 1] + "…"
    row = scored.origin.rows[index]
    panel.set_title(f"{drawing.label(name)}\n{remark}\nrow {row}", fontsize=8.5)
    panel.set_axis_off()


@drawing.forgiving
def agreement(scored: Scored, proxy: np.ndarray) -> Picture:
    """Draws memorization against its proxy, with Spearman's rank correlation."""
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    axes: Axes = figure.subplots()
    cells = axes.hexbin(
        proxy, scored.values, gridsize=40, bins="log", mincnt=1, cmap="cividis", linewidths=0.1
    )
    figure.colorbar(cells, label="examples")
    axes.set(xlabel="C-proxy", ylabel=scored.title)

    # Scores that are all equal have no ranks to correlate.
    if np.ptp(proxy) > 0 and np.ptp(scored.values) > 0:
        rho = float(stats.spearmanr(proxy, scored.values).statistic)
        axes.set_title(f"Spearman’s ρ = {wording.number(rho, 2)}")
    pairs = zip(proxy, scored.values, strict=True)
    data: list[Row] = [{"c_proxy": float(x), scored.name: float(y)} for x, y in pairs]
    return Picture(
        "proxy",
        "Memorization and its cheap stand-in",
        "C-proxy costs one training run, memorization a bank of models. The closer ρ is to 1, the "
        "safer it is to refine by the proxy alone.",
        drawing.render(figure, data),
    )


@drawing.forgiving
def stability(table: Sequence[Mapping[str, float]]) -> Picture:
    """Draws how far two banks of so many models agree, in scores and in the sets made of them."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axes: Axes = figure.subplots()

    # A line for the scores and one for each set.
    models = [row["models"] for row in table]
    labels = {
        "spearman": "scores (Spearman’s ρ)",
        "high": "highest set",
        "low": "lowest set",
        "medium": "middle set",
    }
    for (name, words), marker in zip(labels.items(), "osvD", strict=True):
        axes.plot(models, [row[name] for row in table], marker=marker, label=words)

    # Banks double in size from point to point.
    axes.set_xscale("log", base=2)
    axes.set_xticks(models, [f"{count:g}" for count in models])
    axes.set(xlabel="models in each of two banks", ylabel="agreement", ylim=(None, 1.02))
    axes.legend()
    return Picture(
        "stability",
        "How much the scores depend on the bank",
        "Two halves of the bank that share no model: the rank correlation of their scores, and the "
        "share of examples that they put into the same set. The whole bank, twice as large as the "
        "last point, agrees better than that. Where a line is still rising, more models help.",
        drawing.render(figure, [dict(row) for row in table]),
    )
