"""How all figures look, and how they become files; the same numbers give the same bytes.

Colors are Okabe and Ito's, which the color-blind tell apart, and mean the same in every figure:
`COLORS` for strategies, `SHADES` for parts of the forget set, black and gray for the calibration.
"""

import functools
import io
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, ParamSpec

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rumjax.archives import reason
from rumjax.lab import files
from rumjax.lab.report.tables import Row, to_csv
from rumjax.lab.workdir import WorkDirectory
from rumjax.metrics import Interval

P = ParamSpec("P")
COLORS = {"vanilla": "#0072B2", "shuffle": "#CC79A7", "rum_f": "#009E73", "rum": "#E69F00"}
SHADES = ("#56B4E9", "#F0E442", "#D55E00")
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
INK, GRAY, PALE = "#222222", "#777777", "#CCCCCC"
MARKERS = "osD^vPXph<>d"
SHARES = ("tow", "mia", "forget_accuracy", "retain_accuracy", "test_accuracy", "disagreement")
"""beginnings of the names of measures that lie between 0 and 1, or between 0 % and 100 %"""
SEEDS_SHOWN = "Of fewer than five seeds, small circles are the seeds."
"""the end of captions of figures that show them"""
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
    drawn: Drawn | None
    """None where it could not be drawn, as its caption says"""

    def write(self, work: WorkDirectory) -> None:
        """Writes `figures/NAME.png`, `.pdf`, and `.csv` with what is drawn."""
        if self.drawn is None:
            return
        for ending, content in {"png": self.drawn.png, "pdf": self.drawn.pdf}.items():
            with work.writing(files.figure(self.name, ending)) as file:
                file.write(content)
        work.write_text(files.figure(self.name, "csv"), self.drawn.data)


def forgiving(draw: Callable[P, Picture]) -> Callable[P, Picture]:
    """Lets a function return a picture that says so where drawing fails, since pages need none."""

    @functools.wraps(draw)
    def attempt(*arguments: P.args, **options: P.kwargs) -> Picture:
        try:
            return draw(*arguments, **options)
        except Exception as error:
            title = draw.__name__.replace("_", " ").capitalize()
            why = f"{type(error).__name__}: {reason(error)}"
            return Picture(draw.__name__, title, f"This figure could not be drawn ({why}).", None)

    return attempt


class Look(NamedTuple):
    """The look of a method where color alone cannot tell methods apart."""

    color: str
    marker: str
    style: str
    """of lines, as in "--" """


FLOOR, CEILING = Look(INK, "", ":"), Look(INK, "", "-")
"""the original model and retrained ones, in all figures"""


def look(position: int) -> Look:
    """Returns the look of a method by its position; the first 84 all differ in two ways."""
    style = "-" if position < len(CYCLE) else "--"
    return Look(CYCLE[position % len(CYCLE)], MARKERS[position % len(MARKERS)], style)


def style() -> AbstractContextManager[None]:
    """Makes all figures look alike while the context lasts."""
    return matplotlib.style.context(["default", STYLE])  # whatever a matplotlibrc says


def label(text: str) -> str:
    """Returns text that Matplotlib takes literally, but for the F of RUM^F.

    Matplotlib takes what is between dollars for a formula, and leaves entries out of legends that
    begin with an underscore. Names of files may hold bytes that are no text.
    """
    plain = text.encode(errors="backslashreplace").decode().replace("$", r"\$")
    if plain.startswith("_"):
        plain = r"$\_$" + plain[1:]
    return plain.replace("RUM^F", "RUM$^F$")


# Pieces of panels


def grid(figure: Figure, count: int, columns: int, **options: Any) -> list[Axes]:
    """Makes so many panels in rows, which are filled line by line."""
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    panels = figure.subplots(lines, columns, squeeze=False, **options).ravel()
    for unused in panels[count:]:
        unused.set_axis_off()

    # The last of each column has tick labels even if there is an unused panel below.
    for last in panels[max(count - columns, 0) : count]:
        last.tick_params(labelbottom=True)
    return list(panels[:count])


