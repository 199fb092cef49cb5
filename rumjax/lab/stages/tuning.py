"""Chooses hyper-parameters, and RUM's algorithms and order, by criteria that are spelled out.

What is searched is said in a configuration's section `tuning`; see `rumjax.lab.sections.Tuning`.
Settings of one algorithm are models of one compiled program, however many there are.
"""

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.lab import files, jobs, progress, report
from rumjax.lab.building import build_method
from rumjax.lab.config import Config
from rumjax.lab.context import CaseContext
from rumjax.lab.experiment import Case, Run
from rumjax.lab.grids import Setting, fingerprint, settings
from rumjax.lab.making import sample_steps
from rumjax.lab.methods import Method
from rumjax.lab.report.tuning import options as varied_options
from rumjax.lab.search import SEARCHES, Choice
from rumjax.lab.sections import Selection, Tuning
from rumjax.lab.stages import forget_sets, oracles, originals, scores
from rumjax.lab.suiting import budget_of, keeps_to_budget
from rumjax.lab.trials import Trials, file_of
from rumjax.lab.values import is_number
from rumjax.unlearn import Step


class Tuned(NamedTuple):
    """The best settings of a method, and their score."""

    method: Method
    score: float
    """−∞ if all settings diverged, so that the method keeps its own"""


def adopt(context: CaseContext, *, figures: bool = True) -> CaseContext:
    """Returns the case with the settings that tuning finds best, if they are to be adopted.

    A case that goes on from another keeps what was found for the first.
    """
    # What is already known of the first case is not searched again.
    if context.run.config.adopts and context.before is None:
        searched = searched_methods(context.case, context.run.config)
        if read_tuned(context).keys() != searched.keys():
            tune(context, figures=figures)
    return adopted(context)


def adopted(context: CaseContext) -> CaseContext:
    """Returns the case with the settings that tuning has found, as far as it has."""
    if not context.run.config.adopts:
        return context
    tuning = tuning_section(context)
    options = read_tuned(context.of(first_of(context.case)))

    # Methods that are like another take over its settings.
    methods = []
    for method in context.case.methods:
        own = options.get(method.name, method.options)
        if tuning.like.get(method.name) in options:
            own = taken_over(method, options[tuning.like[method.name]])
        methods.append(rebuilt(context.run, method, own))
    return context.with_methods(methods)


def first_of(case: Case) -> Case:
    """Returns the case that a case goes on from in the end, which may be itself."""
    return case if case.after is None else first_of(case.after)


def read_tuned(context: CaseContext) -> dict[str, Any]:
    """Reads the options that tuning has found best for a case, by method."""
    names = searched_methods(context.case, context.run.config)
    pieces = {name: context.place.read_json(files.tuned(name), keys=("options",)) for name in names}
    return {name: piece["options"] for name, piece in pieces.items() if piece is not None}


def tune(context: CaseContext, only: Sequence[str] = (), *, figures: bool = True) -> dict[str, Any]:
    """Searches what the section `tuning` says, and keeps what is found best.

    `tuning.csv` lists all that was tried, `tuned_methods.py` holds the best as Python.

    Args:
      context: of a case whose forget set is chosen.
      only: names of methods, if not all that are to be searched.
      figures: whether what was tried is drawn.

    Returns:
      The options of the best, by method.

    Raises:
      InvalidInputError: no section `tuning`.
    """
    config, place = context.run.config, context.place
    if config.tuning is None:
        raise InvalidInputError("the configuration has no section tuning")
    searched = searched_methods(context.case, config)

    # Models of the tuning seeds are trained for this alone.
    seeds = config.tuning.seeds
    lacking = [originals.batch(context, seeds)]
    if config.tuning.needs_oracles:
        lacking.append(oracles.batch(context, "reference", seeds))
    jobs.make(*lacking, oracles.teachers(context))

    # Search each method, and keep its best settings.
    methods = [method for method in context.case.methods if method.name in (only or searched)]
    total = sum(searched[method.name] for method in methods)
    with progress.stage(context.console, "Tuning", total, "settings") as advance:
        best = search(context, methods, advance)
    for name, (method, score) in best.items():
        kept = score if math.isfinite(score) else None
        place.write_json(files.tuned(name), {"options": method.options, "score": kept})

    # Write all that was tried, in this start or earlier ones.
    pattern = files.ANY_FINGERPRINT
    tried = [name for method in searched for name in place.names(files.trial(method, pattern))]
    rows = [place.read_json(name) for name in tried]
    place.write_text(files.TUNING, table(rows))
    place.write_text(
        files.TUNED_METHODS, fragment([m for m, score in best.values() if math.isfinite(score)])
    )
    report.write_tuning(place, rows, figures=figures)

    # A best value at the edge of a grid asks for a wider one.
    for name, (method, score) in best.items():
        of_method = [row for row in rows if row["method"] == name]
        said = outcome(name, score, [row["diverged"] > 0 for row in of_method])
        context.console.print(said, markup=False, soft_wrap=True)
        if config.tuning.selection(name) is None and math.isfinite(score):
            for edge in edges(method, of_method):
                context.console.print(f"  at the edge: {edge}", markup=False, soft_wrap=True)
    return {name: method.options for name, (method, _) in best.items()}


