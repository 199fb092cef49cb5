"""The figures of the page of `evidence.py`."""

import numpy as np
from evidence import LARGER, SIZES
from evidence_numbers import BANK, LEVEL, MATCHED, ORACLES, ORIGINAL
from matplotlib.figure import Figure

from rumjax.lab.report import drawing
from rumjax.lab.report.drawing import CYCLE, GRAY, Picture


def ecdf(panel, values, label, **look):
    """Draws an empirical distribution function, and returns it as rows."""
    values = np.sort(np.asarray(values).ravel())
    shares = np.arange(1, len(values) + 1) / len(values)
    panel.step(np.r_[0, values, 1], np.r_[0, shares, 1], where="post", label=label, **look)
    return [{"p": float(p), "share": float(s)} for p, s in zip(values, shares, strict=True)]


def draw_p_values(numbers):
    looks = {
        ORIGINAL: {"color": CYCLE[1]},
        ORACLES[0]: {"color": CYCLE[0]},
        ORACLES[1]: {"color": CYCLE[5]},
    }
    with drawing.style():
        figure = Figure(figsize=(11, 3.4 * len(numbers.tried)), layout="constrained")
        panels = figure.subplots(len(numbers.tried), 3, squeeze=False, sharex=True, sharey=True)
        data = []
        for line, name in zip(panels, numbers.tried, strict=True):
            for panel, test in zip(line, (MATCHED, BANK), strict=False):
                for model, look in looks.items():
                    values = numbers.p_values(name, [model], test)
                    drawn = ecdf(panel, values, f"{model}s", **look)
                    data += [{"set": name, "test": test, "of": model, **row} for row in drawn]
                title = "without a bank: rank, matched" if test == MATCHED else f"with it: {test}"
                panel.set_title(f"{name}, {title}", fontsize=9.5)
            kind = "memorized" if name == "high" else "random"
            fresh = {
                "saw S": (("group", kind, "seen"), {"color": CYCLE[1]}),
                "never saw S": (("group", kind, "unseen"), {"color": CYCLE[0]}),
                "never, shadows unmended": (
                    ("group, unmended shadows", kind, "unseen"),
                    {"color": GRAY, "ls": "--"},
                ),
            }
            for label, (key, look) in fresh.items():
                drawn = ecdf(line[2], numbers.of_bank[key], label, **look)
                data += [{"set": kind, "test": "drawn anew", "of": label, **row} for row in drawn]
            line[2].set_title(f"{kind}, S drawn anew: group against the bank", fontsize=9.5)
            line[0].set_ylabel("share of models")
        for panel in panels.ravel():
            panel.plot([0, 1], [0, 1], color=GRAY, lw=0.8, ls=":")
            panel.axvline(LEVEL, color=GRAY, lw=0.6)
        for panel in panels[-1]:
            panel.set_xlabel("p-value")
        panels[0, 0].legend(fontsize=8, loc="center")
        panels[0, 2].legend(fontsize=8, loc="lower right")
        drawn = drawing.render(figure, data)
    return Picture(
        "p_values",
        "P-values of models that remember and that never saw S",
        "Distribution functions over models. Those of models that never saw S should follow the "
        "diagonal, those of original models should be at the left; the vertical line is at .05. "
        "On the right, models of the bank stand for the unlearned one, and S is another each time.",
        drawn,
    )


def draw_sizes(numbers):
    titles = ("with the bank", "without a bank")
    with drawing.style():
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        data = []
        for panel, title in zip(panels, titles, strict=True):
            lines = {}
            for name, style in zip(numbers.tried, ("-", "--"), strict=False):
                for label, models, color in (
                    ("oracles", ORACLES, CYCLE[0]),
                    ("original models", [ORIGINAL], CYCLE[1]),
                ):
                    values = numbers.parts_pass(numbers.parts(name, models))[title]
                    shares = values.mean(axis=(0, 2))
                    lines[f"{label}, {name}"] = (SIZES, shares, {"color": color, "ls": style})
            shares = numbers.parts_pass(numbers.larger)[title].mean(axis=0)
            look = {"color": CYCLE[4], "ls": "--"}
            lines["original models, random, drawn anew"] = (LARGER, shares, look)
            for label, (sizes, shares, look) in lines.items():
                panel.plot(sizes, shares, marker="o", ms=3.5, label=label, **look)
                data += [
                    {"gate": title, "line": label, "size": size, "share": float(one)}
                    for size, one in zip(sizes, shares, strict=True)
                ]
            panel.axhline(0.5, color=GRAY, lw=0.6)
            panel.set(xscale="log", xlabel="|S|", title=title, ylim=(-0.03, 1.03))
            panel.set_xticks(LARGER, map(str, LARGER))
            panel.minorticks_off()
        panels[0].set_ylabel("share whose tests let pass")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        drawn = drawing.render(figure, data)
    return Picture(
        "sizes",
        "What the tests of the gate let pass, by the size of S",
        "Blue should be at the top, red and orange at the bottom. Parts of S as it is, and random "
        "parts of D that are drawn anew for each seed.",
        drawn,
    )
