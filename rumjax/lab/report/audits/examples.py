"""The figures of single examples under audits."""

import math

import numpy as np
from matplotlib.figure import Figure

from rumjax.lab.report.audits.base import Audited
from rumjax.lab.report.audits.pictures import grid, label, looks
from rumjax.lab.report.figures import INK, Picture, draw_image, render, signed
from rumjax.lab.report.studies.base import plain
from rumjax.lab.report.tables import Row

BINS = 25
IMAGES = 16


def per_example(audited: Audited) -> Picture:
    """How U-LiRA's accuracy is spread over the examples, a panel for each method."""
    name, edges = "u_lira_per_example", np.linspace(0, 1, BINS + 1)
    shown = [each for each in audited.everyone if each.known(name).size]
    shares = {each.name: _shares(each.known(name), edges) for each in shown}
    methods = [each for each in shown if each is not audited.retrained]
    figure = Figure(figsize=(10, 0.6 + 1.9 * math.ceil(len(methods) / 4)), layout="constrained")
    panels = grid(figure, len(methods), columns=4, sharex=True, sharey=True)
    styles = looks(audited)
    for panel, each in zip(panels, methods, strict=True):
        panel.stairs(shares[each.name], edges, fill=True, color=styles[each.name].color, alpha=0.7)
        if audited.retrained.name in shares:
            panel.stairs(shares[audited.retrained.name], edges, color=INK, lw=1.1)
        panel.set_title(label(each))
        panel.set(xlim=(0, 1), xticks=(0, 0.5, 1))
    figure.supxlabel("accuracy of U-LiRA on an example", fontsize=10)
    figure.supylabel("share of examples", fontsize=10)
    return Picture(
        "audit_per_example",
        "Which share of examples leaks",
        "How well U-LiRA tells, one example at a time, models that were asked to forget it from "
        "models that never saw it. The outline is retrained models: mass to the right of it is "
        "examples that are not forgotten, which a mean over all of them can hide.",
        render(
            figure,
            [
                {"method": method, "from": float(low), "to": float(high), "share": float(share)}
                for method, each in shares.items()
                for low, high, share in zip(edges, edges[1:], each, strict=False)
            ],
        ),
    )


def _shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    return np.histogram(finite, edges)[0] / len(finite)


def leaks(audited: Audited) -> Picture:
    """The images that U-LiRA tells best, over all methods."""
    scored = audited.scored
    examples, accuracy = (each[:IMAGES] for each in audited.leaks())
    columns = min(8, len(examples))
    figure = Figure(figsize=(10, 1.9 * math.ceil(len(examples) / columns)), layout="constrained")
    data: list[Row] = []
    for panel, index, value in zip(
        grid(figure, len(examples), columns), examples, accuracy, strict=True
    ):
        parts = [plain(name) for name, part in scored.parts.items() if index in part]
        score = float(scored.values[index])
        known = [*parts, *([f"mem. {signed(score)}"] if math.isfinite(score) else [])]
        lines = [", ".join(known).replace("$", r"\$")] * bool(known)
        draw_image(panel, scored, int(index), "\n".join([*lines, f"leak {value:.2f}"]))
        data.append(
            {
                "index": int(index),
                "class": str(scored.class_names[scored.labels[index]]),
                "part": " ".join(parts),
                "memorization": score,
                "u_lira_accuracy": float(value),
            }
        )
    return Picture(
        "audit_leaks",
        "The images that leak most",
        "Of all that was to be forgotten, what U-LiRA finds out best, by its accuracy’s mean over "
        "the methods. With class, part of the forget set and memorization.",
        render(figure, data),
    )
