"""Whether the evidence on a model that forgot is right: on models that did, and that did not.

    python benchmarks/evidence.py --workdir=runs/evidence [--out=docs/studies/evidence]

Reads a finished run of `configs/evidence.py`, which makes 64 original models, and 64 pairs of
oracles for each of two forget sets:

    python -m rumjax.launch --config=evidence.py --workdir=runs/evidence

Each oracle, and each original model in the place of one that was unlearned, is measured by the code
of `python -m rumjax.forget` and held against its gate, as if it were the result of a batch that
began with the original model of the same seed. The gate without a bank is that with one, less the
test that needs it. S is not learned again (`forgetting.relearning=0`). What is measured is kept in
the folder `evidence` of the work directory, a file a seed, so that the same command goes on where
it stopped; delete the folder to measure anew. The page is written by `evidence_page.py`.
"""

import argparse
import os
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from rumjax import evidence
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.lab import difficulty, experiment, files
from rumjax.lab.bank import ModelBank
from rumjax.lab.context import context_of, load_original, stage_key
from rumjax.lab.difficulty import Matching
from rumjax.lab.forgetting import bench as benches
from rumjax.lab.forgetting import canonical, findings
from rumjax.lab.forgetting.chooser import Chooser
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.shadows import Shadows, alike
from rumjax.lab.results import read_forget_set
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration

MODELS = ("original", "oracle", "second oracle")
SIZES, DRAWS = (10, 20, 50, 100, 200), 5
"""Examples of a part of S, and how many such parts are drawn for each seed."""
LARGER = (10, 20, 50, 100, 200, 500, 1000)
"""Examples of random parts of D, which only the original models have seen."""
TESTS = ("rank", "rank, matched", "group against the bank")
PERMUTATIONS = 400
"""Of the rank test of a part, whose p-value is then at least .0025."""
FRESH, MEMORIZED = 10, 1000
"""Sets that each model of the bank is tried on, and how many examples count as memorized."""
RESERVES = (400, 2000)
"""Coins of a reserve: of S and as much of V, and of a thousand of D, which oracles saw too."""
FOLDER = "evidence"


class Tried(NamedTuple):
    """What was measured of one seed, on one forget set."""

    evidence: dict[str, benches.Evidence]
    """by `MODELS`"""
    examples: np.ndarray
    """float64[3, |S|], p-values of single examples against the bank"""
    conformal: np.ndarray
    """float64[3, |S|], ranks of 1 − p_y among V"""
    parts: np.ndarray
    """float64[3, sizes, draws, 3], p-values of `TESTS` on parts of S"""


class Subject:
    """A model's margins, and what they are compared with, for tests on parts of S."""

    def __init__(self, margins, shadows, labels, unseen):
        self.margins, self.shadows, self.labels, self.unseen = margins, shadows, labels, unseen
        self.mended = shadows.mended(margins)

    def tests(self, examples, hard, hard_unseen, bins):
        """The p-values of `TESTS`, as the forget command has them."""
        ours, theirs = self.margins[examples], self.margins[self.unseen]
        labels = self.labels[examples], self.labels[self.unseen]
        alike = evidence.strata(labels[0], hard, labels[1], hard_unseen, bins=bins)
        matching = Matching(*alike, hard, hard_unseen)
        matched = evidence.rank_test(
            *matching.residuals(ours, theirs),
            strata_s=matching.forget,
            strata_v=matching.unseen,
            draws=PERMUTATIONS,
        )
        return (
            evidence.rank_test(ours, theirs, draws=2).p_value,
            matched.p_value,
            self.shadows.group(self.mended, examples).p_value,
        )


def measured(case, seed, forget, place):
    """Measures the three models of a seed, unless that was done before."""
    name = f"{case.case.folder.split('/')[-1]}_{seed:03d}"
    if not place.has(f"{name}.npz"):
        chooser = Chooser(
            case, place, Deletion(seed + 1, (), forget, np.empty(0, np.int32), case.size), None
        )
        chooser.start = load_original(case, seed)
        held, arrays = measure(chooser, models_of(case, seed, chooser.start), seed)
        place.write_json(f"{name}.json", held)
        place.write_arrays(f"{name}.npz", arrays)
    held = place.read_json(f"{name}.json", keys=MODELS)
    return Tried(
        {model: benches.read(held[model]) for model in MODELS}, **place.read_arrays(f"{name}.npz")
    )


def models_of(case, seed, original):
    like = jax.eval_shape(case.run.model.init, jax.random.key(0), case.data.images[:1])
    oracles = (
        case.place.load_model(files.oracle(which, seed), like) for which in ("reference", "second")
    )
    return dict(zip(MODELS, (original, *oracles), strict=True))


