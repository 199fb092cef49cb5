"""The report of a run: tables, figures, and one page that holds them all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from rich.console import Console

import rumjax.lab.report.backend  # noqa: F401
from rumjax.archives import reason
from rumjax.lab import files
from rumjax.lab.report import (
    audits,
    columns,
    conclusions,
    drawing,
    exports,
    run_page,
    studies,
    tables,
    tuning,
)
from rumjax.lab.report import figures as run_figures
from rumjax.lab.report.drawing import Picture
from rumjax.lab.report.pages import Page
from rumjax.lab.report.reported import Reported
from rumjax.lab.report.score_figures import Scored
from rumjax.lab.results import read_forget_set
from rumjax.lab.workdir import WorkDirectory

__all__ = ["Attempts", "Reported", "write", "write_audit", "write_study", "write_tuning"]

Made = TypeVar("Made")


class Attempts:
    """Makes one page after another: what fails is said at once, and raised when all are made."""

    def __init__(self, console: Console) -> None:
        """Starts with nothing made."""
        self.console, self.errors = console, list[Exception]()

    def make(self, what: str, page: Callable[[], Made]) -> Made | None:
        """Makes a page, and returns what that returns; None if it fails."""
        try:
            return page()
        except Exception as error:
            self.errors.append(error)
            why = f"{type(error).__name__}: {reason(error)}"
            self.console.print(f"{what} could not be made ({why}); all else goes on", markup=False)
            return None

    def finish(self) -> None:
        """Raises the first error, if there was any."""
        if self.errors:
            raise self.errors[0]


def write(
    work: WorkDirectory, reported: Reported, console: Console, *, figures: bool = True
) -> list[dict[str, Any]]:
    """Makes the report from what the work directory holds; a run may be partial.

    It writes `results.csv`, `summary.csv`, `metrics.jsonl`, `report.html`, the summary as
    `tables/summary.*` and what it shows as `figures/*`, each whole or not at all, and prints the
    summary.

    Args:
      work: the directory of a run, or of a study's case.
      reported: the run or the case, with the methods as they were run.
      console: where the summary is printed.
      figures: whether to draw, which takes most of the time.

    Returns:
      The rows of `results.csv`.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    # Numbers to be computed with.
    results, epochs = tables.collect(work, reported)
    work.write_text(files.RESULTS, tables.results_csv(results))
    work.write_text(files.SUMMARY, tables.summary_csv(results))
    losses = tables.original_epochs(work, reported.seeds)
    work.write_text(files.METRICS, tables.to_jsonl([*losses, *epochs]))

    # What is to be looked at.
    pictures = run_figures.draw(results, read_scored(work, reported)) if figures else []
    for picture in pictures:
        picture.write(work)
    _print_undrawn(pictures, console)
    exports.write(work, exports.summary(results))
    page = run_page.to_html(
        reported,
        results,
        read_forget_set(work),
        work.read_json(files.HARDNESS, missing={}),
        pictures,
        work.read_json(files.ENVIRONMENT, missing={}),
    )
    work.write_text(files.REPORT, page)

    # The summary, and where to find the rest.
    console.print(columns.terminal_table(results, reported.name))
    for sentence in conclusions.say_odd({reported.name: results}):
        console.print(sentence, markup=False, highlight=False)
    if results.missing:
        console.print(f"{len(results.missing)} runs are missing: the report is a partial one.")
    for name in (files.REPORT, files.RESULTS):
        _print_path(work, name, console)
    return results.rows


def read_scored(work: WorkDirectory, reported: Reported) -> Scored | None:
    """Reads memorization, or C-proxy without a bank, for figures; None before S is chosen."""
    parts = tables.parts(work)
    if not parts or not work.has(files.SCORES):
        return None
    scores = work.read_arrays(files.SCORES)

    # Without a bank, the cheap score stands in.
    name = "memorization" if "memorization" in scores else "c_proxy"
    train = reported.data.train
    return Scored(
        name=name,
        values=scores[name],
        parts=parts,
        images=np.asarray(train.images),
        labels=np.asarray(train.labels),
        class_names=reported.data.class_names,
        origin=reported.data.origin("train"),
        proxy=scores["c_proxy"] if name == "memorization" else None,
        stability=work.read_json(files.STABILITY, missing=[]),
    )


def write_study(
    work: WorkDirectory,
    reported: Reported,
    cases: Sequence[Reported],
    console: Console,
    *,
    figures: bool = True,
) -> None:
    """Makes the page of a study, `study.html` and `study.md`, with its tables and figures.

    Args:
      work: the study's directory.
      reported: the study.
      cases: its cases, with the methods as they were run.
      console: where the answers are printed.
      figures: whether to draw.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    study = studies.collect(work, reported, cases)
    page = studies.write(work, study, figures=figures)
    _print_answers(work, page, files.page("study", "html"), console)


def write_audit(
    work: WorkDirectory, reported: Reported, console: Console, *, figures: bool = True
) -> None:
    """Makes the page on the audits of a run, `audit.html` and `audit.md`, and `audit.csv`.

    Args:
      work: the directory of the run, or of a case.
      reported: with the methods as they were run.
      console: where the answers are printed.
      figures: whether to draw.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    page = audits.write(work, reported, figures=figures)
    _print_answers(work, page, files.page("audit", "html"), console)


def write_tuning(
    work: WorkDirectory, trials: Sequence[Mapping[str, Any]], *, figures: bool = True
) -> None:
    """Draws what tuning has tried, `figures/tuning_*`.

    Args:
      work: the directory of a run, or of a study's case.
      trials: a row each, see `rumjax.lab.trials.Trials`.
      figures: whether to draw; nothing is written otherwise.

    Raises:
      WorkDirectoryError: a file cannot be written.
    """
    if not figures:
        return
    with drawing.style():
        # A figure for each method that was tuned.
        for name in dict.fromkeys(row["method"] for row in trials):
            own = [row for row in trials if row["method"] == name]
            tuning.draw_trials(name, own).write(work)


def _print_answers(work: WorkDirectory, page: Page, name: str, console: Console) -> None:
    for sentence in page.answers:
        console.print(sentence, markup=False, highlight=False)
    _print_undrawn(page.pictures, console)
    _print_path(work, name, console)


def _print_undrawn(pictures: Sequence[Picture], console: Console) -> None:
    for picture in pictures:
        if picture.drawn is None:
            console.print(f"{picture.title}: {picture.caption}", markup=False, highlight=False)


def _print_path(work: WorkDirectory, name: str, console: Console) -> None:
    console.print(str(work.path / name), markup=False, highlight=False, soft_wrap=True)
