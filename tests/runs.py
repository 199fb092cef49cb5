"""Starts runs as the command line does, and reads what they leave."""

import csv
import os

import numpy as np

from rumjax import launch

LINES = {
    ("retrain", "reference"),
    ("retrain", "second"),
    ("original", "vanilla"),
    ("finetune", "vanilla"),
    ("finetune", "rum_f"),
    ("original>finetune>neggrad_plus", "rum"),
}
"""method and strategy of the rows of a run of `tests.tiny`"""
TIMES = ("seconds", "rte", "rte_with_scores")
"""beginnings of the names of columns that differ each time"""


def start(config, work, *arguments):
    return launch.main([f"--config={config}", f"--workdir={work}", "--cpu_devices=8", *arguments])


def table(path, without=()):
    """A CSV file as dictionaries, without some columns."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: value for key, value in row.items() if not key.startswith(tuple(without))}
        for row in rows
    ]


def arrays(path):
    with np.load(path) as archive:
        return dict(archive)


def kept_files(folder):
    """All files of a run but those that each start writes anew."""
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "environment.json")
    }


def contents(folder):
    """What is in each of those files."""
    return {path: (folder / path).read_bytes() for path in kept_files(folder)}


def stamps(folder):
    """When each of those files was last written, and its size."""
    found = {path: (folder / path).stat() for path in kept_files(folder)}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in found.items()}


def same_results(one, other):
    """Two runs agree in everything but their timings."""
    for name in ("results.csv", "summary.csv"):
        assert table(one / name, TIMES) == table(other / name, TIMES)
    for name in ("scores.npz", "forget_sets.npz"):
        ours, theirs = arrays(one / name), arrays(other / name)
        assert ours.keys() == theirs.keys()
        for key in ours.keys() - {"bank_seconds"}:
            assert ours[key].tobytes() == theirs[key].tobytes(), key


def without_times(folder):
    """All tables, arrays and records of a run, but for their times and Orbax's files."""
    read = {}
    for path in kept_files(folder):
        if "tables" in path.parts:  # the same in other words
            continue
        if path.suffix == ".csv":
            read[path] = table(folder / path, TIMES)
        elif path.suffix == ".npz":
            read[path] = {
                key: array.tobytes()
                for key, array in arrays(folder / path).items()
                if not key.endswith("seconds")
            }
        elif "checkpoints" not in path.parts:
            read[path] = None
    return read


def random_moments():
    """A generator for when to kill; its seed is printed, and RUMJAX_TESTS_SEED repeats it."""
    drawn = np.random.SeedSequence().entropy % 2**32
    seed = int(os.environ.get("RUMJAX_TESTS_SEED", drawn))
    print(f"RUMJAX_TESTS_SEED={seed} kills at the same moments")
    return np.random.default_rng(seed)