def measure(chooser, models, seed):
    """The evidence on each model, and p-values of single examples and of parts of S."""
    forget, matching, shadows = chooser.deletion.forget, chooser.matching, chooser.shadows
    if isinstance(shadows, str):
        raise SystemExit(f"{shadows}; this needs the bank of configs/evidence.py")
    labels = np.asarray(chooser.data.labels)
    random = np.random.default_rng(seed)
    parts = [
        [random.choice(len(forget), size, replace=False) for _ in range(DRAWS)] for size in SIZES
    ]
    held, arrays = {}, {"examples": [], "conformal": [], "parts": []}
    for name, model in models.items():
        bench = benches.Bench(chooser, model)
        held[name] = canonical.plain(findings.measure(bench))
        look = bench.looks["after"]
        subject = Subject(look.margins, shadows, labels, bench.unseen)
        arrays["examples"].append(shadows.p_values(subject.mended, forget))
        wrong = 1 - look.probabilities.astype(np.float64)
        arrays["conformal"].append(evidence.rank_p_values(wrong[forget], wrong[bench.unseen]))
        arrays["parts"].append(
            [
                [
                    subject.tests(
                        forget[part],
                        matching.forget_difficulty[part],
                        matching.unseen_difficulty,
                        chooser.section.bins,
                    )
                    for part in draws
                ]
                for draws in parts
            ]
        )
    return held, {key: np.array(value) for key, value in arrays.items()}


def fresh(case, seed, place):
    """P-values of `TESTS` on the original model, for random parts of D, float64[sizes, 3].

    All are parts of 1 000 examples that are drawn anew for each seed.
    """
    name = f"fresh_{seed:03d}.npz"
    if not place.has(name):
        random = np.random.default_rng([seed, 1])
        chosen = random.choice(case.size, max(LARGER), replace=False)
        retain = np.setdiff1d(np.arange(case.size), chosen).astype(np.int32)
        chooser = Chooser(
            case,
            place,
            Deletion(seed + 1, (), np.sort(chosen), np.empty(0, np.int32), case.size),
            load_original(case, seed),
        )
        matching = difficulty.match(
            case.run,
            stage_key(seed, "evidence/fresh"),
            chooser.data,
            ForgetSet({"all": chosen}, chosen.astype(np.int32), retain),
            chooser.unseen,
        )
        margins = chooser.answers(chooser.start).margins
        subject = Subject(margins, chooser.shadows, np.asarray(chooser.data.labels), chooser.unseen)
        found = [
            subject.tests(
                chosen[:size],
                matching.forget_difficulty[:size],
                matching.unseen_difficulty,
                chooser.section.bins,
            )
            for size in LARGER
        ]
        place.write_arrays(name, {"p_values": np.array(found)})
    return place.read_arrays(name)["p_values"]


