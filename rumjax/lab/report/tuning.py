"""The figure of how the criterion depends on hyper-parameters, as far as they were tried."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rumjax.lab.report import drawing
from rumjax.lab.report.drawing import COLORS, Picture
from rumjax.lab.report.tables import Row

MOST_PANELS = 8


@drawing.forgiving
def draw_trials(name: str, trials: Sequence[Mapping[str, Any]]) -> Picture:
    """Draws the score of every setting of a method, against each option that they differ in.

    Args:
      name: of the method.
      trials: a row for each setting, see `rumjax.lab.tuning.Trial`.
    """
    # Only options that differ between settings are worth a panel.
    rows: list[Row] = [{**dict(options(trial)), "score": trial["score"]} for trial in trials]
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "score"]
    varied = [key for key in keys if len({row.get(key) for row in rows}) > 1][:MOST_PANELS]

    # A panel for each option; an empty one if there was only one setting.
    figure = Figure(figsize=(max(4, 2.6 * len(varied)), 3), layout="constrained")
    panels = drawing.grid(figure, max(len(varied), 1), MOST_PANELS, sharey=True)
    for panel, key in zip(panels, varied, strict=False):
        _draw_option(panel, key, rows)
    panels[0].set_ylabel(f"criterion: {trials[0]['criterion']}")
    return Picture(
        f"tuning_{name}",
        f"Tuning of {name}",
        "Every dot is a setting, its height the mean of the criterion over the tuning seeds; the "
        "diamond is the best. A best value at the edge of a range asks for a wider one.",
        drawing.render(figure, rows),
    )


def _draw_option(panel: Axes, key: str, rows: Sequence[Row]) -> None:
    """Draws the score of every setting over the values of an option, evenly spaced."""
    values = [str(value) for value in sorted({row[key] for row in rows if key in row}, key=_rank)]
    places = [values.index(str(row[key])) for row in rows if key in row]
    scores = [row["score"] for row in rows if key in row]
    panel.plot(places, scores, "o", color=COLORS["vanilla"], alpha=0.7)

    # The best setting may lack the option, if it belongs to another algorithm.
    best = max(rows, key=lambda row: row["score"])
    if key in best:
        place = values.index(str(best[key]))
        panel.plot([place], [best["score"]], "D", color=COLORS["rum"], ms=9)

    # Values are evenly spaced, and their words are the labels.
    panel.set_xticks(range(len(values)), map(drawing.label, values), rotation=30, ha="right")
    panel.set_xlabel(drawing.label(key))
    panel.grid(axis="y")


def options(trial: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the options of a setting, with the part in front where parts differ in them."""
    select = trial["options"]["select"]
    for part, values in select.items():
        for key, value in values.items():
            is_shared = all(other.get(key) == value for other in select.values())
            yield (key if is_shared else f"{part}: {key}"), value
    yield "order", " > ".join(trial["options"]["order"])


def _rank(value: Any) -> tuple[bool, Any]:
    """Sorts numbers by size, and before words."""
    return (isinstance(value, str), value)
