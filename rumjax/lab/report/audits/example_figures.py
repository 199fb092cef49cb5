"""The figures of single examples under audits."""

import math

import numpy as np
from matplotlib.figure import Figure

from rumjax.lab.report import drawing, wording
from rumjax.lab.report.audits.base import Audited
from rumjax.lab.report.audits.method_figures import label, looks
from rumjax.lab.report.drawing import INK, Picture
from rumjax.lab.report.score_figures import draw_image
from rumjax.lab.report.tables import Row

BINS = 25
IMAGES = 16


@drawing.forgiving
def per_example(audited: Audited) -> Picture:
    """Draws how U-LiRA's accuracy is spread over the examples, a panel for each method."""
    name, edges = "u_lira_per_example", np.linspace(0, 1, BINS + 1)
    subjects = audited.with_array(name)
    shares = {subject.name: _shares(subject.array(name), edges) for subject in subjects}
    methods = [subject for subject in subjects if subject is not audited.retrained]

    # Retrained models are an outline in every panel.
    figure = Figure(figsize=(10, 0.6 + 2.05 * math.ceil(len(methods) / 4)), layout="constrained")
    panels = drawing.grid(figure, len(methods), columns=4, sharex=True, sharey=True)
    styles = looks(audited)
    for panel, method in zip(panels, methods, strict=True):
        color = styles[method.name].color
        panel.stairs(shares[method.name], edges, fill=True, color=color, alpha=0.7)
        if audited.retrained.name in shares:
            panel.stairs(shares[audited.retrained.name], edges, color=INK, lw=1.1)
        panel.set_title(label(method))
        panel.set(xlim=(0, 1), xticks=(0, 0.5, 1))
    figure.supxlabel("accuracy of U-LiRA on an example", fontsize=10)
    figure.supylabel("share of examples", fontsize=10)

    # Beside the figure, the height of every bar.
    data: list[Row] = [
        {"method": method, "from": float(low), "to": float(high), "share": float(share)}
        for method, own in shares.items()
        for low, high, share in zip(edges[:-1], edges[1:], own, strict=True)
    ]
    return Picture(
        "audit_per_example",
        "Which share of examples leaks",
        "How well U-LiRA tells, one example at a time, models that were asked to forget it from "
        "models that never saw it. The outline is retrained models: mass to the right of it is "
        "examples that are not forgotten, which a mean over all of them can hide.",
        drawing.render(figure, data),
    )


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    return np.histogram(finite, edges)[0] / len(finite)


@drawing.forgiving
def leaks(audited: Audited) -> Picture:
    """Draws the images that U-LiRA tells best, over all methods."""
    scored = audited.scored
    examples, accuracies = (values[:IMAGES] for values in audited.leaks())

    # Up to two rows of images.
    columns = min(8, len(examples))
    figure = Figure(figsize=(10, 2.05 * math.ceil(len(examples) / columns)), layout="constrained")
    panels = drawing.grid(figure, len(examples), columns)
    data: list[Row] = []
    for panel, index, accuracy in zip(panels, map(int, examples), accuracies, strict=True):
        parts = [name for name, part in scored.parts.items() if index in part]
        score = float(scored.values[index])

        # The title: what the example is, and how well it is told.
        remarks = list(parts)
        if math.isfinite(score):
            remarks.append(f"mem. {wording.number(score, 2)}")
        lines = [f"leak {wording.number(accuracy, 2)}"]
        if remarks:
            lines.insert(0, drawing.label(", ".join(remarks)))
        draw_image(panel, scored, index, "\n".join(lines))
        data.append(
            {
                "index": index,
                "class": scored.class_of(index),
                "part": " ".join(parts),
                "memorization": score,
                "u_lira_accuracy": float(accuracy),
                **scored.source_of(index),
            }
        )
    return Picture(
        "audit_leaks",
        "The images that leak most",
        "Of all that was to be forgotten, what U-LiRA finds out best, by its accuracy’s mean over "
        "the methods. With class, part of the forget set and memorization.",
        drawing.render(figure, data),
    )
