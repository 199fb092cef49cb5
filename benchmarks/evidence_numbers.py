"""What `evidence.py` has measured, as arrays of verdicts and p-values by forget set and model."""

import numpy as np
from evidence import MODELS

from rumjax import evidence
from rumjax.lab.forgetting import gate
from rumjax.metrics import Interval

ORIGINAL, ORACLES = MODELS[0], MODELS[1:]
BANK, MATCHED = "group against the bank", "rank, matched"
GATES = {"with the bank": (), "without a bank": (BANK,)}
LEVEL = 0.05


def share(passed):
    """A share with its exact 95 % interval."""
    passed = np.asarray(passed, bool).ravel()
    found = evidence.proportion(int(passed.sum()), passed.size, 0.0)
    return Interval(found.value, found.low, found.high)


class Numbers:
    """What was measured, by forget set and model."""

    def __init__(self, run, *, tried, larger, of_bank, added, least):
        self.section, self.tried, self.larger = run.config.forgetting, tried, larger
        self.of_bank, self.added, self.least = of_bank, added, least
        self.models = len(next(iter(of_bank.values())))

    def rows(self, name, model, row):
        return [one.evidence[model].named(row) for one in self.tried[name]]

    def p_values(self, name, models, row):
        return np.array(
            [one.p_value for model in models for one in self.rows(name, model, row)], float
        )

    def step(self, row):
        """The grid of a test's p-values."""
        return {BANK: 1 / (self.models + 1), MATCHED: 1 / 2001}.get(row, 0.0)

    def verdicts(self, name, models, without=()):
        """The gate's records; `without` are names of rows that it is not given."""
        found = []
        for model in models:
            for one in self.tried[name]:
                own = one.evidence[model]
                kept = tuple(row for row in own.rows if row.name not in without)
                found.append(gate.judge(self.section, own._replace(rows=kept)))
        return found

    def passes(self, name, models, without=()):
        return share([verdict.passed for verdict in self.verdicts(name, models, without)])

    def measured_losses(self, name, models):
        """Whether the losses as they were measured keep the limits, chance or not."""
        limits = {"V": self.section.validation_drop, "R": self.section.retained_drop}
        return {
            on: np.array(
                [
                    losses["before"] - losses["after"] <= limit + 1e-9
                    for model in models
                    for one in self.tried[name]
                    for losses in [one.evidence[model].accuracy[on]]
                ]
            )
            for on, limit in limits.items()
        }

    def examples(self, name, models):
        """P-values of single examples against the bank, and their grid."""
        chosen = [MODELS.index(model) for model in models]
        values = np.array([one.examples[chosen] for one in self.tried[name]])
        return values.ravel(), np.broadcast_to(self.least[name], values.shape).ravel()

    def conformal(self, name, models):
        chosen = [MODELS.index(model) for model in models]
        return np.array([one.conformal[chosen] for one in self.tried[name]]).ravel()

    def parts(self, name, models):
        """P-values of `TESTS` on parts of S, float[seeds · models, sizes, draws, 3]."""
        chosen = [MODELS.index(model) for model in models]
        return np.concatenate([one.parts[chosen] for one in self.tried[name]])

    def parts_pass(self, p_values):
        """Whether tests let pass, by gate and for the plain rank test; the last axis is `TESTS`."""
        rank, matched, group = np.moveaxis(p_values, -1, 0)
        able = group if 1 / (self.models + 1) < LEVEL / 2 else np.ones_like(group)
        return {
            "with the bank": (matched >= LEVEL / 2) & (able >= LEVEL / 2),
            "without a bank": matched >= LEVEL,
            "the rank test against V as it is": rank >= LEVEL,
        }
