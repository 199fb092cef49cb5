"""How the criterion depends on hyper-parameters, as far as it was tried."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rumjax.lab.report.figures import COLORS, Picture, render
from rumjax.lab.report.tables import Row

MOST_PANELS = 8


def picture(name: str, tried: Sequence[Mapping[str, Any]]) -> Picture:
    """The score of every setting of a method, against each option that differs between them."""
    rows: list[Row] = [{**dict(options(row)), "score": row["score"]} for row in tried]
    axes = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "score"]
    varied = [key for key in axes if len({row.get(key) for row in rows}) > 1][:MOST_PANELS]
    figure = Figure(figsize=(max(4, 2.6 * len(varied)), 3), layout="constrained")
    count = max(len(varied), 1)
    panels: Sequence[Axes] = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    best = max(rows, key=lambda row: row["score"])
    for panel, key in zip(panels, varied, strict=False):
        values = [str(each) for each in sorted({row[key] for row in rows if key in row}, key=_rank)]
        places = [values.index(str(row[key])) for row in rows if key in row]
        scores = [row["score"] for row in rows if key in row]
        panel.plot(places, scores, "o", color=COLORS["vanilla"], alpha=0.7)
        if key in best:
            at = values.index(str(best[key]))
            panel.plot([at], [best["score"]], "D", color=COLORS["rum"], ms=9)
        panel.set_xticks(range(len(values)), values, rotation=30, ha="right")
        panel.set_xlabel(key)
        panel.grid(axis="y")
    criterion = tried[0]["criterion"]
    panels[0].set_ylabel(f"criterion: {criterion}")
    return Picture(
        f"tuning_{name}",
        f"Tuning of {name}",
        "Every dot is a setting, its height the mean of the criterion over the tuning seeds; the "
        "diamond is the best. A best value at the edge of a range asks for a wider one.",
        render(figure, rows),
    )


def options(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options of a setting, with the part in front where parts differ in them."""
    select = row["options"]["select"]
    for part, given in select.items():
        for key, value in given.items():
            alike = all(each.get(key) == value for each in select.values())
            yield (key if alike else f"{part}: {key}"), value
    yield "order", " > ".join(row["options"]["order"])


def _rank(value: Any) -> tuple[bool, Any]:
    """Numbers by size, and before words."""
    return (isinstance(value, str), value)
