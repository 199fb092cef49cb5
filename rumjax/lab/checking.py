"""Finds out before anything is trained what would go wrong after hours of training.

A `Run` is sound by itself, see `rumjax.lab.experiment`; here it is held against its data.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rumjax import scores as estimators
from rumjax.errors import InvalidInputError, check_choice
from rumjax.forget_sets import ForgetSet
from rumjax.lab.building import steps_on
from rumjax.lab.config import STUDY_NEEDS
from rumjax.lab.experiment import Case, Run, unknown_of
from rumjax.lab.grids import check_grid, is_by_part, is_range, settings
from rumjax.lab.informing import HELD_OUT, LEAST
from rumjax.lab.methods import SCORES, Method
from rumjax.lab.options import accepted, check_signature, typed
from rumjax.lab.search import check_budget
from rumjax.lab.stages.forget_sets import choose_set
from rumjax.lab.stages.scores import given_memorization
from rumjax.lab.stages.tuning import first_of, searched_methods, with_setting, within_budget
from rumjax.lab.suiting import budget_of, check_classes, check_cost, check_starts
from rumjax.models import predict, require_embeddings
from rumjax.registry import attempt, is_import_path, resolve
from rumjax.types import Outputs, Scores
from rumjax.unlearn import ALGORITHMS, Step

MOST_BATCH = 2**14
"""Examples of a batch that any data may have."""
OF_DATA = ("class", "random", "examples", "file")
"""The ways to choose S that need nothing but the data."""
SCORED = ("model", "variables", "data")
"""What scores of the user's own may take; see `rumjax.lab.stages.scores.own_score`."""
REFINED = ("scores", "labels", "parts", "seed")
"""What refinements of the user's own may take; see `rumjax.lab.building.refinement`."""


def check(run: Run) -> None:
    """Checks all that a configuration and its data decide.

    Raises:
      InvalidInputError: a model that does not fit the images, a bank too small to see every example
        and leave it out, scores that cannot be had, a forget set that cannot be made of this data,
        methods that do not suit it, or a search, a study or an attack that could not be finished.
    """
    outputs = check_model(run)
    check_batches(run)
    check_bank(run)
    check_validation(run)
    example_scores = check_scores(run)
    check_attack(run)
    check_cases(run, example_scores, outputs)
    check_tuning(run)
    check_study(run)


def check_model(run: Run) -> Outputs:
    """Returns the shapes of the model's outputs, if it fits the images."""
    images = run.data.train.images[:1]
    initialize = functools.partial(jax.eval_shape, run.model.init, jax.random.key(0))
    like = attempt("model", initialize, {"images": images})
    look = functools.partial(jax.eval_shape, functools.partial(predict, run.model))
    outputs: Outputs = attempt("model", lambda: look(like, images), {})

    # Entanglement is nearness in the model's embeddings.
    if "entanglement" in run.scores_in_use:
        require_embeddings(outputs)
    return outputs


def check_batches(run: Run) -> None:
    """Checks that no batch is far larger than the data, whose examples it would repeat."""
    check_batch("training", run.recipe, run.size)
    for method in run.methods:
        for part, unlearner in method.select.items():
            check_batch(f"methods.{method.name}.select.{part}", unlearner, run.size)


def check_batch(where: str, unlearner: object, size: int) -> None:
    """Checks that the batches of training or of an unlearner suit data of so many examples."""
    most, given = max(size, MOST_BATCH), getattr(unlearner, "batch_size", 1)
    if given > most:
        raise InvalidInputError(
            f"{where}.batch_size: wanted at most {most} for {size} examples, got {given}"
        )


def check_bank(run: Run) -> None:
    """Checks that every example is seen by a model of the bank, and left out by another."""
    options = run.config.bank
    if run.has_datamodels and options.models < LEAST:
        raise InvalidInputError(
            f"bank.models: a datamodel needs {LEAST} or more, got {options.models}"
        )
    if run.trains_bank:
        estimators.random_subset(options.seed, 0, run.size, options.fraction)
    if run.needs_bank:
        # The first models are enough, once every example is in some and out of others.
        inside = np.zeros(run.size, np.int64)
        for model in range(options.models):
            inside[estimators.random_subset(options.seed, model, run.size, options.fraction)] += 1
            if np.all((inside > 0) & (inside <= model)):
                return
        outside = options.models - inside
        estimators.memorization_of(estimators.Tally(inside, outside, inside, outside))


def check_validation(run: Run) -> None:
    """Checks that there is validation data, where something needs it."""
    if len(run.data.validation.labels):
        return
    tuning = run.config.tuning
    needs = [
        f"methods.{method.name}, which refines by {method.refine},"
        for method in run.methods
        if method.refine in ("rescored", "holdout_retraining")
    ]
    if "holdout_retraining" in run.on_demand:
        needs.append("the score holdout_retraining")
    needs += [
        f"methods.{method.name}, which learns from it,"
        for method in run.methods
        if unknown_of(method) & set(HELD_OUT)
    ]
    if tuning is not None and tuning.criterion == "validation":
        needs.append('tuning.criterion "validation"')
    if needs:
        raise InvalidInputError(
            f"{needs[0]} needs validation data, and there is none; set data.validation_fraction, "
            "or do without"
        )


