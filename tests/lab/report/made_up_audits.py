"""A run that nobody audited: findings that follow from an accuracy and a gap for each method."""

import numpy as np

from rumjax.lab.methods import Method
from rumjax.lab.report import audits
from rumjax.lab.report.audits import method_figures, tables
from rumjax.lab.report.audits.base import HEADLINES
from rumjax.lab.report.reported import Reported
from rumjax.lab.sections import Audit
from rumjax.types import Dataset, Splits

SEEDS = (0, 1, 2)
HEADLINE = {(each.audit, each.measure): each for each in HEADLINES}
# The accuracy of U-LiRA, and the gap of the population attack.
METHODS = {
    "loud": (0.80, 0.30),
    "sly_rum_f": (0.70, 0.01),
    "fine": (0.49, 0.02),
    "odd": (0.52, 0.25),
}
CALIBRATION = {"original": (0.95, 0.40), "retrain": (0.50, 0.02)}
EXAMPLES = np.arange(0, 60, 2, dtype=np.int32)


def experiment(methods=METHODS, seeds=SEEDS, audit=()):
    config = {
        "name": "made_up",
        "model": {"name": "cnn"},
        "training": {"epochs": 2},
        "bank": {"models": 8},
        "forget": {"by": "memorization", "size": 10},
    }
    random = np.random.default_rng(0)
    train = Dataset(random.integers(0, 256, (60, 8, 8, 1), np.uint8), np.arange(60) % 3)
    data = Splits("tiny", 3, ("shirt", "<b>bag</b>", "boot $5"), train, train, train)
    made = (
        Method(name, name, "vanilla", "whole", ("all",), {}, ("all",), {})
        for name in ("original", *methods)
    )
    return Reported(
        name="made_up",
        data=data,
        methods=tuple(made),
        seeds=seeds,
        written=config,
        model=config["model"],
        training=config["training"],
        forget_by="memorization",
        bank=config["bank"],
        audit=Audit(models=192, command="audit it", **dict(audit)),
    )


def findings(accuracy, half=0.03):
    """Intervals that reach further down than up."""

    def one(audit, measure, value):
        return {
            "audit": audit,
            "measure": measure,
            "value": value,
            "low": value - half,
            "high": value + half / 2,
        }

    rows = [one("u_lira", "accuracy", accuracy)]
    for attack in tables.ATTACKS:
        rows += [one(attack, "auc", accuracy), one(attack, "tpr_1_percent", accuracy / 9)]
    rows.append(one("u_lira_retained", "accuracy", 0.75))
    away = abs(accuracy - 0.5)
    for form, bias in (("klom", 0.4), ("klom_corrected", 0.0)):
        rows += [
            one(form, f"{place}_{measure}", away + bias)
            for place in ("forget", "retain", "test")
            for measure in ("mean", "p95", "p99")
        ]
    rows += [one("challenge", name, 1 - away) for name in ("quality", "score")]
    return [*rows, {"audit": "challenge", "measure": "mean_epsilon", "value": 3, "low": None}]


def write_row(work, name, gap, seed):
    row = {"mia": 0.5, "mia_gap": gap + 0.001 * seed, "tow": 1 - gap - 0.001 * seed, "zrf": 0.8}
    work.write_json(f"rows/{name}_seed{seed}.json", {"row": row, "curve": []})


def write_audit(work, name, accuracy):
    about = {"name": name, "models": 192, "seeds": len(SEEDS), "findings": findings(accuracy)}
    work.write_json(f"audit/{name}.json", about)
    rates = np.linspace(0, 1, 20)
    curves = {f"{attack}_fpr": rates for attack in method_figures.ROC}
    curves |= {f"{attack}_tpr": rates**0.5 for attack in method_figures.ROC}
    each = np.clip(accuracy + np.linspace(-0.2, 0.2, len(EXAMPLES)), 0, 1)
    each[0] = np.nan
    work.write_arrays(
        f"audit/{name}.npz", {"examples": EXAMPLES, "u_lira_per_example": each, **curves}
    )


def fill(work, methods=METHODS, seeds=SEEDS):
    for name, (accuracy, gap) in (methods | CALIBRATION).items():
        write_audit(work, name, accuracy)
        for seed in seeds:
            write_row(work, "retrain_second" if name == "retrain" else name, gap, seed)
    counts = {"trained": {"bank": 1000, "oracles": 128}, "reused": {"bank": 192}}
    work.write_json("audit/models.json", counts)
    work.write_arrays("scores.npz", {"memorization": np.linspace(-0.1, 1, 60)})
    forget = {"low": EXAMPLES[:15], "high": EXAMPLES[15:]}
    retain = np.setdiff1d(np.arange(60), EXAMPLES)
    work.write_arrays("forget_sets.npz", {"forget": EXAMPLES, "retain": retain, **forget})


def collected(work, methods=METHODS, seeds=SEEDS, audit=()):
    return audits.collect(work, experiment(methods, seeds, audit))
