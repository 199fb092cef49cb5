"""What the page of audits is made of: who is audited, and how far each is from retraining."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

from rumjax.lab import files
from rumjax.lab.report import run_page, tables
from rumjax.lab.report.claims import SIGNIFICANCE
from rumjax.lab.report.pages import About
from rumjax.lab.report.reported import Reported
from rumjax.lab.report.score_figures import Scored
from rumjax.lab.report.tables import Calibration, Results
from rumjax.lab.results import read_forget_set
from rumjax.lab.workdir import WorkDirectory
from rumjax.metrics import Interval

RETRAINED = "retrain"
"""the name under which retrained models are audited as if they were a method"""

LEAST_RANKED = 3
"""Rankings of fewer methods are not correlated."""


class Headline(NamedTuple):
    """The number that stands for an audit."""

    audit: str
    """ "" for a column of the run's results"""
    measure: str
    title: str
    best: Literal["retrained", "lowest", "highest"]
    """which value is best: "retrained" for the one nearest to retrained models', "lowest" for
    distances from an oracle, "highest" for scores"""
    null: float | None = None
    """the value where there is nothing to be told, as between models of one kind; None if that is
    not known before"""

    @property
    def is_bounded(self) -> bool:
        """Says whether its interval may lie around it unevenly, as those of audits do."""
        return bool(self.audit)


U_LIRA = Headline("u_lira", "accuracy", "U-LiRA accuracy", "retrained", 0.5)
RAW_KLOM = Headline("klom", "forget_mean", "KLOM on S", "lowest")
KLOM = Headline("klom_corrected", "forget_mean", "KLOM on S", "lowest", 0.0)
MIA_GAP = Headline("", "mia_gap", "MIA gap", "lowest")
HEADLINES = (
    U_LIRA,
    Headline("u_lira", "auc", "U-LiRA AUC", "retrained", 0.5),
    Headline("lira", "auc", "LiRA AUC", "retrained", 0.5),
    Headline("rmia", "auc", "RMIA AUC", "retrained", 0.5),
    Headline("ruli_privacy", "auc", "RULI privacy AUC", "retrained", 0.5),
    Headline("ruli_efficacy", "auc", "RULI efficacy AUC", "retrained", 0.5),
    KLOM,
    Headline("challenge", "score", "Challenge score", "highest"),
    MIA_GAP,
    Headline("", "probe_gap", "Probe gap", "lowest"),
    Headline("", "tow", "ToW", "highest"),
)


class Subject(NamedTuple):
    """A method, or what methods are held against, and what audits measured of its models."""

    name: str
    """in the configuration"""
    findings: Mapping[tuple[str, str], Interval]
    """by audit and measure"""
    arrays: Mapping[str, np.ndarray]
    """`examples`, curves, and measures of each example; see `rumjax.lab.stages.audits`"""
    columns: Mapping[str, Interval]
    """of the run's results: means over the seeds"""
    models: int = 0
    """of the bank, after the method; none before it was audited"""
    seeds: int = 0

    @property
    def title(self) -> str:
        """Its name on the page."""
        return "retrained" if self.name == RETRAINED else self.name

    @property
    def has_results(self) -> bool:
        """Says whether anything was measured of it."""
        return bool(self.findings or self.columns)

    def value(self, headline: Headline) -> Interval | None:
        """Returns a number with its interval, if there is one that is finite."""
        if headline.audit:
            interval = self.findings.get((headline.audit, headline.measure))
        else:
            interval = self.columns.get(headline.measure)
        return interval if interval is not None and math.isfinite(interval.value) else None

    def bounded(self, headline: Headline) -> Interval | None:
        """Returns the same if its interval has both ends."""
        interval = self.value(headline)
        return interval if interval is not None and np.isfinite(interval).all() else None

    def array(self, name: str) -> np.ndarray:
        """Returns an array, float[n]; empty if it holds no number."""
        values = self.arrays.get(name, np.empty(0))
        return values if np.isfinite(values).any() else np.empty(0)