def searched_methods(case: Case, config: Config) -> dict[str, int]:
    """Returns the methods for which there is something to search, and how much at most."""
    tuning = config.tuning
    if tuning is None:
        return {}
    counts = {}
    for method in case.methods:
        if method.name in tuning.like:
            continue
        if grid := tuning.grid(method.name, method.algorithm):
            counts[method.name] = len(list(settings(grid, method.order, draw=tuning.settings)))
        if selection := tuning.selection(method.name):
            counts[method.name] = counts.get(method.name, 0) + selection.budget
    return counts


# Searching


def tuning_section(context: CaseContext) -> Tuning:
    """Returns the section `tuning`, in a run that has one."""
    section = context.run.config.tuning
    assert section is not None
    return section


def make(context: CaseContext, names: Sequence[tuple[str, Any]], advance: progress.Advance) -> None:
    """Tries settings of methods, which are pairs of a method's name and its options."""
    tuning = tuning_section(context)
    methods = {method.name: method for method in context.case.methods}
    tried = [rebuilt(context.run, methods[name], options) for name, options in names]
    trials = Trials(context, tuning, scores.read(context), forget_sets.read(context))
    trials.make(tried, advance)


def score(
    context: CaseContext, methods: Sequence[Method], advance: progress.Advance
) -> list[float]:
    """Scores methods: the mean of the criterion over the seeds, 0 for a seed that diverges.

    A method that diverges on every seed scores −∞, so that it is never the best. What the directory
    knows is not tried again.
    """
    place, tuning = context.place, tuning_section(context)
    missing = []
    for method in methods:
        if place.has(file_of(tuning, method)):
            advance(method.name)
        else:
            missing.append(method)
    batch = jobs.Batch(
        stage="tuning",
        context=context,
        names=[(method.name, method.options) for method in missing],
        title="Tuning",
        total=len(missing),
        advance=advance,
    )
    jobs.make(batch)
    pieces = [place.read_json(file_of(tuning, method)) for method in methods]
    return [
        -math.inf if piece["diverged"] == len(piece["scores"]) else piece["score"]
        for piece in pieces
    ]


def search(
    context: CaseContext, methods: Sequence[Method], advance: progress.Advance
) -> dict[str, Tuned]:
    """Finds the best of every method that has a grid, or whose unlearners are selected."""
    tuning, sizes = tuning_section(context), sizes_of(context)
    best: dict[str, Tuned] = {}
    for method in methods:
        if grid := tuning.grid(method.name, method.algorithm):
            best[method.name] = best_setting(context, method, grid, sizes, advance)
    tuned = {method.name: method for method in context.case.methods}
    tuned |= {name: method for name, (method, _) in best.items()}
    scores = {name: score for name, (_, score) in best.items()}
    for method in methods:
        if selection := tuning.selection(method.name):
            first = max(selection.candidates, key=lambda name: scores.get(name, -math.inf))
            best[method.name] = best_selection(
                context, tuned[method.name], tuned, first, selection, sizes, advance
            )
    return best


class Sizes(NamedTuple):
    """What decides how many gradients the methods of a case take."""

    steps_of: Callable[[Method], Sequence[Step]]
    """of a method, on the case's forget set"""
    retain: int
    """the size of R"""


def sizes_of(context: CaseContext) -> Sizes:
    """Reads scores and the forget set once, for all methods of a case."""
    example_scores, forget_set = scores.read(context), forget_sets.read(context)

    def steps_of(method: Method) -> Sequence[Step]:
        return sample_steps(context, method, example_scores, forget_set)

    return Sizes(steps_of, len(forget_set.retain))


