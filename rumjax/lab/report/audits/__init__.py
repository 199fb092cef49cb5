"""The page on a run's audits: which methods can be told from retraining, and by which audit.

Like a study's page it reads on its own, with every table and figure beside it.
"""

from rumjax.lab import files
from rumjax.lab.report import drawing, pages
from rumjax.lab.report.audits import conclusions, example_figures, method_figures, tables
from rumjax.lab.report.audits.base import Audited, Subject, collect
from rumjax.lab.report.drawing import Picture
from rumjax.lab.report.pages import Page
from rumjax.lab.report.reported import Reported
from rumjax.lab.report.tables import to_csv
from rumjax.lab.workdir import WorkDirectory

__all__ = ["Audited", "Subject", "collect", "draw", "findings_csv", "page", "write"]


def write(work: WorkDirectory, reported: Reported, *, figures: bool = True) -> Page:
    """Writes `audit.html`, `audit.md`, `audit.csv`, `tables/audit_*` and `figures/audit_*`.

    Args:
      work: the directory of a run, or of a study's case; its audits may be partial.
      reported: the run or the case.
      figures: whether to draw.

    Returns:
      The page.

    Raises:
      WorkDirectoryError: a file is damaged or cannot be written.
    """
    audited = collect(work, reported)
    audit_page = page(audited, figures)
    pages.publish(work, audited.about, audit_page)
    work.write_text(files.AUDIT_TABLE, findings_csv(audited))
    return audit_page


def page(audited: Audited, figures: bool) -> Page:
    """Answers who can be told from retraining, in sentences, tables and figures."""
    answer = tables.matrix(audited)
    return Page(
        "Audits",
        "Can anyone tell the unlearned models from models that never saw the forget set?",
        conclusions.conclude(audited),
        tables.all_tables(audited),
        draw(audited) if figures else [],
        answer if answer.rows else None,
    )


def draw(audited: Audited) -> list[Picture]:
    """Draws every figure that there are numbers for."""
    pictures = []
    with drawing.style():
        if audited.headlines:
            pictures.append(method_figures.ranking(audited))
        if method_figures.compared(audited):
            pictures.append(method_figures.disagreement(audited))
        if method_figures.attacks(audited):
            pictures.append(method_figures.roc(audited))
        if audited.leaks()[0].size:
            pictures += [example_figures.per_example(audited), example_figures.leaks(audited)]
    return pictures


def findings_csv(audited: Audited) -> str:
    """Returns `audit.csv`: a row for every method, audit and measure, NaN without an interval."""
    rows = [
        {"name": subject.name, "audit": audit, "measure": measure, **interval._asdict()}
        for subject in audited.everyone
        for (audit, measure), interval in subject.findings.items()
    ]
    return to_csv(["name", "audit", "measure", "value", "low", "high"], rows)