def check_scores(run: Run) -> dict[str, Scores]:
    """Returns scores to choose forget sets by: those that are given, and zeros for the others."""
    section = run.config.scores
    for name, path in ({} if section is None else section.own).items():
        where = f"scores.own.{name}"
        check_signature(where, resolve(where, path, {}), SCORED)
    zeros = Scores(np.zeros(run.size, np.float32))
    example_scores = dict.fromkeys((*SCORES, *run.config.own_scores, "entanglement"), zeros)
    if run.config.gives_memorization:
        example_scores["memorization"] = Scores(given_memorization(run)["memorization"])
    return example_scores


def check_attack(run: Run) -> None:
    """Checks that there are as many examples in T as the membership attack is to learn from."""
    samples, tests = run.config.attack.samples, len(run.data.test.labels)
    if samples is not None and samples > tests:
        raise InvalidInputError(
            f"attack.samples: {samples} are more than the {tests} test examples; use fewer, or "
            "None for all"
        )


def check_cases(run: Run, example_scores: Mapping[str, Scores], outputs: Outputs) -> None:
    """Checks that forget sets can be made of the data, and that the methods suit them."""

    def embeddings() -> np.ndarray:
        require_embeddings(outputs)
        return np.zeros((run.size, 1), np.float32)

    # Which examples are chosen may depend on scores that are not known yet; how many, not.
    by_score = {name: score for name, score in example_scores.items() if name != "entanglement"}
    chosen: dict[str, ForgetSet] = {}
    tried: set[Any] = set()
    for case in run.cases:
        forget_set = choose_set(case.forget, run.data, by_score, embeddings)
        chosen[case.name] = forget_set
        before = None if case.after is None else chosen[case.after.name]
        if before is not None and not np.setdiff1d(forget_set.forget, before.forget).size:
            raise InvalidInputError(
                f"{case.name}: all {len(forget_set.forget)} examples of its forget set are already "
                "forgotten in the case that it comes after"
            )
        for method in case.methods:
            check_method(run, case, method, example_scores, forget_set, before)
            where = f"{case.name}: " if case.folder else ""
            check_starts(f"{where}methods.{method.name}", method.select, run, tried)


def check_method(
    run: Run,
    case: Case,
    method: Method,
    example_scores: Mapping[str, Scores],
    forget_set: ForgetSet,
    before: ForgetSet | None,
) -> None:
    """Checks that a method's parts, order and selection fit the forget set, as far as it is known.

    Args:
      run: the run.
      case: the case of the method.
      method: the method.
      example_scores: scores of D, or zeros where they are not known yet.
      forget_set: S, or another set of its size.
      before: that of the case that this one goes on from.
    """
    where = f"{case.name}: " if case.folder else ""
    if is_import_path(method.refine):
        name = f"{where}methods.{method.name}.refine"
        check_signature(name, resolve(name, method.refine, {}), REFINED)

    def steps_of(method: Method) -> Sequence[Step]:
        # A function of the user's may need the very scores and examples.
        if is_import_path(method.refine):
            return ()
        if method.refine == "class" and case.forget.by not in OF_DATA:
            return ()
        zeros = Scores(np.zeros(run.size, np.float32))
        labels = np.asarray(run.data.train.labels)
        forgotten = np.empty(0, np.int32) if before is None else before.forget
        forget = np.setdiff1d(forget_set.forget, forgotten)
        known = {**example_scores, "rescored": zeros}
        return steps_on(method, forget, forget_set.retain, known, labels, run.seeds[0])

    try:
        steps = steps_of(method)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}methods.{method.name}: {error}") from error
    if steps:
        check_suits(f"{where}methods.{method.name}", run, case, steps)
        retain = len(forget_set.retain)
        check_budgets(f"{where}methods.{method.name}", run, case, method, steps_of, retain)


def check_suits(where: str, run: Run, case: Case, steps: Sequence[Step]) -> None:
    """Checks that unlearners suit the classes of S and V, as far as S is known.

    Raises:
      InvalidInputError: one forgets whole classes alone and S is none; or one needs validation
        images of a class of which there are none.
    """
    by = case.forget.by
    if by in OF_DATA:
        check_classes(where, steps, run.data)
    elif not is_import_path(by):
        for step in steps:
            if getattr(step.unlearner, "whole_classes", False):
                raise InvalidInputError(
                    f"{where}, {step.name}: {type(step.unlearner).__name__} forgets whole classes, "
                    f"and forget.by={by!r} chooses examples; choose forget.by='class', or another "
                    "algorithm"
                )


