"""What the page of audits is made of: who is audited, and how far each is from retraining."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from rumjax.lab.experiment import Experiment
from rumjax.lab.report import page, tables
from rumjax.lab.report.exports import Bounds
from rumjax.lab.report.figures import Scored
from rumjax.lab.report.studies.base import About, plain
from rumjax.lab.report.tables import Interval, Results
from rumjax.lab.workdir import WorkDirectory

RETRAINED, ORIGINAL = "retrain", "original"
"""What is held to the audits as if it were a method, to know what they can find at all."""


class Headline(NamedTuple):
    """The number that stands for an audit."""

    audit: str
    """ "" for a column of the run's results"""
    measure: str
    title: str
    best: str
    """which value is best: "retrained" for the one nearest to retrained models', "lowest" for
    distances from an oracle, "highest" for scores"""


U_LIRA = Headline("u_lira", "accuracy", "U-LiRA accuracy", "retrained")
MIA_GAP = Headline("", "mia_gap", "MIA gap", "lowest")
HEADLINES = (
    U_LIRA,
    Headline("u_lira", "auc", "U-LiRA AUC", "retrained"),
    Headline("lira", "auc", "LiRA AUC", "retrained"),
    Headline("rmia", "auc", "RMIA AUC", "retrained"),
    Headline("ruli_privacy", "auc", "RULI privacy AUC", "retrained"),
    Headline("ruli_efficacy", "auc", "RULI efficacy AUC", "retrained"),
    Headline("klom_corrected", "forget_mean", "KLOM on S", "lowest"),
    Headline("challenge", "score", "Challenge score", "highest"),
    MIA_GAP,
    Headline("", "probe_gap", "Probe gap", "lowest"),
    Headline("", "tow", "ToW", "highest"),
)


class Subject(NamedTuple):
    """A method, or what methods are held against, and what there is to say of its models."""

    name: str
    """in the configuration"""
    findings: Mapping[tuple[str, str], Bounds]
    """by audit and measure"""
    arrays: Mapping[str, np.ndarray]
    """`examples`, curves, and what is known of each example; see `rumjax.lab.auditing`"""
    columns: Mapping[str, Interval]
    """of the run's results: means over the seeds"""
    models: int = 0
    """of the bank, after the method; none before it was audited"""
    seeds: int = 0

    @property
    def shown(self) -> str:
        """What it is called."""
        return "retrained" if self.name == RETRAINED else plain(self.name)

    @property
    def is_known(self) -> bool:
        """Whether there is anything to say of it."""
        return bool(self.findings or self.columns)

    def cell(self, headline: Headline) -> Bounds | Interval | None:
        """A number of its own, if there is one that is finite."""
        found: Bounds | Interval | None = self.findings.get((headline.audit, headline.measure))
        if not headline.audit:
            found = self.columns.get(headline.measure)
        return found if found is not None and math.isfinite(found[0]) else None

    def bounds(self, headline: Headline) -> Bounds | None:
        """The same with the ends of its interval."""
        found = self.cell(headline)
        if isinstance(found, Interval):
            mean, half_width = found
            return Bounds(mean, mean - half_width, mean + half_width)
        return found

    def known(self, name: str) -> np.ndarray:
        """What is known of its examples, float[n]; empty if there is nothing."""
        found = self.arrays.get(name, np.empty(0))
        return found if np.isfinite(found).any() else np.empty(0)


