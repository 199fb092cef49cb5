"""What audits claim of methods: records that are computed from the numbers."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from rumjax.lab.report.audits.base import Audited, Headline, Subject
from rumjax.lab.report.claims import SIGNIFICANCE

Name = TypeVar("Name", bound=Hashable)


class Detection(NamedTuple):
    """The audits that tell a method from retraining, among all audits of all methods."""

    title: str
    """of the method"""
    audits: Mapping[str, bool]
    """by title, whether the audit tells it beyond chance, for so many audits and methods"""

    @property
    def detecting(self) -> int:
        """Counts the audits that tell the method from retraining."""
        return sum(self.audits.values())

    @property
    def holds(self) -> bool:
        """Says whether any audit tells the method from retraining."""
        return self.detecting > 0


def detections(audited: Audited) -> list[Detection]:
    """Finds which audits tell which methods from retraining, corrected for their number by Holm.

    Audits that tell retrained models from themselves, or not even the original models, say nothing
    of methods and are left out; so are methods without any audit.
    """
    headlines = [each for each in audited.headlines if not is_flawed(audited, each)]
    p_values = {
        (method.title, headline.title): p
        for method in audited.ordered
        for headline in headlines
        if (p := audited.p_value(headline, method)) is not None
    }
    rejected = holm(p_values)
    by_method: dict[str, dict[str, bool]] = {}
    for title, audit in p_values:
        by_method.setdefault(title, {})[audit] = (title, audit) in rejected
    return [Detection(title, audits) for title, audits in by_method.items()]


def holm(p_values: Mapping[Name, float]) -> set[Name]:
    """Returns the hypotheses that are rejected at 5 % for all of them together, by Holm's way.

    Examples:
      >>> sorted(holm({"a": 0.001, "b": 0.02, "c": 0.03, "d": 0.9}))
      ['a']
      >>> sorted(holm({"a": 0.001, "b": 0.02}))
      ['a', 'b']
    """
    rejected: set[Name] = set()
    for name, p in sorted(p_values.items(), key=lambda item: item[1]):
        if p > SIGNIFICANCE / (len(p_values) - len(rejected)):
            break
        rejected.add(name)
    return rejected


def is_flawed(audited: Audited, headline: Headline) -> bool:
    """Says whether what an audit says of methods means nothing, by its calibration."""
    return audited.fails_calibration(headline) or is_blind(audited, headline)


def is_blind(audited: Audited, headline: Headline) -> bool:
    """Says whether an audit does not tell even the original models from retrained ones."""
    return audited.detects(headline, audited.original) is False


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