def check_budgets(
    where: str,
    run: Run,
    case: Case,
    method: Method,
    steps_of: Callable[[Method], Sequence[Step]],
    retain: int,
) -> None:
    """Checks that a method keeps to the budget, or if it is tuned, some of its settings do.

    Args:
      where: the name used in messages.
      run: the run.
      case: the case of the method.
      method: the method.
      steps_of: returns the steps of a method of the case.
      retain: the size of R.

    Raises:
      InvalidInputError: it does not.
    """
    config, tuning = run.config, run.config.tuning
    if tuning is None or not config.adopts:
        check_cost(where, method, steps_of(method), retain, run)
        return

    # What is like another method is checked with that one, and a selection by its candidates.
    if method.name in tuning.like:
        return
    if grid := tuning.grid(method.name, method.algorithm):
        check_grid_of(method, grid)
        allows = within_budget(run, case, method, steps_of, retain)
        drawn = settings(grid, method.order, draw=tuning.settings, allows=allows)
        if next(drawn, None) is None:
            raise InvalidInputError(
                f"{where}: all settings in tuning.grids take more gradients than "
                f"{budget_of(method, run):.3g} of those of retraining, or those do that are like "
                "it; try fewer epochs, or raise budget"
            )
    elif tuning.selection(method.name) is None:
        check_cost(where, method, steps_of(method), retain, run)


def check_tuning(run: Run) -> None:
    """Checks that every setting can be tried, and that methods are like others that are searched.

    Raises:
      InvalidInputError: seeds that the run reports, an option or a value that an unlearner does not
        take, a part that a method does not have, a method that is not in the case, or more
        selections than the budget.
    """
    tuning = run.config.tuning
    if tuning is None:
        return
    if reported := sorted(set(tuning.seeds) & set(run.seeds)):
        raise InvalidInputError(
            f"tuning.seeds: {reported[0]} is among the seeds that the run reports, {run.seeds[0]}…"
            f"{run.seeds[-1]}, and would be judged by what it was tuned on; choose others, like "
            f"{run.seeds[-1] + 100}"
        )
    for case in run.cases:
        methods = {method.name: method for method in case.methods}
        for method in case.methods:
            grid = tuning.grid(method.name, method.algorithm)
            if not grid or method.name in tuning.like:
                continue
            where = f"tuning.grids, for {method.name}"
            check_grid_of(method, grid)
            try:
                for setting in settings(grid, method.order, draw=tuning.settings):
                    for part, unlearner in with_setting(run, method, setting).select.items():
                        check_batch(part, unlearner, run.size)
            except InvalidInputError as error:
                raise InvalidInputError(f"{where}: {error}") from error

        # Others are named that are in the same case.
        searched = searched_methods(first_of(case), run.config)
        for name in methods:
            if name in tuning.like:
                check_choice(f"method that {name} is like in tuning", tuning.like[name], searched)
            selection = tuning.selection(name)
            if selection is not None:
                for candidate in selection.candidates:
                    check_choice(f"candidate in tuning.select.{name}", candidate, methods)
                check_budget(f"tuning.select.{name}", selection, methods[name].parts)


def check_grid_of(method: Method, grid: Mapping[str, Any]) -> None:
    """Checks that a grid holds values that a method's unlearners take.

    Raises:
      InvalidInputError: it does not.
    """
    where = f"tuning.grids, for {method.name}"
    check_grid(where, grid, method.order)
    check_values(where, grid, method)


def check_values(where: str, grid: Mapping[str, Any], method: Method) -> None:
    """Checks that all values of a grid, drawn or not, have the types that unlearners want."""
    by_part = grid if is_by_part(grid) else dict.fromkeys(method.order, grid)
    for part, options in by_part.items():
        select = method.options["select"][part]
        factory = accepted(f"{where}.{part}", ALGORITHMS, select, "algorithm")
        for name, values in options.items():
            for value in values[1:] if is_range(values) else values:
                typed(where, factory, {name: value}, without=("model", "num_classes"))


def check_study(run: Run) -> None:
    """Checks that a study has what its page is made of, and compares methods that there are.

    Raises:
      InvalidInputError: an option is missing, several cases where there must be one, or a method
        that no case has.
    """
    study = run.config.study
    if study is None:
        return
    needs = STUDY_NEEDS[study.kind]
    for name in needs:
        if study.options.get(name) is None:
            raise InvalidInputError(f"study: one of kind {study.kind} needs {name!r}")
    if needs and len(run.cases) != 1:
        raise InvalidInputError(
            f"study: one of kind {study.kind} has a single case, and there are {len(run.cases)}"
        )
    methods = dict.fromkeys(method.name for method in run.methods)
    for option, names in study.options.items():
        for name in names_in(names) if option != "size" else ():
            check_choice(f"method in study.{option}", name, methods)
        if option == "pairs":
            for name in names:
                check_choice("method in study.pairs", name, methods)


def names_in(names: object) -> list[str]:
    """Returns the names of methods in an option of a study, the values of its dictionaries."""
    if isinstance(names, Mapping):
        return [name for inner in names.values() for name in names_in(inner)]
    return [str(names)]


def check_searched(run: Run, only: Sequence[str]) -> None:
    """Checks that there is something to tune, and that the methods that alone are wanted are.

    Raises:
      InvalidInputError: there is no section `tuning`, or nothing to search for a method.
    """
    if run.config.tuning is None:
        raise InvalidInputError("the configuration has no section tuning")
    cases = [case for case in run.cases if case.after is None]
    searched = {name: None for case in cases for name in searched_methods(case, run.config)}
    for name in only:
        check_choice("method to tune", name, searched)