class Audited(NamedTuple):
    """All that the page is made from."""

    about: About
    methods: Sequence[Subject]
    retrained: Subject
    original: Subject
    counts: Mapping[str, Mapping[str, float]]
    """of models by kind: "trained", "reused", and "seconds" if they are known"""
    results: Results
    absent: Sequence[str]
    """names of what was not audited yet"""
    scored: Scored
    """the training set, S and its scores, NaN where there are none"""

    @property
    def everyone(self) -> list[Subject]:
        """The calibration, then methods, as far as there is anything to say of them."""
        calibration = (self.retrained, self.original)
        return [*(each for each in calibration if each.is_known), *self.ordered]

    @property
    def ordered(self) -> list[Subject]:
        """Methods by U-LiRA, the one nearest to retraining first; those not audited yet last."""
        far = self.distances(U_LIRA)
        known = [each for each in self.methods if each.is_known]
        return sorted(known, key=lambda each: far.get(each.name, math.inf))

    @property
    def headlines(self) -> list[Headline]:
        """Those that there are numbers of for any method."""
        return [one for one in HEADLINES if any(each.cell(one) for each in self.methods)]

    def distances(self, headline: Headline) -> dict[str, float]:
        """How far methods are from what is best: a lower number is a better one.

        Empty where the best is what retrained models have, and that is not known.
        """
        every = {each.name: each.bounds(headline) for each in self.methods}
        values = {name: found.value for name, found in every.items() if found is not None}
        if headline.best != "retrained":
            return {
                name: -far if headline.best == "highest" else far for name, far in values.items()
            }
        target = self.retrained.bounds(headline)
        return {} if target is None else {k: abs(far - target.value) for k, far in values.items()}

    def ranks(self, headline: Headline) -> dict[str, int]:
        """The ranks of methods, 1 for the best, ties sharing the better one."""
        far = self.distances(headline)
        # Two that are as far on both sides of retraining are a tie, up to rounding.
        ranks = stats.rankdata(np.round(list(far.values()), 12), method="min")
        return dict(zip(far, map(int, ranks), strict=True))

    def told(self, headline: Headline, subject: Subject) -> bool | None:
        """Whether an audit tells a method from retraining: the intervals of both do not meet.

        None where an interval is lacking. What is better than retraining again is not told from it,
        if only one side is bad.
        """
        ours, theirs = subject.bounds(headline), self.retrained.bounds(headline)
        if ours is None or theirs is None or not np.isfinite([*ours, *theirs]).all():
            return None
        above, below = ours.low > theirs.high, ours.high < theirs.low
        return {"lowest": above, "highest": below}.get(headline.best, above or below)

    def agreement(self, one: Headline, other: Headline) -> float | None:
        """Spearman's ρ of two rankings, over the methods in both; None for fewer than three."""
        first, second = self.ranks(one), self.ranks(other)
        both = [(rank, second[name]) for name, rank in first.items() if name in second]
        if len(both) < 3 or min(np.ptp(both, axis=0)) == 0:
            return None
        return float(stats.spearmanr(both).statistic)

    def leaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Examples, int[n], and how well U-LiRA tells each, the mean over methods, float[n].

        Those that leak most come first; examples that no method has a number for are left out.
        """
        known = [each for each in self.methods if each.known("u_lira_per_example").size]
        if not known:
            return np.empty(0, int), np.empty(0)
        examples = known[0].arrays["examples"]
        alike = [each for each in known if np.array_equal(each.arrays["examples"], examples)]
        values = np.ma.masked_invalid([each.arrays["u_lira_per_example"] for each in alike])
        mean = values.mean(axis=0).filled(-np.inf)
        ordered = np.argsort(-mean, kind="stable")
        ordered = ordered[np.isfinite(mean[ordered])]
        return examples[ordered], mean[ordered]


def collect(work: WorkDirectory, experiment: Experiment) -> Audited:
    """Reads what the page is made from; any of it may be absent.

    Args:
      work: the directory of a run, or of a study's case.
      experiment: the run or the case.

    Raises:
      WorkDirectoryError: a file is damaged.
    """
    results, _ = tables.collect(work, experiment)
    columns = {each.line.name: each.measures for each in results.summaries}
    options = experiment.config.get("audit", {})
    wanted = options.get("methods")
    lines = tables.lines(experiment)
    floor = next((each.name for each in lines if tuple(each[1:3]) == tables.ORIGINAL), ORIGINAL)
    methods = [
        subject(work, each.name, columns.get(each.name, {}))
        for each in lines
        if not each.is_calibration and (wanted is None or each.name in wanted)
    ]
    retrained = subject(work, RETRAINED, columns.get("retrain_second", {}))
    original = subject(work, floor, columns.get(floor, {}))
    facts = page.facts(experiment, tables.forget_sets(work))
    return Audited(
        about=About("audit", experiment.name, facts, options.get("command")),
        methods=methods,
        retrained=retrained,
        original=original,
        counts=work.read_json("audit/models.json", missing={}),
        results=results,
        absent=[each.shown for each in (retrained, original, *methods) if not each.findings],
        scored=_scored(work, experiment),
    )


def subject(work: WorkDirectory, name: str, columns: Mapping[str, Interval]) -> Subject:
    """What the audit of a method has left; nothing but `columns` before."""
    about = work.read_json(f"audit/{name}.json", missing={})
    findings = {
        (each["audit"], each["measure"]): Bounds(
            *(math.nan if each.get(key) is None else each[key] for key in Bounds._fields)
        )
        for each in about.get("findings", ())
    }
    there = work.has(f"audit/{name}.npz")
    arrays = work.read_arrays(f"audit/{name}.npz") if there else {}
    return Subject(name, findings, arrays, columns, about.get("models", 0), about.get("seeds", 0))


def _scored(work: WorkDirectory, experiment: Experiment) -> Scored:
    train = experiment.data.train
    scores = work.read_arrays("scores.npz") if work.has("scores.npz") else {}
    return Scored(
        name="memorization",
        values=scores.get("memorization", np.full(len(train.labels), np.nan)),
        parts=tables.parts(work),
        images=np.asarray(train.images),
        labels=np.asarray(train.labels),
        class_names=experiment.data.class_names,
    )
