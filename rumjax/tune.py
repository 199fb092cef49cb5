"""Searches hyper-parameters against oracles of seeds that the run itself does not report.

    python -m rumjax.tune --config=fashion_mnist_rum.py --workdir=runs/first

The configuration's section `tuning` says what is searched: the seeds, and for each method or
algorithm a grid. Scores and forget set are those of the run. The criterion is the mean tug of war
(ToW) against the seeds' oracles. Every setting is kept in tuning.csv as soon as it is known; the
same command goes on where it stopped.
"""

import csv
import dataclasses
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rumjax.errors import DivergenceError, InvalidInputError, check_choice
from rumjax.launch import argument_parser, configuration, guarded, settle

Setting = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str], console: Console) -> None:
    parser = argument_parser("python -m rumjax.tune", __doc__ or "")
    parser.add_argument(
        "--method", action="append", metavar="NAME", help="only this one; may be repeated"
    )
    arguments, overrides = parser.parse_known_args(argv)
    config = configuration(arguments.config, overrides)
    settle(arguments.cpu_devices)
    from rumjax import checkpoint, experiment

    built = experiment.build(config)
    with checkpoint.WorkDirectory(arguments.workdir or f"runs/{built.name}") as work:
        search(built, work, console, arguments.method)


def search(
    experiment: Any, work: Any, console: Console, only: Sequence[str] | None = None
) -> dict[str, Setting]:
    """The best setting of every method that has a grid, by mean ToW over the tuning seeds.

    Args:
      experiment: whose configuration has a section `tuning`.
      work: the run's directory.
      console: where progress is shown.
      only: names of methods, if not all.

    Raises:
      InvalidInputError: no section `tuning`, or an unknown method.
    """
    from rumjax import pipeline, progress

    tuning = experiment.config.get("tuning")
    if not tuning:
        raise InvalidInputError("the configuration has no section tuning")
    grids = {
        method.name: list(settings(grid_of(tuning["grids"], method), method))
        for method in experiment.methods
        if grid_of(tuning["grids"], method)
    }
    for name in only or ():
        check_choice("method with a grid", name, grids)
    grids = {name: grid for name, grid in grids.items() if not only or name in only}

    context = pipeline.open_context(experiment, work, console)
    pipeline.train_originals(context)
    score = pipeline.score_examples(context)
    parts = pipeline.choose_forget_set(context, score)
    unreported = dataclasses.replace(experiment, seeds=tuple(tuning["seeds"]))
    context = context._replace(experiment=unreported)
    pipeline.train_originals(context)
    pipeline.train_oracles(context, parts)

    rows: list[dict[str, Any]] = []
    total = sum(map(len, grids.values()))
    with progress.stage(console, "Tuning", total, "settings") as advance:
        for method in experiment.methods:
            for setting in grids.get(method.name, ()):
                name = fingerprint({"setting": setting, "seeds": tuning["seeds"]})
                piece = f"tuning/{method.name}_{name}.json"
                if not work.has(piece):
                    found = evaluate(context, method, setting, score, parts)
                    work.write_json(piece, {"method": method.name, "setting": setting, **found})
                rows.append(work.read_json(piece))
                advance(method.name)
                work.write_text("tuning.csv", table(rows))
    return report(rows, console)


def grid_of(grids: Mapping[str, Any], method: Any) -> Mapping[str, Any]:
    """A method's grid: its own by name, else its algorithm's."""
    return grids.get(method.name) or grids.get(method.algorithm) or {}


def settings(grid: Mapping[str, Any], method: Any) -> Iterator[Setting]:
    """All combinations of a grid, as options by part of the forget set.

    A grid of plain options holds for all parts alike; one of options by part is searched jointly.
    """
    nested = all(isinstance(values, Mapping) for values in grid.values())
    by_part = grid if nested else {"*": grid}
    axes = [(part, key, values) for part in by_part for key, values in by_part[part].items()]
    for combination in itertools.product(*(values for _, _, values in axes)):
        setting: Setting = {}
        for (part, key, _), value in zip(axes, combination, strict=True):
            for each in method.order if part == "*" else (part,):
                setting.setdefault(each, {})[key] = value
        yield setting


def evaluate(
    context: Any, method: Any, setting: Setting, score: Mapping[str, Any], parts: Any
) -> dict[str, Any]:
    """ToW of a method with a setting on every tuning seed; 0 where it diverges."""
    from rumjax import experiment as experiments
    from rumjax import forget_sets, metrics, pipeline
    from rumjax.unlearn import run

    options = method.options
    select = {part: {**given, **setting.get(part, {})} for part, given in options["select"].items()}
    built = context.experiment
    changed = experiments.build_method(
        method.name,
        {**options, "select": select},
        built.config,
        built.model,
        built.data.num_classes,
    )
    forget = forget_sets.union(parts, context.size)
    retain = np.setdiff1d(np.arange(context.size), forget)
    train, test = built.data.train, built.data.test

    def accuracies(variables: Any) -> metrics.Accuracies:
        found = pipeline.probabilities(context, variables)
        right = found.train.argmax(axis=1) == train.labels
        tested = found.test.argmax(axis=1) == test.labels
        return metrics.Accuracies(
            *(float(np.mean(each)) for each in (right[forget], right[retain], tested))
        )

    tow = []
    for seed in built.seeds:
        steps = pipeline.steps_of(context, changed, score, parts, seed)
        theta = pipeline.require_model(context, f"original_seed{seed}")
        oracle = pipeline.require_model(context, f"oracle_reference_seed{seed}")
        key = pipeline.stage_key(seed, f"unlearn/{method.name}")
        try:
            unlearned = run(key, steps, theta, context.data)
        except DivergenceError:
            tow.append(0.0)
            continue
        tow.append(metrics.tug_of_war(accuracies(unlearned), accuracies(oracle)))
    return {"tow": tow, "mean_tow": float(np.mean(tow)), "epochs": changed.epochs}


def fingerprint(value: Mapping[str, Any]) -> str:
    """A short name for a JSON-like value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All settings and what they scored, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "mean_tow", "tow", "epochs", "setting"])
    for row in rows:
        tow = " ".join(f"{each:.4f}" for each in row["tow"])
        writer.writerow(
            [row["method"], row["mean_tow"], tow, row["epochs"], json.dumps(row["setting"])]
        )
    return text.getvalue()


def report(rows: Sequence[Mapping[str, Any]], console: Console) -> dict[str, Setting]:
    """Prints the best setting of every method, and returns them."""
    shown = Table("Method", "ToW", "Settings", "Best setting", box=None)
    best: dict[str, Setting] = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        tried = [row for row in rows if row["method"] == name]
        winner = max(tried, key=lambda row: row["mean_tow"])
        best[name] = winner["setting"]
        options = winner["setting"]
        alike = len({json.dumps(each) for each in options.values()}) == 1
        text = json.dumps(next(iter(options.values())) if alike else options)
        shown.add_row(name, f"{winner['mean_tow']:.3f}", str(len(tried)), text)
    console.print(shown)
    return best


if __name__ == "__main__":
    sys.exit(main())
