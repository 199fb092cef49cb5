"""The report, a study, an audit and a certificate in a real browser, on a phone and on a desk."""

import pytest
from rich.console import Console

from rumjax.lab import report
from rumjax.lab.forgetting.page import page as certificate_page
from rumjax.lab.report import audits, studies
from rumjax.lab.workdir import WorkDirectory
from tests.browser import SCHEMES, WIDTHS, chromium, faults
from tests.lab.forgetting.made_up_certificates import made, refused
from tests.lab.report import made_up_audits, made_up_studies


def write_pages(folder, work, experiment):
    """Writes each kind of page that a command leaves, and returns their paths."""
    # The report of a run.
    report.write(work, experiment, Console(quiet=True))
    yield work.path / "report.html"

    # A study.
    study = made_up_studies.difficulty(finetune=(0.9, 0.8, 0.6), scrub=(0.9, 0.8, 0.1))
    studies.write(work, study)
    yield work.path / "study.html"

    # An audit.
    with WorkDirectory(folder / "audited") as audited:
        made_up_audits.fill(audited)
        audits.write(audited, made_up_audits.experiment())
        yield audited.path / "audit.html"

    # Certificates of what was delivered and of what was not.
    for name, document in (("certificate", made()), ("refused", refused())):
        (folder / f"{name}.html").write_text(certificate_page(document), encoding="utf-8")
        yield folder / f"{name}.html"


@pytest.mark.thorough
def test_every_page_fits_and_can_be_read(tmp_path, work, experiment):
    with chromium() as browser:
        wrong = [
            fault
            for path in write_pages(tmp_path, work, experiment)
            for width in WIDTHS
            for scheme in SCHEMES
            for fault in faults(browser, path, width=width, scheme=scheme, quick=width == 800)
        ]
    assert not wrong, "\n".join(wrong)