def style_rows(panel: Axes, title: str, *, ticks: int = 5) -> None:
    """Styles a panel that has a row for each method and a measure from left to right."""
    panel.set_title(title)
    panel.grid(axis="x")
    panel.margins(x=0.06)
    panel.tick_params(axis="y", length=0)
    panel.locator_params(axis="x", nbins=ticks)


def label_rows(panel: Axes, labels: Sequence[str]) -> None:
    """Labels the rows of a panel, the first of which is on top."""
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)


def cut(measure: str, interval: Interval | None) -> Interval | None:
    """Returns an interval without what lies beyond the values that a measure can have.

    Student's intervals of few seeds know no bounds, and would stretch an axis from −3 to 5.

    Examples:
      >>> cut("tow", Interval(0.5, -2.0, 3.0))
      Interval(value=0.5, low=0.0, high=1.0)
      >>> cut("rge", Interval(0.5, -2.0, 3.0))
      Interval(value=0.5, low=-2.0, high=3.0)
    """
    if interval is None or not measure.startswith(SHARES):
        return interval
    most = 100.0 if measure == "disagreement" else 1.0
    low, high = np.clip([interval.low, interval.high], 0.0, most)
    return Interval(interval.value, float(low), float(high))


def draw_seeds(
    panel: Axes, seeds: Sequence[float], place: float, color: str, *, horizontal: bool = True
) -> None:
    """Draws the values of single seeds as small circles, in a row or one above the other."""
    places = [place] * len(seeds)
    x, y = (seeds, places) if horizontal else (places, seeds)
    panel.plot(x, y, ls="", marker="o", ms=3.5, mfc="white", mec=color, mew=0.8, zorder=3)


def error_bar(interval: Interval) -> list[list[float]]:
    """Returns the lengths of an error bar below and above, 0 where there is no interval.

    Neither is negative, even if a bootstrap's interval does not hold the number.
    """
    # NaN, where there is no interval, becomes no length.
    below, above = interval.value - interval.low, interval.high - interval.value
    return [[max(np.nan_to_num(below), 0.0)], [max(np.nan_to_num(above), 0.0)]]


def draw_mark(
    panel: Axes, interval: Interval | None, look: Look = CEILING, *, horizontal: bool = False
) -> None:
    """Draws a calibration line across a panel: dotted, or solid with a band for its interval.

    Args:
      panel: to draw in.
      interval: None draws nothing.
      look: `FLOOR` for the original model, `CEILING` for retrained ones.
      horizontal: whether the measure is upwards rather than to the right.
    """
    if interval is None:
        return
    line: Callable[..., object] = panel.axhline if horizontal else panel.axvline
    span: Callable[..., object] = panel.axhspan if horizontal else panel.axvspan
    line(interval.value, color=look.color, ls=look.style, lw=1.4 if look is FLOOR else 1.2)
    if look is CEILING and np.isfinite(interval).all():
        span(interval.low, interval.high, color=PALE, alpha=0.5, lw=0)


def mark_handle(label: str, look: Look) -> Line2D:
    """Returns the entry of a calibration line in a legend."""
    return Line2D([], [], color=look.color, ls=look.style, label=label)


# Files


def render(figure: Figure, data: Sequence[Row]) -> Drawn:
    """Renders a figure as PNG and PDF, without a date or a version in them.

    Args:
      figure: to be drawn.
      data: what is drawn, a row each.
    """
    # No display is needed.
    FigureCanvasAgg(figure)
    undated = {"CreationDate": None, "Producer": None, "Creator": None}
    files: dict[str, bytes] = {}
    with warnings.catch_warnings():
        # Class names may be in a script that the font lacks; boxes are shown for them.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        for form, metadata in {"png": {"Software": None}, "pdf": undated}.items():
            file = io.BytesIO()
            figure.savefig(file, format=form, dpi=144, metadata=metadata)
            files[form] = file.getvalue()

    # Rows need not have the same columns.
    columns = dict.fromkeys(key for row in data for key in row)
    return Drawn(files["png"], files["pdf"], to_csv(list(columns), data))
