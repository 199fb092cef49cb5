"""When does it pay to refine a forget set: in three regimes, within six budgets.

    python benchmarks/budgets.py --workdir=runs/budgets [--out=docs/studies/budgets]

Makes the runs of `configs/budgets.py`, one regime after another, each in a directory of its own
below the work directory; then RUM by a rule that is read off the first regime, in all of them. The
same command goes on where it stopped. The page is written by `budgets_page.py`, as far as there are
results.
"""

import argparse
import os
import pathlib

import budgets_attack
import jax
from algorithms import name_of, parse
from budgets_cells import PLAN, of_cells
from budgets_numbers import Numbers
from budgets_rule import choices_of, methods_by_rule, rules_of
from rich.console import Console

from rumjax.lab import experiment, files, jobs, pipeline
from rumjax.lab.context import context_of
from rumjax.lab.report import studies
from rumjax.lab.report.reported import case_of, whole
from rumjax.lab.sections import Study
from rumjax.lab.stages import tuning, unlearning
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration


def cases_of(run, work, console):
    """Returns the contexts of the cases of a run, with the methods that are done, as tuned."""
    cases = []
    for case in context_of(run, work, console).cases:
        adopted = tuning.adopted(case)
        lacking = {name for name, _ in unlearning.batch(adopted).names}
        done = [method for method in adopted.case.methods if method.name not in lacking]
        if done:
            cases.append(adopted.with_methods(done))
    return cases


def collect(run, cases, work):
    """Returns the study of a regime as far as it was run, and what tuning has scored."""
    tuned = {}
    reported = []
    for case in cases:
        name = name_of(case)
        pieces = {
            method.name: case.place.read_json(files.tuned(method.name))
            for method in case.case.methods
        }
        tuned[name] = {
            method: -1.0 if piece["score"] is None else piece["score"]
            for method, piece in pieces.items()
            if piece is not None
        }
        reported.append(case_of(run, case.case))
    study = studies.collect(work, whole(run)._replace(study=Study("budgets")), reported)
    return study, tuned


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/budgets"))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/studies/budgets"))
    parser.add_argument("--setting", default="fashion_mnist_mini", help="one of difficulty.py's")
    parser.add_argument("--regimes", nargs="+", default=tuple(PLAN), choices=PLAN)
    parser.add_argument("--all", action="store_true", help="all cells of the configuration")
    parser.add_argument("--models", type=int, default=16, help="attacked of each method, or 0")
    parser.add_argument("--page", action="store_true", help="only write the page of what is there")
    arguments, overrides = parse(parser)
    if 0 < arguments.models < budgets_attack.FEWEST:
        parser.error(f"--models: wanted 0, or at least {budgets_attack.FEWEST}")
    console = Console()

    # The runs.
    written = {
        regime: configuration(f"budgets.py:{arguments.setting},{regime}", overrides)
        for regime in arguments.regimes
    }
    runs = {
        regime: experiment.build(one if arguments.all else of_cells(one, PLAN[regime]))
        for regime, one in written.items()
    }
    for regime, run in runs.items():
        if not arguments.page:
            with WorkDirectory(str(arguments.workdir / regime)) as work:
                pipeline.run_experiment(run, work, console=console, figures=False)

    # Another criterion in one cell of the first regime.
    regime = arguments.regimes[0]
    attack = written[regime], str(arguments.workdir / regime), console, arguments.models
    if arguments.models and not arguments.page:
        budgets_attack.search(*attack)
    attacked = budgets_attack.read(*attack) if arguments.models else {}

    # The rule of the first regime, in all of them.
    rules, found, tuned, choices = None, {}, {}, {}
    for regime, run in runs.items():
        with WorkDirectory(str(arguments.workdir / regime), lock=not arguments.page) as work:
            cases = cases_of(run, work, console)
            if not cases:
                continue
            choices[regime] = [choice for case in cases for choice in choices_of(case)]
            rules = rules or rules_of(choices[regime])
            cases = [
                case.with_methods([*case.case.methods, *methods_by_rule(case, rules)])
                for case in cases
            ]
            if not arguments.page:
                jobs.make(*map(unlearning.batch, cases))
            found[regime], scores = collect(run, cases, work)
            tuned |= {(regime, name): of_case for name, of_case in scores.items()}

    import budgets_page

    budgets_page.write(
        arguments.out,
        Numbers(found, tuned),
        rules,
        choices,
        attacked,
        runs,
        machine=f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}",
    )
    print(f"{arguments.out}/study.md")


if __name__ == "__main__":
    main()
