"""Studies that nobody ran, of which only ToW is chosen; the rest follows from it."""

import numpy as np

from rumjax.lab.report.studies import KINDS, Case, Study
from rumjax.lab.report.tables import Line, Results, summarize
from rumjax.types import Scores

SEEDS = (0, 1, 2)
LEVELS = ("low", "medium", "high")


def case(name, tow, parts=("low", "medium", "high"), seeds=SEEDS, strategies=None):
    """A case in which each method has these values of ToW, seed by seed."""
    calibration = {
        "retrain_reference": ("retrain", "reference", 1.0),
        "retrain_second": ("retrain", "second", 0.97),
        "original": ("original", "vanilla", 0.6),
    }
    lines, rows = [], []
    for key, (method, strategy, value) in calibration.items():
        lines.append(Line(key, method, strategy))
        rows += [row(key, seed, value) for seed in seeds]
    for key, values in tow.items():
        lines.append(Line(key, key, (strategies or {}).get(key, "vanilla")))
        rows += [row(key, seed, value) for seed, value in zip(seeds, values, strict=False)]
    names = [each for each in rows[0] if each not in ("name", "seed")]
    results = Results(rows, summarize(rows, lines, names), tuple(names), [])
    indices = {part: np.arange(3) + 3 * at for at, part in enumerate(parts)}
    return Case(name, results, indices, {"all": {"size": 9, "entanglement_score": 5.0}})


def row(name, seed, tow):
    measures = {"name": name, "seed": seed, "tow": tow, "tow_mia": tow - 0.01, "mia_gap": 1 - tow}
    measures |= {"forget_accuracy": 0.5, "retain_accuracy": 0.9, "test_accuracy": 0.8}
    return measures | {"disagreement": 3.0, "rte": 0.4, "rte_with_scores": 9.0}


def study(kind, cases, **options):
    random = np.random.default_rng(0)
    truth = random.beta(0.4, 1, 300).astype(np.float32)
    noise = random.normal(0, 1, 300)
    return Study(
        kind=kind,
        name=f"made_up_{kind}",
        options={"kind": kind, **options},
        cases={each.name: each for each in cases},
        scores={
            "memorization": Scores(truth, np.full(300, 0.05, np.float32)),
            "c_proxy": Scores((truth + 0.01 * noise).astype(np.float32)),
            "entropy": Scores(noise.astype(np.float32)),
        },
        score_seconds={"memorization": 100.0, "c_proxy": 2.0, "entropy": 2.0},
        labels=np.arange(300) % 3,
        facts={"Data": "made up"},
    )


def spread(mean):
    return [mean - 0.01, mean, mean + 0.01]


def difficulty(**methods):
    """ToW by level of entanglement and of memorization, the same for both."""
    cases = [
        case(f"{axis}_{level}", {name: spread(values[at]) for name, values in methods.items()})
        for axis in ("entanglement", "memorization")
        for at, level in enumerate(LEVELS)
    ]
    return study("difficulty", cases)


ALGORITHMS = ("finetune", "salun")
OPTIONS = {
    "strategies": {
        each: {form: f"{each}_{form}" for form in ("vanilla", "shuffle", "rum_f")}
        for each in ALGORITHMS
    },
    "mixed": {"by hand": "hand", "by search": "search"},
    "orders": {"low>high": "finetune_rum_f", "high>low": "backwards"},
    "refiners": {"memorization": "finetune_rum_f", "c_proxy": "by_proxy"},
    "parts": {"3": "finetune_rum_f", "2": "two"},
}


def refinement(**changes):
    tow = {
        "finetune_vanilla": spread(0.8),
        "finetune_shuffle": spread(0.7),
        "finetune_rum_f": spread(0.9),
        "salun_vanilla": spread(0.85),
        "salun_shuffle": spread(0.85),
        "salun_rum_f": spread(0.75),
        "hand": spread(0.9),
        "search": spread(0.95),
        "backwards": spread(0.9),
        "by_proxy": [0.95, 0.8, 0.9],
        "two": spread(0.6),
    }
    strategies = {name: name.partition("_")[2] for name in tow if name.endswith(("shuffle", "f"))}
    return study("rum", [case("run", tow | changes, strategies=strategies)], **OPTIONS)


def proxies(tow):
    driven = {"memorization": "m", "c_proxy": "c", "entropy": "e"}
    return study("proxies", [case("run", tow)], size=30, driven=driven)


def arrivals(slope):
    cases = [
        case(
            f"request_{number}",
            {"fine": spread(0.9 - slope * number), "anew": spread(0.8)},
            parts=[f"request_{n + 1}" for n in range(number)],
        )
        for number in (3, 1, 2)  # in any order
    ]
    return study("requests", cases, pairs={"fine": "anew"})


def page_of(made):
    """The page without figures."""
    return KINDS[made.kind](made, False)


def table_of(made, name):
    return next(table for table in page_of(made).tables if table.name == name)
