"""What audits claim of methods: records that are computed from the numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rumjax.lab.report.audits.base import (
    MIA_GAP,
    U_LIRA,
    U_LIRA_RETAINED,
    Audited,
    Headline,
    Subject,
)
from rumjax.metrics import Interval


class Detection(NamedTuple):
    """The number of audits that tell a method from retraining."""

    title: str
    """of the method"""
    detecting: int
    audits: int
    """which have intervals of the method and of retrained models"""

    @property
    def holds(self) -> bool:
        """Says whether any audit tells the method from retraining."""
        return self.detecting > 0


def detections(audited: Audited) -> list[Detection]:
    """Counts the audits that tell each method from retraining; leaves out those without any."""
    counts = []
    for method in audited.ordered:
        answers = [audited.detects(headline, method) for headline in audited.headlines]
        # Audits without intervals have nothing to say.
        decided = [answer for answer in answers if answer is not None]
        if decided:
            counts.append(Detection(method.title, sum(decided), len(decided)))
    return counts


class Order(NamedTuple):
    """The methods in the order of an audit."""

    headline: Headline
    retrained: Interval | None
    original: Interval | None
    values: Mapping[str, float]
    """by method; the one nearest to retraining first, where that can be said"""
    is_ranked: bool
    """False where the best is what retrained models have, and they were not audited"""
    undetected: Sequence[str]
    """methods that the audit does not tell from retraining"""


def order(audited: Audited, headline: Headline) -> Order:
    """Sorts the methods by an audit."""
    distances = audited.distances(headline)

    # Methods stay as they are configured where nothing can be ranked.
    methods = [method for method in audited.methods if method.value(headline) is not None]
    if distances:
        methods = sorted(methods, key=lambda method: distances[method.name])
    values = {method.title: method.value(headline) for method in methods}

    # What the audit cannot tell may be as good as retraining.
    undetected = [each.title for each in methods if audited.detects(headline, each) is False]
    return Order(
        headline,
        audited.retrained.value(headline),
        audited.original.value(headline),
        {title: interval.value for title, interval in values.items() if interval is not None},
        bool(distances),
        undetected if distances else [],
    )


def blind_audits(audited: Audited) -> list[str]:
    """Returns the audits that do not tell even the original models from retrained ones."""
    return [
        headline.title
        for headline in audited.headlines
        if audited.detects(headline, audited.original) is False
    ]


class RankPair(NamedTuple):
    """The ranks of a method by the population attack and by U-LiRA."""

    title: str
    """of the method"""
    population: int
    single: int

    @property
    def distance(self) -> int:
        """The distance between the two ranks."""
        return abs(self.population - self.single)


def rank_pairs(audited: Audited) -> list[RankPair]:
    """Returns the ranks of all methods that both attacks rank, those furthest apart first."""
    population, single = audited.ranks(MIA_GAP), audited.ranks(U_LIRA)
    pairs = [
        RankPair(method.title, population[method.name], single[method.name])
        for method in audited.methods
        if method.name in population and method.name in single
    ]
    return sorted(pairs, key=lambda pair: -pair.distance)


class Judgement(NamedTuple):
    """The answers of the population attack and of U-LiRA on a method, with their intervals."""

    title: str
    """of the method"""
    gap: Interval
    accuracy: Interval
    population_detects: bool
    """whether the gap is above that of a second oracle"""
    single_detects: bool
    """whether the accuracy of U-LiRA is apart from that on retrained models"""
    leaks: bool
    """whether the accuracy of U-LiRA is above that on retrained models"""

    @property
    def is_missed(self) -> bool:
        """Says whether the population attack does not see what U-LiRA sees."""
        return self.leaks and not self.population_detects

    @property
    def is_hidden(self) -> bool:
        """Says whether U-LiRA does not see what the population attack sees."""
        return self.population_detects and not self.single_detects


def judgements(audited: Audited) -> list[Judgement]:
    """Returns what both attacks say of each method that both have whole intervals of."""
    gap, accuracy = audited.retrained.bounded(MIA_GAP), audited.retrained.bounded(U_LIRA)

    # Both are held against retrained models.
    if gap is None or accuracy is None:
        return []
    judged = []
    for method in audited.methods:
        own_gap, own = method.bounded(MIA_GAP), method.bounded(U_LIRA)
        if own_gap is not None and own is not None:
            judged.append(
                Judgement(
                    method.title,
                    own_gap,
                    own,
                    population_detects=own_gap.low > gap.high,
                    single_detects=audited.detects(U_LIRA, method) is True,
                    leaks=own.low > accuracy.high,
                )
            )
    return judged


def agreements(audited: Audited) -> dict[str, float]:
    """Returns Spearman's ρ of each other audit's ranks and those by the accuracy of U-LiRA."""
    correlations = {
        headline.title: audited.agreement(U_LIRA, headline)
        for headline in audited.headlines
        if headline != U_LIRA
    }
    return {title: rho for title, rho in correlations.items() if rho is not None}


class Keeping(NamedTuple):
    """The accuracy of U-LiRA on examples that models keep, and on those that they forgot."""

    title: str
    """of the method"""
    kept: Interval
    forgotten: Interval

    @property
    def holds(self) -> bool:
        """Says whether what is kept leaks more than what was forgotten, beyond both intervals."""
        return self.kept.low > self.forgotten.high


def keepings(audited: Audited) -> list[Keeping]:
    """Returns what methods give away of examples that their models keep."""
    pairs = []
    for method in audited.ordered:
        kept, forgotten = method.value(U_LIRA_RETAINED), method.value(U_LIRA)
        if kept is not None and forgotten is not None:
            pairs.append(Keeping(method.title, kept, forgotten))
    return pairs


class Basis(NamedTuple):
    """The numbers of models and seeds that audits rest on; several if methods differ."""

    models: Sequence[int]
    seeds: Sequence[int]


def basis(subjects: Sequence[Subject]) -> Basis | None:
    """Returns what the numbers of some subjects rest on; None if none was audited."""
    audited = [subject for subject in subjects if subject.models]
    if not audited:
        return None
    return Basis(
        sorted({subject.models for subject in audited}),
        sorted({subject.seeds for subject in audited}),
    )
