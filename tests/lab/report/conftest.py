"""A finished run that nobody ran: rows, scores and images made up, three seeds."""

import numpy as np
import pytest

from rumjax.lab.methods import Method
from rumjax.lab.report import drawing
from rumjax.lab.report.reported import Reported
from rumjax.lab.report.tables import to_csv
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Dataset, Splits

SEEDS = (4, 5, 6)
CLASSES = ("shirt", "<b>bag</b>", "boot $5")
PARTS = ("low", "medium", "high")
METHODS = (  # name, algorithm, strategy, ToW
    ("tuned", "finetune", "vanilla", 0.70),
    ("tuned_parts", "finetune", "rum_f", 0.80),
    ("nothing", "original", "vanilla", 0.55),
    ("salun_vanilla", "salun", "vanilla", 0.75),
    ("salun_parts", "salun", "rum_f", 0.72),
    ("mixed", "original>finetune>salun", "rum", 0.92),
)
ORACLES = (
    ("retrain_reference", "retrain", "reference", 1.0),
    ("retrain_second", "retrain", "second", 0.97),
)


def method(name: str, algorithm: str, strategy: str) -> Method:
    return Method(name, algorithm, strategy, "whole", ("all",), {}, ("all",), {})


def dataset(count: int) -> Dataset:
    random = np.random.default_rng(count)
    images = random.integers(0, 256, (count, 28, 28, 1), np.uint8)
    return Dataset(images, np.arange(count, dtype=np.int32) % len(CLASSES))


def make_row(random: np.random.Generator, tow: float, strategy: str) -> dict[str, float]:
    around = {"tow": tow, "tow_mia": tow - 0.02, **{f"tow_{part}": tow - 0.01 for part in PARTS}}
    row = {key: min(value + 0.01 * float(random.normal()), 1.0) for key, value in around.items()}
    for name in ("forget_accuracy", "retain_accuracy", "test_accuracy", "mia", "mia_gap"):
        row[name] = float(random.uniform(0.4, 0.9))
    row |= {"disagreement": float(random.uniform(1, 9)), "seconds": float(random.uniform(1, 3))}
    row["rte"] = 1.0 if strategy in ("reference", "second") else row["seconds"] / 10
    return row


@pytest.fixture
def experiment() -> Reported:
    config = {
        "name": "made_up",
        "model": {"name": "cnn"},
        "training": {"epochs": 2},
        "bank": {"models": 8},
        "forget": {"by": "memorization", "size": 10},
        "note": "<script>",
    }
    data = Splits("tiny", len(CLASSES), CLASSES, dataset(120), dataset(9), dataset(30))
    methods = tuple(method(*each[:3]) for each in METHODS)
    return Reported(
        name="made_up",
        data=data,
        methods=methods,
        seeds=SEEDS,
        written=config,
        model=config["model"],
        training=config["training"],
        forget_by="memorization",
        bank=config["bank"],
    )


@pytest.fixture
def work(tmp_path):
    """Holds, besides the run's own rows, those of another seed and of a method long gone."""
    random = np.random.default_rng(0)
    with WorkDirectory(tmp_path / "run") as work:
        for name, algorithm, strategy, tow in (*METHODS, *ORACLES, ("gone", "scrub", "rum_f", 1)):
            for seed in (*SEEDS, 99):
                row = {"method": algorithm, "strategy": strategy, "seed": seed}
                row |= make_row(random, tow, strategy)
                curve = [{"part": "all", "epoch": epoch, "loss": 1 / epoch} for epoch in (1, 2)]
                work.write_json(f"rows/{name}_seed{seed}.json", {"row": row, "curve": curve})
        for seed in SEEDS:
            work.write_arrays(f"dynamics/seed{seed}.npz", {"loss": np.array([2.0, 1.0, 0.5])})
        memorization = random.beta(0.3, 1.0, 120).astype(np.float32)
        proxy = memorization + random.normal(0, 0.1, 120).astype(np.float32) - 1
        work.write_arrays("scores.npz", {"memorization": memorization, "c_proxy": proxy})
        ordered = np.argsort(memorization).astype(np.int32)
        parts = {"low": ordered[:10], "medium": ordered[55:65], "high": ordered[-10:]}
        forget = np.sort(np.concatenate(list(parts.values())))
        retain = np.setdiff1d(np.arange(120), forget)
        work.write_arrays("forget_sets.npz", {"forget": forget, "retain": retain, **parts})
        work.write_json("environment.json", {"jax": "0.10", "devices": ["cpu: cpu"]})
        yield work


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn; their pixels, which take longest, are left out."""
    figures = []

    def keep(figure, data):
        figures.append(figure)
        return drawing.Drawn(b"png", b"pdf", to_csv(list(data[0]) if data else [], data))

    monkeypatch.setattr(drawing, "render", keep)
    return figures
