"""All algorithms on four forget sets, attacked on many models each, and a RUM of the best of them.

    python benchmarks/algorithms.py --workdir=runs/algorithms [--out=docs/studies/algorithms]

Makes the run of `configs/algorithms.py` first, or goes on with it. Then it attacks every algorithm
by U-LiRA, with the settings that the run has found: on every set, as many unlearned models as
`--models` says are told from as many oracles. What is made is kept in the work directory, an
algorithm at a time, so that the same command goes on where it stopped. The page is written by
`algorithms_page.py`.
"""

import argparse
import os
import pathlib

import jax
import numpy as np
from rich.console import Console

from rumjax import audits
from rumjax.audits import FORGOTTEN, OUT, Population
from rumjax.lab import devices, experiment, jobs, making, pipeline, progress
from rumjax.lab.answers import reader
from rumjax.lab.context import context_of, load_original, stage_key
from rumjax.lab.grids import fingerprint
from rumjax.lab.informing import Informant
from rumjax.lab.making import Job, steps_of
from rumjax.lab.results import read_forget_set
from rumjax.lab.stages import originals, scores, tuning
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.metrics import Interval
from rumjax.types import task
from rumjax.unlearn import chain

ATTACKED = "attacked"
"""The folder of a case that holds the margins of the models that are attacked."""
ORACLES = "retrain"
SETS = ("low", "medium", "high", "random")
"""The sets on which models are attacked."""


def margins_file(case, name):
    """Returns the directory and the name of the file that holds a method's margins.

    A method with other settings has another.
    """
    settings = [fingerprint(each.options) for each in case.case.methods if each.name == name]
    words = "_".join([name, *settings, str(len(case.run.seeds))])
    return case.place.below(ATTACKED), f"{words}.npz"


def is_attacked(case):
    """Says whether the margins of all methods are there, so that none need be made."""
    names = [ORACLES, *(method.name for method in case.case.methods)]
    return all(place.has(file) for place, file in (margins_file(case, name) for name in names))


def margins_of(case, name, jobs_of):
    """Makes models of all seeds, unless that was done; float32[seeds, |S|], their margins on S.

    Those of a model that diverged are not finite.
    """
    place, file = margins_file(case, name)
    if not place.has(file):
        forget = read_forget_set(case.place).forget
        rows = {}
        for made in making.make(
            case, jobs_of(), lambda _: None, name, read=reader(case.run.model), diverging="noted"
        ):
            margins = np.full(len(forget), np.nan, np.float32)
            if made.diverged is None:
                margins = np.asarray(made.model.margins)[forget]
            rows[made.job.seed] = margins
        place.write_arrays(file, {"margins": np.stack([rows[seed] for seed in case.run.seeds])})
    return place.read_arrays(file)["margins"]


def all_margins(case):
    """The margins on S of oracles, original models and unlearned ones, by method."""
    forget_set, example_scores = read_forget_set(case.place), scores.read(case)
    informant = Informant(case)

    def retrain():
        steps = chain(task(forget_set.forget, case.size), case.run.recipe)
        return [Job(seed, stage_key(seed, "oracle_reference"), steps) for seed in case.run.seeds]

    def unlearn(method):
        made = []
        for seed in case.run.seeds:
            start = load_original(case, seed)
            steps = steps_of(case, method, example_scores, forget_set, seed)
            steps = informant.informed(steps, start, ("seed", seed))
            made.append(Job(seed, stage_key(seed, f"unlearn/{method.name}"), steps, start))
        return made

    methods = {ORACLES: retrain}
    methods |= {method.name: lambda m=method: unlearn(m) for method in case.case.methods}
    found = {}
    title = f"Attacked, {name_of(case)}"
    with progress.stage(case.console, title, len(methods), "methods") as advance:
        for name, jobs_of in methods.items():
            found[name] = margins_of(case, name, jobs_of)
            advance(name)
    return found


def attack(unlearned, oracles):
    """U-LiRA's accuracy in telling unlearned models from oracles, with a bootstrap's interval.

    Models that diverged are left out; None if hardly any is left.
    """
    sound, oracles = (each[np.isfinite(each).all(axis=1)] for each in (unlearned, oracles))
    if len(sound) < len(unlearned) / 2:
        return None
    worlds = np.repeat([FORGOTTEN, OUT], [len(sound), len(oracles)]).astype(np.int8)
    margins = np.concatenate([sound, oracles])
    population = Population(margins, np.broadcast_to(worlds[:, None], margins.shape))
    findings = audits.read_game("u_lira", audits.unlearning_lira(population), draws=100)
    accuracy = next(one for one in findings if one.measure == "accuracy")
    return Interval(accuracy.value, accuracy.low, accuracy.high)


def attacks(context):
    """U-LiRA's accuracy by set and method; "retrain" is one half of the oracles and the other."""
    found = {}
    for case in context.cases:
        if name_of(case) not in SETS:
            continue
        margins = all_margins(tuning.adopted(case))
        oracles = margins.pop(ORACLES)
        found[name_of(case)] = {name: attack(one, oracles) for name, one in margins.items()}
        found[name_of(case)][ORACLES] = attack(oracles[::2], oracles[1::2])
    return found


def parse(parser):
    """Returns the arguments of a study, and its overrides, once the devices are settled."""
    parser.add_argument("--cpu_devices", type=int, default=os.cpu_count(), help="models at a time")
    parser.add_argument("overrides", nargs="*", help="of the configuration: --config.seeds=2")
    arguments, more = parser.parse_known_args()
    devices.settle(arguments.cpu_devices)
    return arguments, [*arguments.overrides, *more]


def name_of(case):
    return case.case.folder.split("/")[-1]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/algorithms")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/studies/algorithms"))
    parser.add_argument("--config", default="algorithms.py", help="one like configs/algorithms.py")
    parser.add_argument("--models", type=int, default=64, help="that are attacked of each method")
    arguments, overrides = parse(parser)

    # The run, and more of its original models.
    console = Console()
    run = experiment.build(configuration(arguments.config, overrides))
    with WorkDirectory(arguments.workdir) as work:
        pipeline.run_experiment(run, work, console=console, figures=False)
    many = [*overrides, f"--config.seeds={arguments.models}"]
    attacked = experiment.build(configuration(arguments.config, many))
    with WorkDirectory(arguments.workdir) as work:
        context = context_of(attacked, work, console)
        jobs.make(originals.batch(context))
        leaks = attacks(context)

    import algorithms_page

    algorithms_page.write(
        arguments.out,
        run,
        arguments.workdir,
        leaks,
        models=arguments.models,
        machine=f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}",
    )
    print(f"{arguments.out}/study.md")


if __name__ == "__main__":
    main()
