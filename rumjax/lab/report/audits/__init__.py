"""The page on a run's audits: which methods can be told from retraining, and by which audit.

Like a study's page it reads on its own, with every table and figure beside it.
"""

from rumjax.lab.experiment import Experiment
from rumjax.lab.report import figures
from rumjax.lab.report.audits import answers, examples, pictures, tables
from rumjax.lab.report.audits.base import Audited, Subject, collect
from rumjax.lab.report.figures import Picture
from rumjax.lab.report.studies import publish
from rumjax.lab.report.studies.base import Page
from rumjax.lab.report.tables import to_csv
from rumjax.lab.workdir import WorkDirectory

__all__ = ["Audited", "Page", "Subject", "collect", "findings_csv", "page", "write"]


def write(work: WorkDirectory, experiment: Experiment) -> Page:
    """Writes `audit.html`, `audit.md`, `audit.csv`, `tables/audit_*` and `figures/audit_*`.

    Args:
      work: the directory of a run, or of a study's case; its audits may be partial.
      experiment: the run or the case.

    Returns:
      The page.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    audited = collect(work, experiment)
    found = page(audited)
    publish(work, audited.about, found)
    work.write_text("audit.csv", findings_csv(audited))
    return found


def page(audited: Audited) -> Page:
    """What the audits say, in sentences, tables and figures."""
    with figures.style():
        drawn = draw(audited)
    return Page(
        "Audits",
        "Can anyone tell the unlearned models from models that never saw the forget set?",
        answers.answers(audited),
        tables.all_tables(audited),
        drawn,
    )


def draw(audited: Audited) -> list[Picture]:
    """Every figure that there are numbers for."""
    drawn = []
    if audited.headlines:
        drawn.append(pictures.ranking(audited))
    if pictures.disagreeing(audited):
        drawn.append(pictures.disagreement(audited))
    if pictures.attacked(audited):
        drawn.append(pictures.roc(audited))
    if audited.leaks()[0].size:
        drawn += [examples.per_example(audited), examples.leaks(audited)]
    return drawn


def findings_csv(audited: Audited) -> str:
    """`audit.csv`: a row for every method, audit and measure; NaN where there is no interval."""
    rows = [
        {"name": each.name, "audit": audit, "measure": measure, **found._asdict()}
        for each in audited.everyone
        for (audit, measure), found in each.findings.items()
    ]
    return to_csv(["name", "audit", "measure", "value", "low", "high"], rows)
