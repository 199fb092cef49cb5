"""The bounds that a model must keep to be delivered, which are set before it is made."""

from collections.abc import Iterable

from rumjax.lab.forgetting.bench import Evidence, Row
from rumjax.lab.forgetting.chooser import DIGITS
from rumjax.lab.forgetting.records import BoundRecord, GateRecord
from rumjax.lab.sections import Forgetting

TESTS = ("rank, matched", "group against the bank", "margin against oracles")
"""The tests whose p-values are bounded."""


def judge(section: Forgetting, evidence: Evidence, *, exact: bool = False) -> GateRecord:
    """Holds what was measured of a batch against the bounds.

    Args:
      section: the limits.
      evidence: what was measured.
      exact: whether the model was retrained without S: then tests on S are not bounded, since some
        of them fail by chance.
    """
    # How much accuracy was lost for certain: what is measured of a model retrained without S often
    # is above the limits by chance.
    limits = {"V": section.validation_drop, "R": section.retained_drop}
    bounds = []
    for name, limit in limits.items():
        if name in evidence.accuracy:
            accuracy = evidence.accuracy[name]
            loss = accuracy["before"] - accuracy["after"]
            certain = min(loss, max(0.0, loss - accuracy.get("chance", 0.0)))
            note = f"{loss:.4f} was measured, of which what may be chance is left out"
            note = note if loss > 0 else "a gain"
            bounds.append(_at_most(f"certain loss of accuracy on {name}", limit, certain, note))

    # Whether S is still fitted better than it should be.
    rows = able(() if exact else map(evidence.named, TESTS), section.p_value)
    for row in rows:
        level = section.p_value / len(rows)
        bounds.append(_at_least(f"p-value of {row.name}", level, row.p_value or 0.0))
    return GateRecord(all(bound.passed for bound in bounds), tuple(bounds))


def able(rows: Iterable[Row | None], level: float) -> list[Row]:
    """Returns the tests that can fail at their share of a level, which they have equal shares of.

    So one that never saw S is refused no more often than one test would refuse it (Bonferroni),
    and a test that cannot fail, since its p-value is never that small, takes no share of others.
    """
    tests = [row for row in rows if row is not None and row.p_value is not None]
    while tests:
        worst = max(tests, key=lambda row: row.least_p_value)
        if worst.least_p_value < level / len(tests):
            break
        tests.remove(worst)
    return tests


def missed(gate: GateRecord) -> list[str]:
    """Says of each bound that is not kept by how much it is missed."""
    return [
        f"{bound.name} is {bound.value:.4g}, wanted {bound.rule} {bound.bound:g}, missed by "
        f"{bound.missed_by:.4g}"
        for bound in gate.bounds
        if not bound.passed
    ]


def _at_most(name: str, limit: float, value: float, note: str) -> BoundRecord:
    value = round(value, DIGITS)
    missed_by = max(0.0, value - limit)
    return BoundRecord(name, "at most", limit, value, value <= limit, missed_by, note)


def _at_least(name: str, limit: float, value: float) -> BoundRecord:
    return BoundRecord(name, "at least", limit, value, value >= limit, max(0.0, limit - value))
