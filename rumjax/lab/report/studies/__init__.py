"""Pages that answer a research question from the results of a study, each by a function of its own.

A page reads on its own: question, setting, answers computed from the numbers, tables, figures. It
is written as HTML and Markdown, with every table and figure beside it in the forms of papers.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rumjax.lab.experiment import Experiment
from rumjax.lab.methods import SCORES
from rumjax.lab.report import exports, figures, tables
from rumjax.lab.report.page import encoded, engine, facts
from rumjax.lab.report.studies import difficulty, proxies, refinement, requests
from rumjax.lab.report.studies.base import About, Case, Page, Study, caveats, settings_table
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Scores

__all__ = ["KINDS", "About", "Case", "Page", "Study", "collect", "publish", "write"]

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
        answers=[*page.answers, *caveats(study.cases)], tables=[*page.tables, settings_table(study)]
    )
    publish(work, study.about, page)
    return page


def publish(work: WorkDirectory, about: About, page: Page) -> None:
    """Writes a page as HTML and Markdown, with its `tables/*` and `figures/*`."""
    for table in page.tables:
        exports.write(work, table)
    for picture in page.pictures:
        picture.write(work)
    work.write_text(f"{about.kind}.html", html(about, page))
    work.write_text(f"{about.kind}.md", markdown(about, page))


def html(about: About, page: Page) -> str:
    """The page as HTML that needs nothing else."""
    return (
        engine()
        .get_template("study.html.jinja")
        .render(
            name=about.name,
            about=about,
            page=page,
            text=exports.text,
            pictures=[(each, encoded(each)) for each in page.pictures],
        )
    )


def markdown(about: About, page: Page) -> str:
    """The page as Markdown, with figures by relative links."""
    lines = [f"# {page.title}", "", f"*{about.name}*", "", page.question, ""]
    lines += [f"- {each}" for each in page.answers]
    lines += ["", "## Setting", "", *(f"- {key}: {value}" for key, value in about.facts.items())]
    for picture in page.pictures:
        lines += ["", f"## {picture.title}", "", f"![{picture.title}](figures/{picture.name}.png)"]
        lines += ["", picture.caption]
    for table in page.tables:
        lines += ["", f"## {table.title}", "", exports.markdown(table), table.note]
    if about.command:
        lines += ["", "## To run it again", "", f"    {about.command}"]
    return "\n".join(lines) + "\n"
