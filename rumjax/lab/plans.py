"""The plan of a run: a row for every program, sums, and what more devices would do to it."""

import collections
import concurrent.futures
import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console

import rumjax
from rumjax.ensemble.arranging import SIDE_BY_SIDE
from rumjax.errors import InvalidInputError
from rumjax.lab import compiling, progress
from rumjax.lab.compiling import Request, Stepping
from rumjax.lab.estimates import MARGIN, Memory, most_models, step_seconds
from rumjax.lab.experiment import Run
from rumjax.lab.plan_files import FORMAT, Span
from rumjax.lab.planning import Program, Use, left_out, programs
from rumjax.lab.targets import Target

Ask: TypeAlias = Callable[[Request], dict[str, Any]]
"""Compiles what is asked for, here or in another process."""

STAGES = ("originals", "bank", "oracles", "tuning", "unlearning", "audits")
"""The stages of `rumjax.lab.planning.groups`, in order."""
UNTRIED = (
    "whether code can be generated: compilers are stopped once they have decided on memory, and "
    "may fail later"
)
LATER = 0.01
"""The share by which memory grows when code is generated, after what other processes wait for; it
was 0.1 % of a small network and 0.7 % of a ResNet-50."""
FACTORS = (1, 2, 4, 8, 16)
"""Times as many devices, of which a plan says what they would do."""


class Sizes:
    """Finds out how many models a device holds, by compiling for one, two, and as many as fit."""

    def __init__(self, ask: Ask, target: Target, budget: float | None, bank_most: int) -> None:
        """Prepares to ask; `bank_most` is the option `bank.per_device`."""
        self.ask, self.target, self.budget, self.bank_most = ask, target, budget, bank_most

    def of(self, number: int, program: Program, within: str) -> dict[str, Any]:
        """Returns the memory of a program, and how many models a device holds and would be given.

        Models that take turns gain nothing from others on their device: they are one.
        """
        one = self._memory(number, 1, within)
        if within == "map" or not one.fits(self.budget):
            return _sized(one, int(one.fits(self.budget)), 1, self.budget)

        # As many as fit, by a line through one and two, which is then checked.
        needed = max(_share(use, self.target) for use in program.uses)
        needed = max(1, min(needed, self.bank_most))
        if needed == 1:
            return _sized(one, 1, 1, self.budget)
        two = self._memory(number, 2, within)
        most = most_models(one, two, self.budget, needed=needed)
        memory = {1: one, 2: two}.get(most) or self._memory(number, most, within)
        while most > 1 and not memory.fits(self.budget):
            most //= 2
            memory = {1: one, 2: two}.get(most) or self._memory(number, most, within)
        return _sized(memory, most, most, self.budget)

    def _memory(self, number: int, per_device: int, within: str) -> Memory:
        return Memory(**self.ask(Request(number, per_device, within)))


def _sized(memory: Memory, most: int, per_device: int, budget: float | None) -> dict[str, Any]:
    return {
        "hbm_bytes": memory.hbm,
        "recomputed": memory.recomputed,
        "refused": memory.refused,
        "fits": memory.fits(budget),
        "most_per_device": most,
        "per_device": per_device,
    }


def _share(use: Use, target: Target) -> int:
    """Returns how many models of a use there are for each device."""
    devices = len(target.devices) if use.stage == "bank" else target.local
    return math.ceil(use.models / devices)


