"""Certificates with every kind of field."""

from rumjax.lab.forgetting.certificate import certificate, manifest, salted

HASHES = [f"{number:064x}" for number in range(5)]


def made(**changes):
    """A certificate of level C whose gate passed, but for some arguments."""
    requests = [
        {
            "id": "r1",
            "received": "2026-11-26T14:00:00+00:00",
            "deadline": None,
            "examples": [salted(value, "salt") for value in HASHES[:2]],
        }
    ]
    arguments = {
        "batch": 1,
        "requests": requests,
        "data_before": {"name": "mine", "examples": 5, "manifest": manifest(HASHES)},
        "data_after": {"name": "mine", "examples": 3, "manifest": manifest(HASHES[2:])},
        "original": {"digest": "aa" * 32, "about": "brought", "format": "orbax v0"},
        "delivered": {"digest": "bb" * 32},
        "recipe": {"epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.1}},
        "steps": [
            {
                "name": "hard",
                "algorithm": "salun",
                "options": {"epochs": 2, "threshold": 0.00123456},
                "examples": 2,
                "seconds": 1.5,
            }
        ],
        "seeds": {"run": 0},
        "versions": {"rumjax": "0.1.0"},
        "hardware": {"device": "cpu", "count": 2},
        "cost": {"seconds": 10.0, "share_of_retraining": 0.31, "budget": 0.33, "note": "epochs"},
        "touched": {"R": "trained on", "V": "used to choose and to measure"},
        "level": "C",
        "evidence": [
            {
                "name": "exposed at 1 % false positives",
                "value": 0.01,
                "low": 0.001,
                "high": 0.05,
                "null": 0.01,
                "of_original": 0.4,
                "count": 40,
                "note": "Clopper–Pearson",
            },
            {
                "name": "lower bound on ε",
                "value": 0.0,
                "low": None,
                "high": None,
                "null": 0.0,
                "of_original": 1.87,
                "count": 300,
            },
        ],
        "gate": {"passed": True, "bounds": [bound()]},
        "calibration": [{"name": "p-values of V", "statistic": 0.1, "p_value": 0.5, "count": 100}],
        "derived": [{"path": "bank/00001.npz", "what": "answers of a model of the bank"}],
        "not_tested": ["Whether the model can be made to reconstruct images."],
        "log_head": "cc" * 32,
    }
    return certificate(**(arguments | changes))


def bound(**changes):
    return {
        "name": "accuracy on V",
        "rule": "at least",
        "bound": 0.9,
        "value": 0.91,
        "passed": True,
    } | changes


def refused():
    """A certificate of a batch whose gate failed."""
    missed = bound(value=0.85, passed=False, missed_by=0.05)
    return made(
        delivered={"digest": "aa" * 32},
        candidate={"digest": "dd" * 32},
        gate={"passed": False, "bounds": [missed, bound(name="p-value", bound=0.05)]},
    )
