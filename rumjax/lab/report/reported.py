"""What a report is about: the parts of a run, or of one of its cases, that a page speaks of."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rumjax.lab.experiment import Case, Run
from rumjax.lab.methods import Method
from rumjax.lab.sections import Audit, Study
from rumjax.types import Splits


class Reported(NamedTuple):
    """A run, or one of its cases, as its report needs it."""

    name: str
    data: Splits
    methods: tuple[Method, ...]
    """The methods as they were run."""
    seeds: tuple[int, ...]
    written: Mapping[str, Any]
    """The configuration, to be shown."""
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    forget_by: str = ""
    """What the forget set was chosen by; empty where there are several."""
    bank: Mapping[str, Any] | None = None
    """The section `bank`, where memorization scores come from it."""
    diverged: int = 0
    """How many models of the bank diverged, and are left out."""
    folder: str = ""
    """The folder of a case in the work directory; empty where the run has a single case."""
    audit: Audit | None = None
    study: Study | None = None


def case_of(run: Run, case: Case, diverged: int = 0) -> Reported:
    """Returns what the report of a case is about; `diverged` counts models of the bank."""
    return whole(run)._replace(
        diverged=diverged,
        name=case.name,
        methods=case.methods,
        written=case.written,
        forget_by=case.forget.by,
        folder=case.folder,
    )


def whole(run: Run) -> Reported:
    """Returns what the page of a study is about."""
    config = run.config
    return Reported(
        name=run.name,
        data=run.data,
        methods=run.methods,
        seeds=run.seeds,
        written=config.written,
        model=config.model,
        training=config.training,
        bank=config.section("bank") if run.needs_bank else None,
        audit=config.audit,
        study=config.study,
    )
