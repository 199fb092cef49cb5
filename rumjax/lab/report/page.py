"""The page: one HTML file that needs nothing else."""

import base64
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from rumjax.lab.experiment import Experiment
from rumjax.lab.report import columns
from rumjax.lab.report.answer import answer
from rumjax.lab.report.figures import Picture
from rumjax.lab.report.tables import Line, Results

MANY_SEEDS = 8
"""from which on only the first and the last are named"""


def page(
    experiment: Experiment,
    results: Results,
    forget_sets: Mapping[str, np.ndarray],
    hardness: Mapping[str, Mapping[str, float]],
    pictures: Sequence[Picture],
    environment: Mapping[str, Any],
) -> str:
    """The report as HTML, with figures and style inside.

    Args:
      experiment: what was run.
      results: from `tables.collect`.
      forget_sets: "forget", "retain" and the parts of the forget set; may be empty.
      hardness: what `rumjax.lab.pipeline.describe` found of them; may be empty.
      pictures: the figures, in order.
      environment: what it ran on.
    """
    return (
        engine()
        .get_template("page.html.jinja")
        .render(
            name=experiment.name,
            sentences=answer(results),
            missing=missing(results),
            facts=facts(experiment, forget_sets) | hardness_facts(hardness),
            columns=columns.shown_columns(results),
            table=table(results),
            labels=columns.LABELS,
            seeds=len(experiment.seeds),
            pictures=[(each, encoded(each)) for each in pictures],
            config=json.dumps(experiment.config, indent=2, ensure_ascii=False),
            environment={
                key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                for key, value in environment.items()
            },
        )
    )


@functools.cache
def engine() -> jinja2.Environment:
    """What turns the templates of this folder into pages."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("rumjax.lab.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["superscript"] = superscript
    return found


def encoded(picture: Picture) -> str:
    """A figure's PNG, to be put into a page."""
    return base64.b64encode(picture.drawn.png).decode()


def superscript(text: str) -> Markup:
    """Escaped text in which RUM^F has its F raised."""
    return Markup(str(escape(text)).replace("RUM^F", "RUM<sup>F</sup>"))


def table(results: Results) -> list[dict[str, Any]]:
    """The lines of the summary table: what they are called, and their cells."""
    shown = columns.shown_columns(results)
    best = [columns.best_lines(results, column) for column in shown]
    return [
        {
            "method": columns.show_method(summary.line),
            "strategy": columns.show_strategy(summary.line),
            "calibration": summary.line.is_calibration,
            "seeds": len(summary.rows),
            "cells": [
                (
                    *columns.show_both(summary.measures.get(column.measure), column.digits),
                    summary.line.name in names,
                )
                for column, names in zip(shown, best, strict=True)
            ],
        }
        for summary in results.summaries
    ]


def missing(results: Results) -> list[str]:
    """What is missing, a line of the table each: which seeds."""
    seeds: dict[Line, list[int]] = {}
    for line, seed in results.missing:
        seeds.setdefault(line, []).append(seed)
    return [
        f"{columns.show_line(line)}: seed{'s' * (len(each) > 1)} {', '.join(map(str, each))}"
        for line, each in seeds.items()
    ]


def facts(experiment: Experiment, forget_sets: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What was run, in a few lines."""
    config, data = experiment.config, experiment.data
    height, width, channels = data.train.images.shape[1:]
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    sizes = ", ".join(f"{len(each.labels):,} {name}" for name, each in splits.items())
    found = {
        "Data": f"{data.name}: {sizes} images of {height} × {width} × {channels}, "
        f"{data.num_classes} classes",
        "Model": _options(config["model"]),
        "Training": _options(config["training"]),
        "Seeds": _seeds(experiment.seeds),
    }
    if forget_sets:
        parts = {
            name: len(part)
            for name, part in forget_sets.items()
            if name not in ("forget", "retain")
        }
        found["Forget set S"] = (
            f"{len(forget_sets['forget']):,} images by {config['forget']['by']} "
            f"({_options(parts)}); retain set R: {len(forget_sets['retain']):,}"
        )
    if experiment.needs_bank:
        found["Scores"] = f"memorization from a bank: {_options(config['bank'])}"
    return found


def hardness_facts(hardness: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """How memorized and how entangled S and its parts are, in a line each."""
    measures = {
        "Mean memorization": ("memorization", "{:.2f}"),
        "Entanglement score": ("entanglement_score", "{:.0f}"),
        "MMD² with the rest": ("mmd_squared", "{:.4f}"),
    }
    return {
        title: ", ".join(
            f"{'S' if name == 'all' else name} {form.format(row[key])}"
            for name, row in hardness.items()
        )
        for title, (key, form) in measures.items()
        if hardness and all(key in row for row in hardness.values())
    }


def _options(options: Mapping[str, Any]) -> str:
    """The leading `name`, if any, then options as "key value"."""
    rest = [f"{key} {value}" for key, value in options.items() if key != "name"]
    return ", ".join([*([str(options["name"])] if "name" in options else []), *rest])


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds, which follow on each other; the first and the last of many."""
    if len(seeds) > MANY_SEEDS:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
