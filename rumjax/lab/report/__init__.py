"""The report of a run: tables, figures, and one page that holds them all."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from rumjax.lab.experiment import Experiment
from rumjax.lab.report import audits, columns, exports, figures, page, studies, tables, tuning
from rumjax.lab.workdir import WorkDirectory

__all__ = ["write", "write_audit", "write_study", "write_tuning"]


def write(work: WorkDirectory, experiment: Experiment, console: Console) -> list[dict[str, Any]]:
    """Makes the report from what the work directory holds; a run may be partial.

    It writes `results.csv`, `summary.csv`, `metrics.jsonl`, `report.html`, the summary as
    `tables/summary.*` and what it shows as `figures/*`, each whole or not at all, and prints the
    summary.

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
        picture.write(work)
    exports.write(work, exports.summary(results))
    environment = work.read_json("environment.json", missing={})
    work.write_text(
        "report.html",
        page.page(
            experiment,
            results,
            tables.forget_sets(work),
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
    parts = tables.parts(work)
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


def write_study(
    work: WorkDirectory, experiment: Experiment, cases: Sequence[Experiment], console: Console
) -> None:
    """Makes the page of a study, `study.html` and `study.md`, with its tables and figures.

    Args:
      work: the study's directory.
      experiment: the study.
      cases: its cases, with the methods as they were run.
      console: where the answers are printed.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    page = studies.write(work, studies.collect(work, experiment, cases))
    for answer in page.answers:
        console.print(answer, markup=False, highlight=False)
    console.print(str(work.path / "study.html"), markup=False, highlight=False, soft_wrap=True)


def write_audit(work: WorkDirectory, experiment: Experiment, console: Console) -> None:
    """Makes the page on the audits of a run, `audit.html` and `audit.md`, and `audit.csv`.

    Args:
      work: the directory of the run, or of a case.
      experiment: with the methods as they were run.
      console: where the answers are printed.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    found = audits.write(work, experiment)
    for answer in found.answers:
        console.print(answer, markup=False, highlight=False)
    console.print(str(work.path / "audit.html"), markup=False, highlight=False, soft_wrap=True)


def write_tuning(work: WorkDirectory, tried: Sequence[Mapping[str, Any]]) -> None:
    """Draws what tuning has tried, `figures/tuning_*`; see `rumjax.lab.tuning.Trial`."""
    with figures.style():
        for name in dict.fromkeys(row["method"] for row in tried):
            tuning.picture(name, [row for row in tried if row["method"] == name]).write(work)


def _view(run, case):
    import types

    config = {**case.written}
    return types.SimpleNamespace(
        name=case.name,
        config=config,
        data=run.data,
        seeds=run.seeds,
        methods=case.methods,
        needs_bank=run.needs_bank,
        folder=case.folder,
    )


def write_case(place, run, case, console, *, figures=True):
    view = _view(run, case)
    if run.config.audit is not None:
        write_audit(place, view, console)
    return write(place, view, console)


def write_study_(work, run, cases, console, *, figures=True):
    import types

    if run.config.study is None:
        return
    whole = types.SimpleNamespace(
        name=run.name,
        config=run.config.written,
        data=run.data,
        seeds=run.seeds,
        methods=run.methods,
        needs_bank=run.needs_bank,
    )
    write_study(work, whole, [_view(run, case) for case in cases], console)
