"""Pages that answer a research question from the results of a study, each by a function of its own.

A page reads on its own: question, setting, answers computed from the numbers, tables, figures. It
is written as HTML and Markdown, with every table and figure beside it in the forms of papers.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rumjax.checkpoint import WorkDirectory
from rumjax.experiment import SCORES, Experiment
from rumjax.report import exports, figures, tables
from rumjax.report.page import encoded, engine, facts
from rumjax.report.studies import difficulty, proxies, refinement, requests
from rumjax.report.studies.base import Case, Page, Study, caveats, settings_table
from rumjax.types import Scores

__all__ = ["KINDS", "Case", "Page", "Study", "collect", "write"]

KINDS: dict[str, Callable[[Study], Page]] = {
    "difficulty": difficulty.page,
    "rum": refinement.page,
    "proxies": proxies.page,
    "requests": requests.page,
}


def collect(work: WorkDirectory, experiment: Experiment, cases: Sequence[Experiment]) -> Study:
    """Reads what a study's page is made from; cases may be partial.

    Args:
      work: the study's directory.
      experiment: the study.
      cases: its cases, with the methods as they were run.

    Raises:
      WorkDirectoryError: a file is damaged.
    """
    arrays = work.read_arrays("scores.npz")
    errors = {"memorization": arrays.get("memorization_se")}
    names = [name for name in (*SCORES, "entanglement") if name in arrays]
    found = {}
    for case in cases:
        place = work.below(case.folder) if case.folder else work
        parts = tables.parts(place)
        name = case.folder.removeprefix("cases/") or case.name
        hardness = place.read_json("forget_sets.json", missing={})
        settings = {method.name: method.options for method in case.methods}
        found[name] = Case(name, tables.collect(place, case)[0], parts, hardness, settings)
    return Study(
        kind=experiment.config["study"]["kind"],
        name=experiment.name,
        options=experiment.config["study"],
        cases=found,
        scores={name: Scores(arrays[name], errors.get(name)) for name in names},
        score_seconds=work.read_json("scores.json", missing={}),
        labels=np.asarray(experiment.data.train.labels),
        facts=facts(experiment, {}),
    )


def write(work: WorkDirectory, study: Study) -> Page:
    """Writes `study.html`, `study.md`, `tables/*` and `figures/*`; returns the page."""
    with figures.style():
        page = KINDS[study.kind](study)
    page = page._replace(
        answers=[*page.answers, *caveats(study)], tables=[*page.tables, settings_table(study)]
    )
    for table in page.tables:
        exports.write(work, table)
    for picture in page.pictures:
        picture.write(work)
    work.write_text("study.html", html(study, page))
    work.write_text("study.md", markdown(study, page))
    return page


def html(study: Study, page: Page) -> str:
    """The page as HTML that needs nothing else."""
    return (
        engine()
        .get_template("study.html.jinja")
        .render(
            name=study.name,
            page=page,
            command=study.options.get("command"),
            facts=study.facts,
            text=exports.text,
            pictures=[(each, encoded(each)) for each in page.pictures],
        )
    )


def markdown(study: Study, page: Page) -> str:
    """The page as Markdown, with figures by relative links."""
    lines = [f"# {page.title}", "", f"*{study.name}*", "", page.question, ""]
    lines += [f"- {each}" for each in page.answers]
    lines += ["", "## Setting", "", *(f"- {key}: {value}" for key, value in study.facts.items())]
    for picture in page.pictures:
        lines += ["", f"## {picture.title}", "", f"![{picture.title}](figures/{picture.name}.png)"]
        lines += ["", picture.caption]
    for table in page.tables:
        lines += ["", f"## {table.title}", "", exports.markdown(table), table.note]
    if command := study.options.get("command"):
        lines += ["", "## To run it again", "", f"    {command}"]
    return "\n".join(lines) + "\n"