class Audited(NamedTuple):
    """All that the page is made from."""

    about: About
    methods: Sequence[Subject]
    retrained: Subject
    original: Subject
    counts: Mapping[str, Mapping[str, float]]
    """of models by kind: "trained", "reused", and "seconds" if they were timed"""
    results: Results
    missing: Sequence[str]
    """names of what was not audited yet"""
    scored: Scored
    """the training set, S and its scores, NaN where there are none"""

    @property
    def everyone(self) -> list[Subject]:
        """The calibration, then methods, as far as anything was measured of them."""
        calibration = [each for each in (self.retrained, self.original) if each.has_results]
        return calibration + self.ordered

    @property
    def ordered(self) -> list[Subject]:
        """Methods by U-LiRA, the one nearest to retraining first; those not audited yet last."""
        distances = self.distances(U_LIRA)
        methods = [method for method in self.methods if method.has_results]
        return sorted(methods, key=lambda method: distances.get(method.name, math.inf))

    @property
    def headlines(self) -> list[Headline]:
        """Those that there are numbers of for any method."""
        return [each for each in HEADLINES if any(method.value(each) for method in self.methods)]

    def with_array(self, name: str) -> list[Subject]:
        """Returns everyone who has an array of this name."""
        return [subject for subject in self.everyone if subject.array(name).size]

    def distances(self, headline: Headline) -> dict[str, float]:
        """Computes how far methods are from what is best: a lower number is a better one.

        Returns:
          Distances by method; empty if the best is what retrained models have, and they were not
          audited.
        """
        intervals = {method.name: method.value(headline) for method in self.methods}
        values = {name: each.value for name, each in intervals.items() if each is not None}
        if headline.best == "lowest":
            return values
        if headline.best == "highest":
            return {name: -value for name, value in values.items()}
        # What is nearest to retrained models may lie on either side.
        target = self.retrained.value(headline)
        if target is None:
            return {}
        return {name: abs(value - target.value) for name, value in values.items()}

    def ranks(self, headline: Headline) -> dict[str, int]:
        """Ranks methods, 1 for the best; ties share the better rank."""
        distances = self.distances(headline)
        # Two that are as far on both sides of retraining are a tie, up to rounding.
        ranks = stats.rankdata(np.round(list(distances.values()), 12), method="min")
        return dict(zip(distances, map(int, ranks), strict=True))

    def p_value(self, headline: Headline, subject: Subject) -> float | None:
        """Tests whether an audit tells a method from retraining.

        The difference is held against the standard errors that both intervals imply, by Student's t
        with as many degrees of freedom as the seeds allow, or by a normal distribution where models
        of the bank were audited. What is better than retraining again is not told from it, if only
        one side is bad.

        Returns:
          A p-value, two-sided where both sides are bad; None where an interval is missing.
        """
        ours, theirs = subject.bounded(headline), self.retrained.bounded(headline)
        if ours is None or theirs is None:
            return None
        difference = ours.value - theirs.value

        # Intervals may be uneven: those of the sides that face each other count.
        is_above = difference > 0
        near = ours.value - ours.low if is_above else ours.high - ours.value
        far = theirs.high - theirs.value if is_above else theirs.value - theirs.low
        freedom = math.inf if headline.audit else self.results.fewest_seeds - 1
        error = math.hypot(near, far) / stats.t.ppf(0.975, freedom)
        if error == 0:
            return None
        if headline.best == "retrained":
            return float(2 * stats.t.sf(abs(difference) / error, freedom))
        worse = difference if headline.best == "lowest" else -difference
        return float(stats.t.sf(worse / error, freedom))

    def detects(self, headline: Headline, subject: Subject) -> bool | None:
        """Says whether an audit tells a method from retraining, beyond chance by itself.

        Returns:
          None where an interval is missing.
        """
        p = self.p_value(headline, subject)
        return None if p is None else p < SIGNIFICANCE

    def fails_calibration(self, headline: Headline) -> bool:
        """Says whether an audit tells retrained models from retrained ones."""
        retrained = self.retrained.bounded(headline)
        if retrained is None or headline.null is None:
            return False
        return not retrained.low <= headline.null <= retrained.high

    def agreement(self, one: Headline, other: Headline) -> float | None:
        """Computes Spearman's ρ of two rankings, over the methods in both; None for a few."""
        first, second = self.ranks(one), self.ranks(other)
        # Ranks that are all ties cannot be correlated.
        pairs = [(rank, second[name]) for name, rank in first.items() if name in second]
        if len(pairs) < LEAST_RANKED or min(np.ptp(pairs, axis=0)) == 0:
            return None
        return float(stats.spearmanr(pairs).statistic)

    def leaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorts examples by how well U-LiRA tells them, those that leak most first.

        Returns:
          Examples, int[n], and the accuracy on each, the mean over methods, float[n]. Examples that
          no method has a number for are left out.
        """
        leaking = [each for each in self.methods if each.array("u_lira_per_example").size]
        if not leaking:
            return np.empty(0, int), np.empty(0)

        # Only methods that were audited on the same examples can be averaged.
        examples = leaking[0].arrays["examples"]
        same = [each for each in leaking if np.array_equal(each.arrays["examples"], examples)]
        values = np.ma.masked_invalid([each.arrays["u_lira_per_example"] for each in same])
        mean = values.mean(axis=0).filled(-np.inf)
        order = np.argsort(-mean, kind="stable")
        order = order[np.isfinite(mean[order])]
        return examples[order], mean[order]


def collect(work: WorkDirectory, reported: Reported) -> Audited:
    """Reads what the page is made from; any of it may be missing.

    Args:
      work: the directory of a run, or of a study's case.
      reported: the run or the case.

    Raises:
      WorkDirectoryError: a file is damaged.
    """
    results, _ = tables.collect(work, reported)
    columns = {summary.line.name: summary.measures for summary in results.summaries}
    lines = tables.lines(reported)

    # The methods to be audited, and what they are held against.
    wanted = None if reported.audit is None else reported.audit.methods
    methods = [
        read_subject(work, line.name, columns.get(line.name, {}))
        for line in lines
        if line.calibration is None and (wanted is None or line.name in wanted)
    ]
    originals = (line.name for line in lines if line.calibration is Calibration.ORIGINAL)
    floor = next(originals, Calibration.ORIGINAL.key)
    retrained = read_subject(work, RETRAINED, columns.get(Calibration.SECOND.key, {}))
    original = read_subject(work, floor, columns.get(floor, {}))

    command = None if reported.audit is None else reported.audit.command
    facts = run_page.facts(reported, read_forget_set(work))
    return Audited(
        about=About("audit", reported.name, facts, command),
        methods=methods,
        retrained=retrained,
        original=original,
        counts=work.read_json(files.AUDITED_MODELS, missing={}),
        results=results,
        missing=[each.title for each in (retrained, original, *methods) if not each.findings],
        scored=_read_scored(work, reported),
    )


def read_subject(work: WorkDirectory, name: str, columns: Mapping[str, Interval]) -> Subject:
    """Reads what the audit of a method has left; nothing but `columns` before."""
    audit = work.read_json(files.audit(name), missing={})

    # Numbers that are not finite are null in JSON.
    findings = {
        (finding["audit"], finding["measure"]): Interval(
            *(_number(finding.get(key)) for key in Interval._fields)
        )
        for finding in audit.get("findings", ())
    }
    is_there = work.has(files.audit_arrays(name))
    arrays = work.read_arrays(files.audit_arrays(name)) if is_there else {}
    return Subject(name, findings, arrays, columns, audit.get("models", 0), audit.get("seeds", 0))


def _number(value: Any) -> float:
    """Returns a number that JSON may hold as null."""
    return math.nan if value is None else value


def _read_scored(work: WorkDirectory, reported: Reported) -> Scored:
    train = reported.data.train
    scores = work.read_arrays(files.SCORES) if work.has(files.SCORES) else {}
    return Scored(
        name="memorization",
        values=scores.get("memorization", np.full(len(train.labels), np.nan)),
        parts=tables.parts(work),
        images=np.asarray(train.images),
        labels=np.asarray(train.labels),
        class_names=reported.data.class_names,
        origin=reported.data.origin("train"),
    )
