"""Says what a run will take in memory and time on devices that need not be there.

    python -m rumjax.plan --config=cifar100_rum.py --topology=v5e:2x4

Every program of the run is compiled for the devices, from shapes alone: no data is read and nothing
runs. For TPUs, install 'rumjax[plan]'; no TPU is needed. Without --topology and --device the plan
is for the devices at hand. What is estimated is said as a range; --memory-only leaves times out.
"""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rumjax.errors import InvalidInputError, check_count, check_number
from rumjax.lab import targets
from rumjax.lab.devices import settle
from rumjax.launch import argument_parser, configuration, guarded, parse

GIVEN = ("shape", "train", "test", "classes", "validation")
"""Sizes of data that may be given."""
WIDTH = 108
"""Columns of the table, at least, so that its lines can be read in a file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def parser_of() -> argparse.ArgumentParser:
    """Returns the parser of the command's arguments."""
    parser = argument_parser("python -m rumjax.plan", __doc__ or "")
    add = parser.add_argument
    add("--topology", metavar="KIND:SHAPE", help=f"of TPUs: {', '.join(targets.TOPOLOGIES)}, …")
    add("--device", metavar="KIND", help=f"a GPU: {', '.join(targets.DEVICES)} (memory alone)")
    add("--memory-only", action="store_true", help="leave times out, which take longest")
    add("--budget-gib", type=float, metavar="GIB", help="of a device; by default all it has")
    add("--price", type=float, metavar="PRICE", help="of a chip for an hour, in any currency")
    add("--output", metavar="FILE", help="where the plan goes (default: plan.json in --workdir)")
    add(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="how many programs are compiled at a time (default: %(default)s)",
    )
    for name in GIVEN:
        what = "32x32x3 for example" if name == "shape" else f"number of {name} examples"
        what = "number of classes" if name == "classes" else what
        help_text = f"{what}, of data whose sizes are not known"
        kind = str if name == "shape" else int
        add(f"--data.{name}", dest=f"data_{name}", type=kind, metavar="N", help=help_text)
    add("--inside", help=argparse.SUPPRESS)
    return parser


def _run(argv: Sequence[str], console: Console) -> None:
    arguments, overrides = parse(parser_of(), argv, console)
    config = configuration(arguments.config, overrides)

    # Refuse what can be refused before JAX starts, and settle what it is to find.
    check_count("--processes", arguments.processes)
    for name in ("budget_gib", "price"):
        if getattr(arguments, name) is not None:
            check_number(f"--{name.replace('_', '-')}", getattr(arguments, name))
    place = _place(arguments)
    targets.prepare(arguments.topology, arguments.device, os.environ)
    settle(arguments.cpu_devices)
    from rumjax.data.shapes import Sizes, shaped
    from rumjax.lab import compiling, experiment, plan_files, planning, plans
    from rumjax.lab.config import read

    if place is not None:
        plan_files.check_place(place)
    sections = read(config)
    given = _given(arguments)
    splits = shaped(sections.data, None if given is None else Sizes(**given))
    run = experiment.build_on(sections, splits, splits.train.images[:1])
    target = targets.find(arguments.topology, arguments.device)

    # A process that another one has started to compile a single program.
    if arguments.inside is not None:
        *request, out = json.loads(arguments.inside)
        listed = planning.programs(run)
        recipes = list(compiling.recipes_of(run, listed).values())
        answered = compiling.answer(compiling.Request(*request), run, listed, recipes, target)
        pathlib.Path(out).write_text(json.dumps(answered))
        return

    budget = arguments.budget_gib
    plan = plans.make(
        run,
        target,
        argv=argv,
        console=console,
        memory_only=arguments.memory_only,
        budget=None if budget is None else budget * 2**30,
        price=arguments.price,
        processes=arguments.processes,
    )
    if place is not None:
        plan_files.write(plan, place)
    show(plan, console)
    if place is not None:
        console.print(f"the whole plan: {place}", markup=False, soft_wrap=True)


