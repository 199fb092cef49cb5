"""How a batch is unlearned: candidates within a budget, judged without a retrained model.

What is trained to choose counts as much as what is chosen: the budget is that of all candidates
together, of the scores that refine S, and of the model that tells how hard examples are. It is
counted in gradients of single examples, as a share of those that retraining takes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.lab import files, progress
from rumjax.lab.costs import gradients_of
from rumjax.lab.forgetting.candidates import candidates
from rumjax.lab.forgetting.chooser import RETRAIN, Chooser, build
from rumjax.lab.making import Job
from rumjax.lab.making import make as make_models
from rumjax.types import Variables
from rumjax.unlearn import Step


class Choice(NamedTuple):
    """What a batch is unlearned by, and what choosing it took."""

    name: str
    form: Any
    """the JSON-like form of the method"""
    steps: tuple[dict[str, Any], ...]
    """what each step was, with all its numbers"""
    gradients: int
    """of single examples, that the method takes"""
    spent: int
    """gradients that everything took that was trained to choose"""
    retraining: int
    """gradients that retraining takes"""
    seconds: float
    """of all candidates"""
    tried: tuple[dict[str, Any], ...]
    """every candidate with its score"""

    def after(self, refused: "Choice") -> "Choice":
        """Returns the choice with what another one took that was refused before."""
        return self._replace(
            spent=self.spent + refused.spent,
            seconds=self.seconds + refused.seconds,
            tried=(*refused.tried, *self.tried),
        )


def choose(chooser: Chooser, *, retrain: bool = False) -> Choice:
    """Makes the candidates of a batch, which are saved, and returns the best.

    Candidates that were made before the program was stopped are not made again.

    Args:
      chooser: of the batch.
      retrain: whether the model is trained anew, whatever the budget.

    Raises:
      InvalidInputError: the budget does not allow for any candidate, or all of them diverged.
    """
    # Where the budget allows for it, retraining is the answer, and there is nothing to choose.
    place, number = chooser.place, chooser.deletion.number
    if retrain or chooser.budget >= chooser.retraining:
        plan: dict[str, tuple[Any, tuple[Step, ...]]] = {
            RETRAIN: (retraining_options(chooser), chooser.retraining_steps())
        }
        spent = 0  # what tells how hard examples are is for the evidence alone
    else:
        own = chooser.section.candidates is None
        methods = candidates(chooser, remembered=own and chooser.remembers)
        plan = {method.name: (method.options, chooser.steps(method)) for method in methods}
        spent = chooser.matched_examples
        if any(method.refine == "rescored" for method in methods):
            spent += len(chooser.unseen)

    # Each candidate is made, judged and kept, as far as the budget goes.
    total = sum(step.unlearner.epochs for _, steps in plan.values() for step in steps)
    tried = []
    with progress.stage(chooser.context.console, "Unlearning", total, "epochs") as advance:
        for name, (options, steps) in plan.items():
            gradients = gradients_of(steps, chooser.data)
            name_of_file = files.of_batch(number, f"candidate_{name}.json")
            kept = place.read_json(name_of_file)
            if kept is None or not (
                kept["score"] is None or place.has_model(files.candidate(number, name))
            ):
                kept = attempt(chooser, name, steps, advance)
                kept |= {"name": name, "options": options, "gradients": gradients}
                place.write_json(name_of_file, kept)
            spent += gradients or 0
            tried.append(kept)

    # The best of them that did not diverge.
    sound = [one for one in tried if one["score"] is not None]
    if not sound:
        raise InvalidInputError(
            f"forgetting: all {len(tried)} candidates diverged; name others, at lower rates, in "
            "forgetting.candidates"
        )
    best = max(sound, key=lambda one: (one["kept"], one["score"]))
    return Choice(
        name=best["name"],
        form=best["options"],
        steps=described(best["options"], plan[best["name"]][1]),
        gradients=best["gradients"],
        spent=spent,
        retraining=chooser.retraining,
        seconds=sum(one["seconds"] for one in tried),
        tried=tuple(tried),
    )


def described(form: Mapping[str, Any], steps: tuple[Step, ...]) -> tuple[dict[str, Any], ...]:
    """Returns what a certificate says of the steps of a method."""
    listed = []
    for step in steps:
        part = step.name if step.name in form["select"] else "all"
        options = numbers_of(step.unlearner) | dict(form["select"][part])
        algorithm = options.pop("algorithm", RETRAIN)
        size = int(step.task.forget.size)
        listed.append({"name": part, "algorithm": algorithm, "options": options, "examples": size})
    return tuple(listed)


def numbers_of(unlearner: Any) -> dict[str, Any]:
    """Returns all options of an unlearner that are numbers or words, its defaults among them."""
    options = {}
    if dataclasses.is_dataclass(unlearner):
        for field in dataclasses.fields(unlearner):
            value = getattr(unlearner, field.name)
            if isinstance(value, bool | int | float | str):
                options[field.name] = value
            elif isinstance(value, jax.Array | np.ndarray) and value.ndim == 0:
                options[field.name] = float(f"{float(value):.7g}")
    return options


def attempt(
    chooser: Chooser,
    name: str,
    steps: tuple[Step, ...],
    advance: progress.Advance,
) -> dict[str, Any]:
    """Makes a candidate, saves it, and says how good it is; None stands for one that diverged."""
    start = None if name == RETRAIN else chooser.start
    job = Job(chooser.run.config.seed, chooser.key(name), steps, start, which=name)
    made = next(make_models(chooser.looking, [job], advance, name, diverging="noted"))
    answers = None if made.diverged else chooser.answers(made.model)
    kept, score = False, None
    if answers is not None and np.isfinite(answers.margins).all():
        kept, score = chooser.judge(answers)
        chooser.place.save_model(files.candidate(chooser.deletion.number, name), made.model)
    loss = made.curve[-1]["loss"] if made.curve else None
    return {"score": score, "kept": kept, "loss": loss, **made.times}


def retraining_options(chooser: Chooser) -> dict[str, Any]:
    """Returns what retraining is written as: the recipe of the configuration."""
    return {"strategy": RETRAIN, "select": {"all": dict(chooser.run.config.training)}}


def replay(chooser: Chooser, name: str, form: Mapping[str, Any]) -> Variables:
    """Makes the model of a batch once more, by the method and the key that it was made by."""
    start: Variables | None
    if name == RETRAIN:
        steps, start = chooser.retraining_steps(), None
    else:
        steps, start = chooser.steps(build(chooser.run, name, form)), chooser.start
    job = Job(chooser.run.config.seed, chooser.key(name), steps, start, which=name)
    (made,) = make_models(chooser.looking, [job], lambda _: None, name)
    model: Variables = made.model
    return model