def others_would_say(case, seeds, forget, place):
    """What else the models say, by name.

    "margins" are means on S, float[seeds, 3]; "epsilons" bounds, float[seeds, 3, reserves], where S
    or a part of D stands for what coins put in, and a part of V for what was left out; "tested" are
    margins on T, float32[seeds, 3, T].
    """
    name = f"added_{case.case.folder.split('/')[-1]}_{len(seeds)}.npz"
    if not place.has(name):
        chooser = Chooser(
            case, place, Deletion(1, (), forget, np.empty(0, np.int32), case.size), None
        )
        margins, epsilons, tested = [], [], []
        for seed in seeds:
            models = models_of(case, seed, load_original(case, seed))
            random = np.random.default_rng([seed, 3])
            more = random.choice(case.size, RESERVES[1] // 2, replace=False)
            for model in models.values():
                own = chooser.answers(model).margins
                margins.append(own[forget].mean())
                tested.append(own[case.size : chooser.unseen[0]])
                for size, inside in zip(RESERVES, (forget, more), strict=True):
                    outside = random.choice(chooser.unseen, size // 2, replace=False)
                    inside = random.choice(inside, size // 2, replace=False)
                    epsilons.append(bound(own[inside], own[outside]))
        shape = len(seeds), len(MODELS)
        place.write_arrays(
            name,
            {
                "margins": np.reshape(margins, shape),
                "epsilons": np.reshape(epsilons, (*shape, len(RESERVES))),
                "tested": np.reshape(tested, (*shape, -1)),
            },
        )
    return place.read_arrays(name)


def bound(inside, outside):
    """The lower bound on ε where half of the coins put examples in."""
    coins = len(inside) + len(outside)
    guesses = coins // findings.GUESSED // 2 * 2
    chosen, guessed = evidence.guess(np.concatenate([inside, outside]), guesses)
    right = int(np.sum((chosen < len(inside)) == (np.asarray(guessed) > 0)))
    return evidence.epsilon_lower_bound(right, guesses, coins)


def bank_models(bank, size, memorization):
    """P-values of the bank's models in the place of one that was unlearned, each among the others.

    S is drawn anew each time, of what the model has seen or not, of all of D or of the most
    memorized examples. Returns float64[M, draws] by name: of the group test, also as it would be if
    the shadows were not mended, and of the rank test against other examples that are unseen.
    """
    found, count = {}, bank.member.shape[1]
    every = np.zeros(bank.margins.shape, bool)
    every[:, :count] = bank.member
    memorized = np.argsort(-memorization, kind="stable")[:MEMORIZED]
    for model, (own, inside) in enumerate(zip(bank.margins, every, strict=True)):
        others = np.arange(len(every)) != model
        raw = Shadows(bank.margins[others], every[others], count)
        left = raw._replace(margins=alike(raw.margins, count))
        random = np.random.default_rng([model, 2])
        for kind, pool in (("random", np.arange(count)), ("memorized", memorized)):
            unseen = random.permutation(pool[~inside[pool]])
            for state, able in (("unseen", unseen), ("seen", pool[inside[pool]])):
                # The rank test has a half of what is unseen for V.
                held_out, able = unseen[::2], np.setdiff1d(able, unseen[::2])
                sets = [random.choice(able, size, replace=False) for _ in range(FRESH)]
                tests = {
                    "group": [left.group(left.mended(own), one).p_value for one in sets],
                    "group, unmended shadows": [
                        raw.group(raw.mended(own), s).p_value for s in sets
                    ],
                    "rank": [
                        evidence.rank_test(own[one], own[held_out], draws=2).p_value for one in sets
                    ],
                }
                for name, values in tests.items():
                    found.setdefault((name, kind, state), []).append(values)
    return {name: np.array(values) for name, values in found.items()}


def full_models(bank, tested, size):
    """P-values of models of nearly all of D on sets of T, which nobody saw, against the bank.

    One half of T mends the margins, and sets are drawn from the other; then the other way around.

    Args:
      bank: stacked.
      tested: margins on T, float[models, T].
      size: of each set.

    Returns:
      float64[models, draws].
    """
    count = tested.shape[1] // 2
    order = np.random.default_rng(0).permutation(2 * count)
    found = [[] for _ in tested]
    for half in (order, np.roll(order, count)):
        others = bank.margins[:, bank.member.shape[1] :][:, half]
        shadows = Shadows(alike(others, count), np.zeros(others.shape, bool), count)
        for model, own in enumerate(tested):
            mended, random = shadows.mended(own[half]), np.random.default_rng([model, 4])
            for _ in range(FRESH // 2):
                chosen = random.choice(count, size, replace=False)
                found[model].append(shadows.group(mended, chosen).p_value)
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/evidence", help="a finished run")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/studies/evidence"))
    parser.add_argument("--seeds", type=int, help="the first so many; all by default")
    parser.add_argument("--only", help="measure this forget set alone, and write no page")
    arguments = parser.parse_args()
    run = experiment.build(configuration("evidence.py", ["--config.forgetting.relearning=0"]))
    if not pathlib.Path(arguments.workdir, files.STAGE_RECORD).exists():
        parser.error(
            f"there is no run in {arguments.workdir}; make it (17 minutes on two cores) by "
            f"python -m rumjax.launch --config=evidence.py --workdir={arguments.workdir}"
        )
    seeds = run.seeds[: arguments.seeds]
    started = time.perf_counter()
    with WorkDirectory(arguments.workdir, lock=False) as work:
        context, place = context_of(run, work, Console(quiet=True)), work.below(FOLDER)
        tried, sets, added = {}, {}, {}
        for case in context.cases:
            name, forget_set = case.case.folder.split("/")[-1], read_forget_set(case.place)
            if forget_set is None:
                raise InvalidInputError(f"the run in {arguments.workdir} is not finished")
            if arguments.only not in (None, name):
                continue
            tried[name], sets[name] = [], forget_set.forget
            for seed in seeds:
                tried[name].append(measured(case, seed, forget_set.forget, place))
                print(f"{name}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
            added[name] = others_would_say(case, seeds, forget_set.forget, place)
        if arguments.only:
            return
        larger = np.array([fresh(case, seed, place) for seed in seeds])
        bank, scores = ModelBank.open(work).stack(), work.read_arrays(files.SCORES)
        of_bank = bank_models(bank, max(SIZES), scores["memorization"])
        tested = np.concatenate([one["tested"] for one in added.values()])
        for title, models in (("oracles", tested[:, 1:]), ("originals", tested[: len(seeds), 0])):
            own = np.concatenate(models) if models.ndim == 3 else models
            of_bank[f"group, {title}", "T", "unseen"] = full_models(bank, own, max(SIZES))

    import evidence_page

    evidence_page.write(
        arguments.out,
        run,
        tried=tried,
        larger=larger,
        of_bank=of_bank,
        added=added,
        least={name: evidence.least_p_value(bank.member[:, one]) for name, one in sets.items()},
        machine=f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}",
    )
    print(f"{arguments.out}/study.md")


if __name__ == "__main__":
    main()
