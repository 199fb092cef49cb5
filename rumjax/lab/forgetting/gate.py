"""The bounds that a model must keep to be delivered, which are set before it is made."""

from typing import NamedTuple

from rumjax.lab.forgetting.findings import Evidence
from rumjax.lab.sections import Forgetting

TESTS = ("rank, matched", "group against the bank", "margin against oracles")
"""The tests whose p-values are bounds."""


class Bound(NamedTuple):
    """A bound, and what was measured."""

    name: str
    measured: float
    limit: float
    kind: str
    """Whether what is measured must be "at least" or "at most" the limit."""

    @property
    def holds(self) -> bool:
        """Says whether the bound is kept."""
        return self.by <= 0

    @property
    def by(self) -> float:
        """By how much the bound is missed; not above 0 where it is kept."""
        if self.kind == "at least":
            return self.limit - self.measured
        return self.measured - self.limit

    def as_dict(self) -> dict[str, object]:
        """Returns the bound for a certificate."""
        return {**self._asdict(), "holds": self.holds, "missed_by": max(0.0, self.by)}

    def __str__(self) -> str:
        return f"{self.name}: {self.measured:.4g}, wanted {self.kind} {self.limit:g}"


def bounds(section: Forgetting, evidence: Evidence, *, exact: bool = False) -> tuple[Bound, ...]:
    """Returns the bounds of a batch with what was measured.

    Args:
      section: the limits.
      evidence: what was measured.
      exact: whether the model was retrained without S: then tests on S are no bounds, since one in
        twenty of them fails by chance.
    """
    accuracy = evidence.accuracy
    kept = [
        Bound(
            f"accuracy on {name}, loss",
            accuracy[name]["before"] - accuracy[name]["after"],
            limit,
            "at most",
        )
        for name, limit in (("V", section.validation_drop), ("R", section.retained_drop))
        if name in accuracy
    ]
    if exact:
        return tuple(kept)
    rows = filter(None, map(evidence.named, TESTS))
    tests = [
        Bound(f"p-value of {row.name}", row.p_value, section.p_value, "at least")
        for row in rows
        if row.p_value is not None
    ]
    return (*kept, *tests)
