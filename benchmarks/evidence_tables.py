"""The tables of the page of `evidence.py`."""

import numpy as np
from evidence import DRAWS, FRESH, LARGER, MEMORIZED, SIZES, TESTS
from evidence_numbers import GATES, LEVEL, ORACLES, ORIGINAL, share

from rumjax import evidence
from rumjax.lab.report.exports import Table
from rumjax.metrics import Interval


def gate_table(numbers):
    rows = [
        (
            name,
            title,
            len(numbers.tried[name]),
            *(
                numbers.passes(name, models, without)
                for models in (ORACLES[:1], ORACLES[1:], ORACLES, [ORIGINAL])
            ),
        )
        for name in numbers.tried
        for title, without in GATES.items()
    ]
    columns = ("Oracles", "Second oracles", "Both", "Original models")
    return Table(
        "gate",
        "Shares that the gate lets pass",
        ("S", "Gate", "Seeds", *columns),
        rows,
        "Exact intervals at 95 % (Clopper and Pearson), of models as they are; all share S, V and "
        "the bank.",
        bounded=frozenset(columns),
    )


def bounds_table(numbers):
    rows = []
    for name in numbers.tried:
        for title, without in GATES.items():
            verdicts = {
                label: numbers.verdicts(name, models, without)
                for label, models in (("oracles", ORACLES), ("originals", [ORIGINAL]))
            }
            for place, bound in enumerate(verdicts["oracles"][0].bounds):
                kept = [
                    share([one.bounds[place].passed for one in verdict])
                    for verdict in verdicts.values()
                ]
                rows.append((name, title, bound.name, f"{bound.rule} {bound.bound:g}", *kept))
        losses = [numbers.measured_losses(name, models) for models in (ORACLES, [ORIGINAL])]
        limits = {"V": numbers.section.validation_drop, "R": numbers.section.retained_drop}
        for on, limit in limits.items():
            kept = [share(one[on]) for one in losses]
            rows.append(
                (name, "not bounded", f"measured loss of accuracy on {on}", f"≤ {limit}", *kept)
            )
    columns = ("Oracles keep it", "Originals keep it")
    return Table(
        "bounds",
        "Bound by bound",
        ("S", "Gate", "Bound", "Limit", *columns),
        rows,
        "A loss is certain as far as it is above what the examples at hand may show by chance, "
        "one-sided at 95 %.",
        bounded=frozenset(columns),
    )


def p_value_table(numbers):
    rows = []
    groups = {"oracles": ORACLES, "originals": [ORIGINAL]}
    for name in numbers.tried:
        for label, models in groups.items():
            for test in TESTS:
                values = numbers.p_values(name, models, test)
                rows.append((name, test, label, *tested(values, numbers.step(test))))
            values, steps = numbers.examples(name, models)
            rows.append((name, "single examples, bank", label, *tested(values, steps)))
            values = numbers.conformal(name, models)
            rows.append(
                (name, "single examples, ranks of 1 − p among V", label, *tested(values, 0))
            )
    return Table(
        "p_values",
        "P-values",
        ("S", "Test", "Of", "p-values", "p ≤ .05", "Mean p", "KS distance", "KS p"),
        rows,
        "Of both oracles of every seed, and of original models. KS is the test of Kolmogorov and "
        "Smirnov against uniform, which takes p-values as independent; models of one S share its "
        "luck, and single examples share V, the bank and their model. P-values by ranks are spread "
        "over their step for it. Against a bank of 64, those of single examples are 1/33 at least, "
        "about, so that 3 % and not 5 % are at most .05.",
    )


def tested(values, steps):
    kept = np.isfinite(values)
    values, steps = values[kept], np.broadcast_to(steps, kept.shape)[kept]
    check = evidence.calibration(values, least=steps)
    return len(values), float(np.mean(values <= LEVEL)), check.mean, check.statistic, check.p_value


def measures_table(numbers):
    rows = []
    for name in numbers.tried:
        for row in numbers.tried[name][0].evidence[ORIGINAL].rows:
            cells, null = [], []
            for models in (ORACLES, [ORIGINAL]):
                own = [one for model in models for one in numbers.rows(name, model, row.name)]
                values = np.array([one.value for one in own])
                null += [one.null for one in own if models is ORACLES]
                cells.append(Interval(float(values.mean()), *np.quantile(values, [0.025, 0.975])))
            ours, theirs = (
                np.array(
                    [one.value for model in models for one in numbers.rows(name, model, row.name)]
                )
                for models in ([ORIGINAL], ORACLES)
            )
            above = np.mean(ours[:, None] > theirs) + np.mean(ours[:, None] == theirs) / 2
            rows.append((name, row.name, float(np.mean(null)), *cells, float(above)))
    columns = ("Oracles", "Original models")
    return Table(
        "measures",
        "Every measure",
        ("S", "Measure", "Null value", *columns, "Original above oracle"),
        rows,
        "Means, with the range of 95 % of models in brackets. The null value is the mean of what "
        "the evidence gives for a model that never saw S. The last column is the share of pairs of "
        "an original model and an oracle in which the original has the larger number; .5 tells "
        "nothing. What is more exposed is compared with the model before, which is the original "
        "itself in its own case.",
        bounded=frozenset(columns),
    )


def fresh_table(numbers):
    rows = []
    for (test, kind, state), values in numbers.of_bank.items():
        step = 1 / (numbers.models + (kind == "T")) if test.startswith("group") else 0.0
        first = evidence.calibration(values[:, 0], least=step)
        every = evidence.calibration(values.ravel(), least=step)
        rows.append(
            (
                test,
                kind,
                state,
                float(np.mean(values <= LEVEL)),
                every.mean,
                every.statistic,
                first.p_value,
            )
        )
    return Table(
        "fresh",
        "S drawn anew: models of the bank",
        ("Test", "S of", "S was", "p ≤ .05", "Mean p", "KS distance", "KS p"),
        rows,
        f"Each of {numbers.models} models of the bank stands for the unlearned one, and the others "
        f"are its bank, with {FRESH} sets S of {SIZES[-1]} each, of all of D or of its "
        f"{MEMORIZED:,} most memorized examples. The rank test has half of the others that the "
        "model has not seen for V. Oracles and originals, which saw twice as many examples as "
        "models of the bank, are tried on sets of one half of T, mended by the other. KS p is of "
        "the first set of each model, all else of all sets.",
    )


def size_table(numbers):
    rows = []
    groups = {"oracles": ORACLES, "originals": [ORIGINAL]}
    for name in numbers.tried:
        for label, models in groups.items():
            passes = numbers.parts_pass(numbers.parts(name, models))
            for place, size in enumerate(SIZES):
                rows.append(
                    (
                        f"parts of {name}",
                        label,
                        size,
                        *(float(values[:, place].mean()) for values in passes.values()),
                    )
                )
    passes = numbers.parts_pass(numbers.larger)
    for place, size in enumerate(LARGER):
        shares = (float(values[:, place].mean()) for values in passes.values())
        rows.append(("random, drawn anew for each seed", "originals", size, *shares))
    return Table(
        "sizes",
        "How many examples it takes",
        ("S", "Of", "Size", *(title[0].upper() + title[1:] for title in passes)),
        rows,
        "Shares whose tests let pass, without the bounds on accuracy. Of S as it is, "
        f"{DRAWS} random parts for each seed, the same for its three models; where S is drawn "
        "anew, each seed has parts of a thousand examples of its own. Rank tests have 400 "
        "permutations.",
    )