def make(
    run: Run,
    target: Target,
    *,
    argv: Sequence[str],
    console: Console,
    memory_only: bool = False,
    budget: float | None = None,
    price: float | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """Makes the plan of a run.

    Args:
      run: built on data of the right shapes.
      target: the devices that it is for.
      argv: the command's arguments, for the processes that compile.
      console: where progress is shown.
      memory_only: whether times are left out, which take most of the time.
      budget: bytes of a device; by default what the compiler says of it, if that is known.
      price: of a chip for an hour, in any currency.
      processes: how many programs are compiled at a time.

    Returns:
      What `plan.json` holds.
    """
    if budget is None and target.chip is not None:
        budget = target.chip.hbm
    planned = programs(run)
    recipes = compiling.recipes_of(run, planned)
    within = compiling.arrangement(run, target.platform)
    has_steps = not memory_only and (target.is_here or target.platform == "tpu")

    stop = threading.Event()

    def ask(request: Request) -> dict[str, Any]:
        if target.is_here:
            return compiling.answer(request, run, planned, list(recipes.values()), target)
        return compiling.ask(argv, request, stop, halfway=memory_only)

    # What each program takes, several at a time where they are compiled in other processes.
    most = run.config.bank.per_device
    limit = budget * (1 - LATER) if budget is not None and memory_only else budget
    sizes = Sizes(ask, target, limit, SIDE_BY_SIDE if isinstance(most, str) else most)
    total = len(planned) + has_steps * len(recipes)
    with (
        progress.stage(console, "Compiling", total, "programs") as advance,
        concurrent.futures.ThreadPoolExecutor(1 if target.is_here else processes) as pool,
        _stopping(stop),
    ):

        def size(number: int) -> dict[str, Any]:
            try:
                memory = sizes.of(number, planned[number], within)
            except InvalidInputError as error:
                memory = {"fits": None, "error": str(error), "per_device": 1}
            advance(planned[number].name)
            return memory

        sized = list(pool.map(size, range(len(planned))))

        # What a step of training takes, of each size of batches.
        per_device = min((one["per_device"] for one in sized), default=1)

        def step(number: int) -> dict[str, Any] | None:
            recipe = list(recipes.values())[number]
            try:
                if target.is_here:
                    seconds = compiling.measured_step(run, recipe, target)
                    span: Span | None = (seconds, seconds)
                    timed: dict[str, Any] = {"measured": True}
                else:
                    timed = ask(Request(number, per_device, within, is_step=True))
                    span = _span(Stepping(**timed), target, per_device)
            except InvalidInputError as error:
                timed, span = {"error": str(error)}, None
            advance(f"a step of {recipe.batch_size} images")
            return timed | {"batch_size": recipe.batch_size, "seconds_per_model": span}

        steps = list(pool.map(step, range(len(recipes)))) if has_steps else []

    seconds = {one["batch_size"]: one["seconds_per_model"] for one in steps if one}
    rows = [
        row
        for program, memory in zip(planned, sized, strict=True)
        for row in rows_of(program, memory, within, seconds)
    ]
    rows.sort(key=lambda row: STAGES.index(row["stage"]))
    return {
        "format": FORMAT,
        "rumjax": rumjax.__version__,
        "run": run.name,
        "target": target.name,
        "devices": len(target.devices),
        "hosts": target.hosts,
        "devices_per_chip": 1 if target.chip is None else target.chip.per_chip,
        "budget_bytes": budget,
        "source": source(target, memory_only=memory_only),
        "rows": rows,
        "steps": steps,
        **sums(run, rows, planned, seconds, target, price),
        "left_out": left_out(run) + ([UNTRIED] if memory_only and not target.is_here else []),
    }


@contextlib.contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Lets other processes end when this one is told to."""
    try:
        yield
    except BaseException:
        stop.set()
        raise


def source(target: Target, *, memory_only: bool) -> str:
    """Says in a sentence where the numbers of a plan come from."""
    if target.is_here:
        return "memory as the compiler says, times by measured steps of training, ±30 %"
    if target.platform == "gpu":
        return "a compiler's estimates of memory; nothing ran, and no times were computed"
    if memory_only:
        return "a compiler's estimates, taken before code is generated: memory to about 1 %"
    return (
        "a compiler's estimates: memory of the very programs, times from a step of training by "
        "roofline and by cycles, ±30 %; nothing ran"
    )


def _span(stepping: Stepping, target: Target, per_device: int) -> Span | None:
    """Returns the seconds of a step of one model, the least and the most."""
    assert target.chip is not None
    span = step_seconds(
        target.chip,
        flops=stepping.flops,
        transferred=stepping.transferred,
        cycles=stepping.cycles,
    )
    return None if span is None else (span[0] / per_device, span[1] / per_device)


# Rows and sums


def hours_of(use: Use, seconds: Mapping[int, Span | None]) -> Span | None:
    """Returns the device-hours of all models of a use, with the margin either way.

    None where no time was computed, or nothing is known of the unlearner.
    """
    span = seconds.get(use.batch_size)
    if span is None or use.batches is None:
        return None
    steps = use.models * use.batches / 3600
    return steps * span[0] * (1 - MARGIN), steps * span[1] * (1 + MARGIN)


def rows_of(
    program: Program,
    sized: Mapping[str, Any],
    within: str,
    seconds: Mapping[int, Span | None],
) -> list[dict[str, Any]]:
    """Returns a row for every stage that uses a program."""
    by_stage: dict[str, list[Use]] = collections.defaultdict(list)
    for use in program.uses:
        by_stage[use.stage].append(use)

    # A row has no time where one of its uses has none.
    rows = []
    for stage, uses in by_stage.items():
        spans = [hours_of(use, seconds) for use in uses]
        known = [span for span in spans if span is not None]
        rows.append(
            {
                "stage": stage,
                "program": program.name,
                "models": sum(use.models for use in uses),
                "arrangement": within,
                **sized,
                "epochs": sorted({use.epochs for use in uses}),
                "steps_per_epoch": sorted(
                    {
                        math.ceil(use.batches / use.epochs)
                        for use in uses
                        if use.batches is not None and use.epochs
                    }
                ),
                "device_hours": added(known) if len(known) == len(spans) else None,
                "uses": [use._asdict() for use in uses],
            }
        )
    return rows


def added(spans: Sequence[Span]) -> Span:
    """Adds spans up.

    Examples:
      >>> added([(1, 2), (10, 20)])
      (11, 22)
    """
    return sum(span[0] for span in spans), sum(span[1] for span in spans)


def sums(
    run: Run,
    rows: Sequence[Mapping[str, Any]],
    planned: Sequence[Program],
    seconds: Mapping[int, Span | None],
    target: Target,
    price: float | None,
) -> dict[str, Any]:
    """Returns the sums by stage and in all, what more devices would do, and what that costs."""
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    by_stage = []
    for stage in stages:
        spans = [row["device_hours"] for row in rows if row["stage"] == stage]
        known = [span for span in spans if span is not None]
        in_run = stage != "tuning" or run.config.adopts
        by_stage.append(
            {
                "stage": stage,
                "in_run": in_run,
                "device_hours": added(known) if known else None,
                "without_times": len(spans) - len(known),
            }
        )
    if not any(one["device_hours"] for one in by_stage):
        return {"stages": by_stage, "total": None, "scaling": [], "price": price}

    # Rows without a time are missing from the sums, which say so.
    counted = [one for one in by_stage if one["in_run"] and one["device_hours"]]
    uses = [
        use
        for program in planned
        for use in program.uses
        if use.stage != "tuning" or run.config.adopts
    ]
    chips = 1 if target.chip is None else target.chip.per_chip
    scaling = []
    for factor in FACTORS:
        devices = factor * len(target.devices)
        as_hosts = wall(uses, seconds, devices, target.local)
        as_chips = wall(uses, seconds, devices, factor * target.local)
        scaling.append(
            {
                "times": factor,
                "devices": devices,
                "hours_with_more_hosts": as_hosts,
                "hours_with_more_chips_a_host": as_chips,
                "cost_with_more_hosts": _cost(as_hosts, devices / chips, price),
            }
        )
    total = {
        "device_hours": added([one["device_hours"] for one in counted]),
        "hours": scaling[0]["hours_with_more_hosts"],
        "cost": scaling[0]["cost_with_more_hosts"],
        "without_times": sum(one["without_times"] for one in by_stage if one["in_run"]),
    }
    return {"stages": by_stage, "total": total, "scaling": scaling, "price": price}


def wall(uses: Sequence[Use], seconds: Mapping[int, Span | None], devices: int, local: int) -> Span:
    """Returns the hours that uses take one after another, the bank on all hosts.

    A stage with fewer models than devices leaves the others idle, and so does one whose models
    cannot be dealt out evenly; see `rumjax.ensemble.fitting`.
    """
    spans = []
    for use in uses:
        span = hours_of(use, seconds)
        if span is None:
            continue
        if use.stage == "bank":
            busy = use.models / math.ceil(use.models / devices)
        elif use.stage == "tuning":
            busy = min(use.models, local)
        else:
            most = min(use.models, local)
            busy = next(count for count in range(most, 0, -1) if use.models % count == 0)
        spans.append((span[0] / busy, span[1] / busy))
    return added(spans)


def _cost(hours: Span, chips: float, price: float | None) -> Span | None:
    """Returns what chips cost for so long, idle ones included."""
    return None if price is None else (hours[0] * chips * price, hours[1] * chips * price)
