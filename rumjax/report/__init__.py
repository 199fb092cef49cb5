"""The report of a run: tables, figures, and one page that holds them all."""

from typing import Any

import numpy as np
from rich.console import Console

from rumjax.checkpoint import WorkDirectory
from rumjax.experiment import Experiment
from rumjax.report import columns, figures, page, tables

__all__ = ["write"]


def write(work: WorkDirectory, experiment: Experiment, console: Console) -> list[dict[str, Any]]:
    """Makes the report from what the work directory holds; a run may be partial.

    It writes `results.csv`, `summary.csv`, `metrics.jsonl`, `figures/*.png` and `report.html`, each
    whole or not at all, and prints the summary.

    Returns:
      The rows of `results.csv`.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    results, epochs = tables.collect(work, experiment)
    work.write_text("results.csv", tables.results_csv(results))
    work.write_text("summary.csv", tables.summary_csv(results))
    losses = tables.original_epochs(work, experiment.seeds)
    work.write_text("metrics.jsonl", tables.to_jsonl([*losses, *epochs]))
    pictures = figures.draw(results, scored(work, experiment))
    for picture in pictures:
        with work.writing(f"figures/{picture.name}.png") as file:
            file.write(picture.png)
    environment = work.read_json("environment.json", missing={})
    work.write_text(
        "report.html",
        page.page(
            experiment,
            results,
            forget_sets(work),
            work.read_json("forget_sets.json", missing={}),
            pictures,
            environment,
        ),
    )
    console.print(columns.terminal_table(results, experiment.name))
    if results.missing:
        console.print(f"{len(results.missing)} runs are missing: the report is a partial one.")
    for name in ("report.html", "results.csv"):
        console.print(str(work.path / name), markup=False, highlight=False, soft_wrap=True)
    return results.rows


def scored(work: WorkDirectory, experiment: Experiment) -> figures.Scored | None:
    """What the figures of scores need: memorization, or C-proxy without a bank; None before."""
    parts = {
        name: part for name, part in forget_sets(work).items() if name not in ("forget", "retain")
    }
    if not parts or not work.has("scores.npz"):
        return None
    found = work.read_arrays("scores.npz")
    name = "memorization" if "memorization" in found else "c_proxy"
    train = experiment.data.train
    return figures.Scored(
        name=name,
        values=found[name],
        parts=parts,
        images=np.asarray(train.images),
        labels=np.asarray(train.labels),
        class_names=experiment.data.class_names,
        proxy=found["c_proxy"] if name == "memorization" else None,
        stability=work.read_json("bank/stability.json", missing=[]),
    )


def forget_sets(work: WorkDirectory) -> dict[str, np.ndarray]:
    """`forget_sets.npz`: S as "forget", R as "retain", and the parts of S; empty before."""
    return work.read_arrays("forget_sets.npz") if work.has("forget_sets.npz") else {}
