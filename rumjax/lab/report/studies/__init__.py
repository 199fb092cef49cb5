"""Pages that answer a research question from the results of a study, a module for each kind."""

from collections.abc import Callable, Sequence

import numpy as np

from rumjax.lab import files
from rumjax.lab.methods import SCORES
from rumjax.lab.report import conclusions, drawing, pages, run_page, tables
from rumjax.lab.report.pages import Page
from rumjax.lab.report.reported import Reported
from rumjax.lab.report.studies import difficulty, proxies, refinement, requests
from rumjax.lab.report.studies.base import Case, Study, settings_table
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Scores

__all__ = ["KINDS", "Case", "Study", "collect", "write"]


KINDS: dict[str, Callable[[Study, bool], Page]] = {
    "difficulty": difficulty.page,
    "rum": refinement.page,
    "proxies": proxies.page,
    "requests": requests.page,
}
"""what makes the page of a study of each kind, with figures or without"""


def collect(work: WorkDirectory, reported: Reported, cases: Sequence[Reported]) -> Study:
    """Reads what a study's page is made from; cases may be partial.

    Args:
      work: the study's directory.
      reported: the study.
      cases: its cases, with the methods as they were run.

    Raises:
      WorkDirectoryError: a file is damaged.
    """
    assert reported.study is not None

    # Scores are the study's own, and shared by its cases.
    arrays = work.read_arrays(files.SCORES)
    errors = {"memorization": arrays.get("memorization_se")}
    scores = {
        name: Scores(arrays[name], errors.get(name))
        for name in (*SCORES, "entanglement")
        if name in arrays
    }

    # A study without cases is a case itself.
    case_records = {}
    for case in cases:
        place = work.below(case.folder) if case.folder else work
        name = case.folder.removeprefix("cases/") or case.name
        case_records[name] = Case(
            name=name,
            results=tables.collect(place, case)[0],
            parts=tables.parts(place),
            hardness=place.read_json(files.HARDNESS, missing={}),
            settings={method.name: method.options for method in case.methods},
        )
    return Study(
        kind=reported.study.kind,
        name=reported.name,
        options={"command": reported.study.command, **reported.study.options},
        cases=case_records,
        scores=scores,
        score_seconds=work.read_json(files.SCORE_SECONDS, missing={}),
        labels=np.asarray(reported.data.train.labels),
        facts=run_page.facts(reported, None),
    )


def write(work: WorkDirectory, study: Study, *, figures: bool = True) -> Page:
    """Writes `study.html`, `study.md`, `tables/*` and `figures/*`.

    Args:
      work: the study's directory.
      study: from `collect`.
      figures: whether to draw.

    Returns:
      The page.

    Raises:
      WorkDirectoryError: a file cannot be written.
    """
    with drawing.style():
        page = KINDS[study.kind](study, figures)
    caveats = conclusions.caveats({name: case.results for name, case in study.cases.items()})
    unlearned = [conclusions.say_unlearned(case.results) for case in study.cases.values()]
    page = page._replace(
        answers=[*next(filter(None, unlearned), page.answers), *caveats],
        tables=[*page.tables, settings_table(study)],
    )
    pages.publish(work, study.about, page)
    return page