def best_setting(
    context: CaseContext,
    method: Method,
    grid: Mapping[str, Any],
    sizes: Sizes,
    advance: progress.Advance,
) -> Tuned:
    """Finds the setting of a grid that scores highest, the first of equals."""
    allows = within_budget(context.run, context.case, method, *sizes)
    drawn = settings(grid, method.order, draw=tuning_section(context).settings, allows=allows)
    methods = [with_setting(context.run, method, setting) for setting in drawn]
    by_setting = score(context, methods, advance)
    best = int(np.argmax(by_setting))
    highest = by_setting[best]
    return Tuned(methods[best] if math.isfinite(highest) else method, highest)


class Candidate(NamedTuple):
    """What a part of a forget set may get."""

    unlearner: Mapping[str, Any]
    """its options"""
    retain_share: float
    """see `rumjax.refine.rum`"""


NO_CHANGE = Candidate({"algorithm": "original"}, 1.0)


def candidate_of(method: Method, part: str) -> Candidate:
    """Returns what a method does with a part, or with its first if it has none of that name."""
    select, shares = method.options["select"], method.retain_share
    named = part if part in select else next(iter(select))
    share = shares[named] if isinstance(shares, Mapping) else shares
    return Candidate(select[named], share)


def options_of(
    method: Method, chosen: Mapping[str, Candidate], order: Sequence[str]
) -> dict[str, Any]:
    """Returns a method's options with what is chosen for each part."""
    select = {part: candidate.unlearner for part, candidate in chosen.items()}
    options = {**method.options, "select": select, "order": tuple(order)}
    options.pop("retain_share", None)
    shares = {part: candidate.retain_share for part, candidate in chosen.items()}
    if min(shares.values()) < 1:
        options["retain_share"] = shares
    return options


def best_selection(
    context: CaseContext,
    method: Method,
    tuned: Mapping[str, Method],
    first: str,
    selection: Selection,
    sizes: Sizes,
    advance: progress.Advance,
) -> Tuned:
    """Finds the unlearners by part, and the order, with which a RUM scores highest.

    Candidates for a part are the unlearners that tuned methods have there, or on all of S if they
    have no parts, and doing nothing. With them comes the share of R that they are given, unless the
    method has one of its own.

    Args:
      context: of a case.
      method: whose unlearners are selected.
      tuned: all methods, as tuning left them.
      first: the candidate that the search starts from everywhere, in the configured order.
      selection: what may be selected, and how it is searched.
      sizes: what decides what a choice takes.
      advance: is told of every choice that is tried.
    """

    # Candidates are known by their fingerprints, and equal ones are one.
    def candidate(name: str, part: str) -> Candidate:
        found = candidate_of(tuned[name], part)
        if "retain_share" in method.options:
            return found._replace(retain_share=candidate_of(method, part).retain_share)
        return found

    pools = []
    for part in method.parts:
        pool = [*(candidate(name, part) for name in selection.candidates), NO_CHANGE]
        pools.append({fingerprint(each): each for each in pool})
    by_name = {name: each for pool in pools for name, each in pool.items()}

    def method_of(choice: Choice) -> Method:
        *names, order = choice
        chosen = {part: by_name[name] for part, name in zip(method.parts, names, strict=True)}
        return rebuilt(context.run, method, options_of(method, chosen, order))

    def keeps(method: Method) -> bool:
        steps = sizes.steps_of(method)
        return keeps_to_budget(method.name, method, steps, sizes.retain, context.run)

    def evaluate(choices: list[Choice]) -> list[float]:
        # What exceeds the budget is not tried, and never the best.
        methods = {choice: method_of(choice) for choice in choices}
        tried = {choice: method for choice, method in methods.items() if keeps(method)}
        scores = dict(zip(tried, score(context, list(tried.values()), advance), strict=True))
        return [scores.get(choice, -math.inf) for choice in choices]

    # A choice is a candidate for every part, and an order.
    if selection.orders == "configured":
        orders = [tuple(method.order)]
    else:
        orders = list(itertools.permutations(method.parts))
    values: list[list[Any]] = [list(pool) for pool in pools]
    firsts = [fingerprint(candidate(first, part)) for part in method.parts]
    start = (*firsts, tuple(method.order))
    find = SEARCHES[selection.search]
    best, highest = find(start, [*values, orders], evaluate, selection.budget)
    return Tuned(method_of(best) if math.isfinite(highest) else method, highest)


