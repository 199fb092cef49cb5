"""What the numbers of a report claim: records that are computed first and worded afterwards."""

import enum
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from rumjax.metrics import Interval, Trend

SIGNIFICANCE = 0.05
"""p-values below it count as more than chance; intervals are of 95 %"""

Effect: TypeAlias = Interval | Trend
"""A difference or a slope with its interval, or a trend with its p-value."""


class Verdict(enum.Enum):
    """The verdict on an effect."""

    HIGHER = enum.auto()
    """above zero, beyond chance"""
    LOWER = enum.auto()
    """below zero, beyond chance"""
    LEVEL = enum.auto()
    """of a size that chance could explain"""
    UNDECIDED = enum.auto()
    """of a single seed, which has no interval"""


def judge(effect: Effect) -> Verdict:
    """Says whether an effect lies above or below zero, beyond chance."""
    if isinstance(effect, Trend):
        size, certain = effect.effect, effect.p_value < SIGNIFICANCE
    elif math.isfinite(effect.low) and math.isfinite(effect.high):
        size, certain = effect.value, not effect.low <= 0 <= effect.high
    else:
        return Verdict.UNDECIDED

    # The sign means something only if chance cannot explain the size.
    if not certain:
        return Verdict.LEVEL
    return Verdict.HIGHER if size > 0 else Verdict.LOWER


class Claim(NamedTuple):
    """A claim that is made of several subjects: an effect of each lies on one side of zero."""

    topic: str
    """what is claimed, as in "RUM^F over vanilla" """
    expected: Verdict
    """the verdict on each subject's effect if the claim is right: `HIGHER` or `LOWER`"""
    effects: Mapping[str, Effect]
    """by subject"""
    missing: Sequence[str] = ()
    """subjects without an effect, as their runs are missing or have diverged"""

    def judged(self, verdict: Verdict) -> list[str]:
        """Returns the subjects on which this is the verdict."""
        return [name for name, effect in self.effects.items() if judge(effect) is verdict]

    @property
    def supporting(self) -> list[str]:
        """Subjects that are as expected, beyond chance."""
        return self.judged(self.expected)

    @property
    def contradicting(self) -> list[str]:
        """Subjects that are the other way round, beyond chance."""
        is_higher = self.expected is Verdict.HIGHER
        return self.judged(Verdict.LOWER if is_higher else Verdict.HIGHER)

    @property
    def holds(self) -> bool | None:
        """True if all subjects support the claim, False if any contradicts it, else None."""
        if self.contradicting:
            return False
        is_shown = bool(self.effects) and len(self.supporting) == len(self.effects)
        return True if is_shown and not self.missing else None


class Comparison(NamedTuple):
    """One method held against another, over the seeds that both have."""

    one: str
    other: str
    value: Interval | None
    """of the first method"""
    other_value: Interval | None
    difference: Interval | None
    """how far the first is above the other; None if they share no seed"""

    @property
    def verdict(self) -> Verdict:
        """The verdict on the difference."""
        return Verdict.UNDECIDED if self.difference is None else judge(self.difference)
