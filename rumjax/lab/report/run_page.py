"""The page of a run: one HTML file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rumjax.forget_sets import ForgetSet
from rumjax.lab.report import columns, conclusions, pages, wording
from rumjax.lab.report.drawing import Picture
from rumjax.lab.report.reported import Reported
from rumjax.lab.report.tables import Line, Results

MANY_SEEDS = 8
"""Of more seeds than that, only the first and the last are named."""

LABELS = (
    ("vanilla", "the algorithm once, on all of S"),
    ("shuffle", "the algorithm on random parts of S in sequence: the control for RUM^F"),
    ("RUM^F", "the algorithm on parts of S in sequence, refined by score, lowest first"),
    ("RUM", "the same, with an algorithm of its own for each part"),
    ("original", "the model before unlearning, which forgets nothing: the floor"),
    ("retrain, reference", "the oracle, trained without S: what all others are compared with"),
    ("retrain, second", "another oracle, of another random key: the ceiling that chance leaves"),
)
"""what the table calls strategies and the calibration, explained"""


def to_html(
    reported: Reported,
    results: Results,
    forget_set: ForgetSet | None,
    hardness: Mapping[str, Mapping[str, float]],
    pictures: Sequence[Picture],
    environment: Mapping[str, Any],
) -> str:
    """Returns the report as HTML, with figures and style inside.

    Args:
      reported: what was run.
      results: from `tables.collect`.
      forget_set: S; None before it is chosen.
      hardness: how hard S and its parts are to forget, from `forget_sets.json`; may be empty.
      pictures: the figures, in order.
      environment: what it ran on.
    """
    template = pages.engine().get_template("run.html.jinja")
    return template.render(
        name=reported.name,
        sentences=conclusions.conclude(results),
        missing=missing_runs(results),
        facts=facts(reported, forget_set) | hardness_facts(hardness),
        columns=columns.shown_columns(results),
        table=table(results),
        labels=LABELS,
        seeds=len(reported.seeds),
        pictures=[(picture, pages.encode(picture)) for picture in pictures],
        config=json.dumps(reported.written, indent=2, ensure_ascii=False),
        environment={
            key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            for key, value in environment.items()
        },
    )


def table(results: Results) -> list[dict[str, Any]]:
    """Returns the lines of the summary table: what they are called, and their cells."""
    # The template groups lines by whether they are calibration.
    shown = columns.shown_columns(results)
    best = [columns.best_lines(results, column) for column in shown]
    return [
        {
            "method": summary.line.name,
            "algorithm": summary.line.method,
            "runs": wording.runs(summary.line),
            "calibration": summary.line.calibration is not None,
            "seeds": len(summary.rows),
            "cells": [
                (
                    *columns.number_pair(summary.measures.get(column.measure), column.digits),
                    summary.line.name in names,
                )
                for column, names in zip(shown, best, strict=True)
            ],
        }
        for summary in results.summaries
    ]


def missing_runs(results: Results) -> list[str]:
    """Says which seeds are missing, for each line of the table."""
    missing: dict[Line, list[int]] = {}
    for line, seed in results.missing:
        missing.setdefault(line, []).append(seed)

    # A sentence for each line.
    sentences = []
    for line, seeds in missing.items():
        word = "seed" if len(seeds) == 1 else "seeds"
        sentences.append(f"{line.name}: {word} {', '.join(map(str, seeds))}")
    return sentences


def facts(reported: Reported, forget_set: ForgetSet | None) -> dict[str, str]:
    """Says what was run, in a few lines."""
    data = reported.data

    # The data, and how models were trained on it.
    height, width, channels = data.train.images.shape[1:]
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{len(split.labels):,} {name}" for name, split in splits.items())
    lines = {
        "Data": f"{data.name}: {sizes} images of {height} × {width} × {channels}, "
        f"{data.num_classes} classes",
        "Model": _options(reported.model),
        "Training": _options(reported.training) + elsewhere(reported),
        "Seeds": _seeds(reported.seeds),
    }
    budget = reported.written.get("budget")
    if budget is not None:
        lines["Budget"] = f"{budget:.3g} of the gradients of retraining, for every method"

    # What was to be forgotten, and where its scores are from.
    if forget_set is not None:
        sizes_of_parts = {name: len(part) for name, part in forget_set.parts.items()}
        lines["Forget set S"] = (
            f"{len(forget_set.forget):,} images by {reported.forget_by} "
            f"({_options(sizes_of_parts)}); retain set R: {len(forget_set.retain):,}"
        )
    if reported.bank is not None:
        lines["Scores"] = f"memorization from a bank: {_options(reported.bank)}"
        if reported.diverged:
            lines["Scores"] += f"; {reported.diverged} of its models diverged and are left out"
    return lines


def elsewhere(reported: Reported) -> str:
    """Says of whose models the recipe is, where the original ones were not trained by it."""
    if not reported.written.get("original"):
        return ""
    return (
        "; this recipe is the one given: the original model was trained elsewhere, and retrained "
        "models, the bank and the times and gradients of retraining are of this recipe"
    )


def hardness_facts(hardness: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Says how memorized and how entangled S and its parts are, in a line each."""
    measures = {
        "Mean memorization": ("memorization", 2),
        "Entanglement score": ("entanglement_score", 0),
        "MMD² with the rest": ("mmd_squared", 4),
    }
    lines = {}
    for title, (key, digits) in measures.items():
        if hardness and all(key in row for row in hardness.values()):
            lines[title] = ", ".join(
                f"{'S' if name == 'all' else name} {wording.number(row[key], digits)}"
                for name, row in hardness.items()
            )
    return lines


def _options(options: Mapping[str, Any]) -> str:
    """Writes the leading `name`, if there is one, then options as "key value"."""
    # The name is written without its key.
    words = [f"{key} {value}" for key, value in options.items() if key != "name"]
    if "name" in options:
        words = [str(options["name"]), *words]
    return ", ".join(words)


def _seeds(seeds: Sequence[int]) -> str:
    """Writes seeds, which follow on each other; of many, the first and the last."""
    if len(seeds) > MANY_SEEDS:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