def within_budget(
    run: Run,
    case: Case,
    method: Method,
    steps_of: Callable[[Method], Sequence[Step]],
    retain: int,
) -> Callable[[Setting], bool]:
    """Returns what says whether a method keeps to the budget with a setting.

    So must the methods that take the setting over.

    Args:
      run: its budget.
      case: the case of the method.
      method: the method.
      steps_of: returns the steps of a method, on sets of the sizes that it is to have; none where
        they are not known yet.
      retain: the size of R.
    """
    like = {} if run.config.tuning is None else run.config.tuning.like
    users = [method, *(other for other in case.methods if like.get(other.name) == method.name)]
    users = [user for user in users if budget_of(user, run) is not None]
    if not users:
        return lambda setting: True
    steps = [(user, steps_of(user)) for user in users]

    def allows(setting: Setting) -> bool:
        options = with_setting(run, method, setting).options
        for user, on_sets in steps:
            select = rebuilt(run, user, taken_over(user, options)).select
            tried = [step._replace(unlearner=select[step.name]) for step in on_sets]
            if tried and not keeps_to_budget(f"methods.{user.name}", user, tried, retain, run):
                return False
        return True

    return allows


def taken_over(method: Method, other: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a method's options with the unlearners of another, by part.

    Parts missing from the other method use the unlearner of its first part.
    """
    theirs = other["select"]
    first = next(iter(theirs.values()))
    return {**method.options, "select": {part: theirs.get(part, first) for part in method.parts}}


def with_setting(run: Run, method: Method, setting: Setting) -> Method:
    """Returns a method with other options by part."""
    given = method.options["select"]
    select = {part: {**options, **setting.get(part, {})} for part, options in given.items()}
    return rebuilt(run, method, {"select": select})


CHOSEN = ("select", "order", "retain_share")
"""The options of a method that tuning may change."""


def rebuilt(run: Run, method: Method, chosen: Mapping[str, Any]) -> Method:
    """Returns a method with what other options say of its unlearners, their order and shares."""
    options = {**method.options, **{key: chosen[key] for key in CHOSEN if key in chosen}}
    defaults, own_scores = run.config.unlearner_defaults, run.config.own_scores
    classes = run.data.num_classes
    return build_method(method.name, options, defaults, run.model, classes, own_scores)


# What is left of it


def outcome(name: str, score: float, diverged: Sequence[bool]) -> str:
    """Says how well the best setting of a method did, and how many settings diverged on a seed.

    Examples:
      >>> outcome("fine", 0.5, [False, True])
      'fine: best score 0.5000; 1 of 2 settings diverged'
    """
    if not math.isfinite(score):
        return f"{name}: all {len(diverged)} settings diverged, and it keeps its own; try others"
    some = f"; {sum(diverged)} of {len(diverged)} settings diverged" if any(diverged) else ""
    return f"{name}: best score {score:.4f}{some}"


def edges(best: Method, tried: Sequence[Mapping[str, Any]]) -> list[str]:
    """Says which numbers of the best setting are the smallest or the largest that were tried.

    Args:
      best: the method with its best setting.
      tried: a row for every setting, as its file holds it.
    """
    notes = []
    settings = [dict(varied_options(row)) for row in tried]
    for key, value in varied_options({"options": best.options}):
        numbers = {setting[key] for setting in settings if is_number(setting.get(key))}
        if not is_number(value) or len(numbers) < 2:
            continue
        if value == min(numbers):
            notes.append(f"{key} {value:g} is the smallest that was tried; try smaller ones too")
        elif value == max(numbers):
            notes.append(f"{key} {value:g} is the largest that was tried; try larger ones too")
    return notes


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Writes all that was tried and how it scored as CSV, the best of each method first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "criterion", "score", "scores", "epochs", "seconds", "select"])
    for row in sorted(rows, key=lambda row: (row["method"], -row["score"])):
        by_seed = " ".join(f"{score:.4f}" for score in row["scores"])
        select = json.dumps(row["options"]["select"])
        about = row["method"], row["criterion"], row["score"], by_seed
        writer.writerow([*about, row["epochs"], row["seconds"], select])
    return text.getvalue()


def fragment(methods: Sequence[Method]) -> str:
    """Writes methods as Python, to be pasted into a configuration as `config.methods`."""
    lines = ["methods = {"]
    for method in methods:
        lines.append(f'    "{method.name}": {{')
        lines += [f'        "{key}": {value!r},' for key, value in method.options.items()]
        lines.append("    },")
    return "\n".join([*lines, "}"]) + "\n"
