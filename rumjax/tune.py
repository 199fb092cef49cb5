"""Searches hyper-parameters, and selections of RUM, on seeds that the run itself does not report.

    python -m rumjax.tune --config=fashion_mnist_rum.py --workdir=runs/first

The configuration's section `tuning` says what is searched, and by which criterion; see
`rumjax.lab.sections.Tuning`. Scores and forget set are those of the run. Every setting is kept as
soon as it is known, and listed in tuning.csv; the same command goes on where it stopped. The best
of each method is printed, and written to tuned_methods.py for a configuration of your own.
"""

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rumjax.lab import files
from rumjax.lab.starting import add_engine, on_run
from rumjax.launch import DIVERGED, argument_parser, configuration, guarded, parse

if TYPE_CHECKING:
    from rumjax.lab.engines import Engine
    from rumjax.lab.experiment import Run
    from rumjax.lab.workdir import WorkDirectory


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status, see `rumjax.launch.main`.

    It is 4 where all settings of a method diverged.
    """
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str], console: Console) -> int:
    parser = argument_parser("python -m rumjax.tune", __doc__ or "")
    parser.add_argument(
        "--method", action="append", metavar="NAME", help="only this one; may be repeated"
    )
    add_engine(parser)
    arguments, overrides = parse(parser, argv, console)
    config = configuration(arguments.config, overrides)
    return on_run(arguments, config, console, functools.partial(_tune, arguments, console))


def _tune(
    arguments: argparse.Namespace,
    console: Console,
    run: "Run",
    work: "WorkDirectory",
    engine: "Engine",
) -> int:
    from rumjax.lab import pipeline

    only = arguments.method or ()
    best = pipeline.tune_experiment(run, work, console=console, only=only, engine=engine)
    scores = scores_of(run, work, best)
    console.print(table(best, scores))
    return DIVERGED if None in scores.values() else 0


def scores_of(
    run: "Run", work: "WorkDirectory", best: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str], float | None]:
    """Returns the score of the best setting of every method, None where all settings diverged."""
    folders = {case.name: case.folder for case in run.cases}
    places = {case: work.below(folders[case]) if folders[case] else work for case in best}
    return {
        (case, name): places[case].read_json(files.tuned(name))["score"]
        for case, methods in best.items()
        for name in methods
    }


def table(
    best: Mapping[str, Mapping[str, Any]], scores: Mapping[tuple[str, str], float | None]
) -> Table:
    """Makes a table of the best options of every method and their score, by case and method."""
    shown = Table("Case", "Method", "Score", "Order", "Options by part", box=None)
    for case, methods in best.items():
        for name, options in methods.items():
            order, select = options["order"], json.dumps(options["select"])
            score = scores[case, name]
            said = "diverged" if score is None else f"{score:.4f}"
            shown.add_row(Text(case), Text(name), said, Text(" → ".join(order)), Text(select))
    return shown


if __name__ == "__main__":
    sys.exit(main())