def _place(arguments: argparse.Namespace) -> pathlib.Path | None:
    """Returns where the plan is to be written; None if nothing was said."""
    if arguments.output is not None:
        return pathlib.Path(arguments.output).expanduser()
    if arguments.workdir is None:
        return None
    if "://" in arguments.workdir:
        raise InvalidInputError("plan: --workdir is in a cloud; name a local file by --output")
    return pathlib.Path(arguments.workdir).expanduser() / "plan.json"


def _given(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Returns the sizes of data that were given, if they were."""
    values = {name: getattr(arguments, f"data_{name}") for name in GIVEN}
    if all(value is None for value in values.values()):
        return None
    missing = [name for name in GIVEN[:-1] if values[name] is None]
    if missing:
        raise InvalidInputError(f"plan: --data.{missing[0]} is missing; give all sizes or none")
    for name in ("train", "test", "classes"):
        check_count(f"--data.{name}", values[name])
    shape = values.pop("shape").lower().split("x")
    if len(shape) != 3 or not all(part.isdecimal() and int(part) > 0 for part in shape):
        raise InvalidInputError("--data.shape: wanted height, width and channels, 32x32x3 say")
    return {**values, "image": tuple(map(int, shape))}


def show(plan: Mapping[str, Any], console: Console) -> None:
    """Prints a plan: its rows, sums, and what more devices would do."""
    from rumjax.lab.plan_files import gib, span

    budget = f", {gib(plan['budget_bytes'])} GiB each" if plan["budget_bytes"] else ""
    head = f"{plan['run']} on {plan['target']}: {plan['devices']} devices of {plan['hosts']} hosts"
    console.print(f"{head}{budget}\n{plan['source']}", markup=False, highlight=False)

    # A row for every program of a stage.
    table = Table(box=None)
    for name in ("Stage", "Program"):
        table.add_column(name)
    for name in ("Models", "A device", "HBM, GiB", "Fits", "Epochs × steps", "Device-hours"):
        table.add_column(name, justify="right")
    for row in plan["rows"]:
        table.add_row(
            row["stage"],
            Text(row["program"]),
            str(row["models"]),
            f"{row['per_device']} ({row['arrangement']})",
            gib(row.get("hbm_bytes")),
            _fits(row),
            f"{_several(row['epochs'])} × {_several(row['steps_per_epoch'])}",
            span(row["device_hours"]),
        )
    wide = Console(width=max(console.width, WIDTH))
    wide.print(table)
    for row in plan["rows"]:
        if "error" in row:
            console.print(f"{row['program']}: {row['error']}", markup=False, highlight=False)

    # Sums, and more devices.
    if plan["total"] is not None:
        sums = Table("Stage", "Device-hours", "", box=None)
        for one in plan["stages"]:
            note = "" if one["in_run"] else "by rumjax.tune, not in the sum"
            if one["without_times"]:
                note += f" without {one['without_times']} programs of unknown time"
            sums.add_row(one["stage"], span(one["device_hours"]), note.strip())
        sums.add_row("in all", span(plan["total"]["device_hours"]), "")
        wide.print(sums)
        more = Table("Devices", "Hours, more hosts", "Hours, more chips a host", box=None)
        if plan["price"] is not None:
            more.add_column("Cost, more hosts")
        for one in plan["scaling"]:
            cells = [one["hours_with_more_hosts"], one["hours_with_more_chips_a_host"]]
            cells += [] if plan["price"] is None else [one["cost_with_more_hosts"]]
            more.add_row(str(one["devices"]), *map(span, cells))
        wide.print(more)
    console.print("Left out: " + "; ".join(plan["left_out"]) + ".", markup=False, highlight=False)


def _fits(row: Mapping[str, Any]) -> str:
    """Says whether a program fits."""
    if row["fits"] is None:
        return "unknown"
    if row["fits"]:
        return "yes"
    return "by computing twice" if row["recomputed"] else "no"


def _several(numbers: Sequence[int]) -> str:
    """Writes numbers, or the first and the last of many."""
    if not numbers:
        return "?"
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


if __name__ == "__main__":
    sys.exit(main())
