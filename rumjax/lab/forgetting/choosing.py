"""How a batch is unlearned: candidates within a budget, judged without a retrained model.

What is trained to choose counts as much as what is chosen: the budget is that of all candidates
together, of the scores that refine S, and of the model that tells how hard examples are. It is
counted in gradients of single examples, as a share of those that retraining takes.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.lab import files, progress
from rumjax.lab.answers import Answers, reader
from rumjax.lab.building import build_method, refinement
from rumjax.lab.context import Context, placed, stage_key
from rumjax.lab.costs import gradients_of, retraining_gradients
from rumjax.lab.difficulty import Matching, match
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.shadows import Shadows, shadows_of
from rumjax.lab.making import Job
from rumjax.lab.making import make as make_models
from rumjax.lab.methods import Method, rum, vanilla
from rumjax.lab.options import Options
from rumjax.lab.rescoring import holdout_scores
from rumjax.lab.trials import told_apart
from rumjax.lab.workdir import WorkDirectory
from rumjax.refine import rum as rum_steps
from rumjax.types import Scores, Variables, task
from rumjax.unlearn import Step, chain

RETRAIN = "retrain"
"""The candidate that is trained anew without what is to be forgotten."""
MATCHED_SHARE = 1 / 3
"""The share of the budget, at most, that is spent on telling how hard examples are."""
DIGITS = 9
"""Decimals of a difference of accuracies, so that a hundredth is one."""
OWN_CANDIDATES = 6
LEAST_PARTED = 6
"""Examples of S, below which it is not cut into parts."""


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


class Chooser:
    """The objects that all candidates of a batch share."""

    def __init__(
        self, context: Context, place: WorkDirectory, deletion: Deletion, start: Variables
    ) -> None:
        """Puts D, T and V on the device.

        Args:
          context: the run's.
          place: the directory of requests.
          deletion: the batch.
          start: the model that is to forget.
        """
        self.context, self.place, self.deletion, self.start = context, place, deletion, start
        self.run, self.section = context.run, context.run.config.forgetting
        parts = self.run.data
        self.data = placed(parts.train, parts.test, parts.validation)
        first = len(parts.train.labels) + len(parts.test.labels)
        self.unseen = np.arange(first, len(self.data.labels))
        self.retraining = retraining_gradients(self.run.recipe, len(deletion.retain))
        self.budget = int(self.section.budget * self.retraining)

    def key(self, name: str) -> jax.Array:
        """Returns the key of something that is trained for the batch."""
        return stage_key(self.run.config.seed, f"forget/{self.deletion.number}/{name}")

    @property
    def looking(self) -> Context:
        """The context with D, T and V as its data, which models are then compiled for once."""
        return dataclasses.replace(self.context, placed=lambda: self.data)

    @property
    def matched_examples(self) -> int:
        """The number of examples of R that tell how hard others are."""
        return min(len(self.deletion.retain), int(self.budget * MATCHED_SHARE))

    @functools.cached_property
    def matching(self) -> Matching:
        """Which examples of V are as hard as which of S."""
        return match(
            self.run,
            self.key("difficulty"),
            self.data,
            self.deletion.forget_set,
            self.unseen,
            examples=self.matched_examples,
            bins=self.section.bins,
        )

    @functools.cached_property
    def memorization(self) -> Scores | None:
        """Memorization of D, where a bank has estimated it; else None."""
        work = self.context.work
        recorded = work.read_json(files.STAGE_RECORD, missing={}).get("scores", {})
        if recorded.get("data", {}).get("sha256") != self.run.fingerprint:
            return None
        values = work.read_arrays(files.SCORES) if work.has(files.SCORES) else {}
        return Scores(values["memorization"]) if "memorization" in values else None

    @property
    def refined_by(self) -> str:
        """The score that S is cut into parts by: memorization, or a proxy that needs no bank."""
        return "rescored" if self.memorization is None else "memorization"

    @functools.cached_property
    def scores(self) -> dict[str, Scores]:
        """The score that S is cut into parts by, of every example of D."""
        if self.memorization is not None:
            return {"memorization": self.memorization}
        # Hold-out retraining of the model that is to forget.
        return {"rescored": holdout_scores(self.context, self.start, self.run.config.seed)}

    def steps(self, method: Method) -> tuple[Step, ...]:
        """Returns the steps of a method on the batch."""
        deletion, seed = self.deletion, self.run.config.seed
        scores = self.scores if method.refine in ("rescored", "memorization") else {}
        return rum_steps(
            deletion.forget,
            deletion.retain,
            refine=refinement(method, scores, self.context.labels, seed),
            select=method.select,
            order=method.order,
        )

    def retraining_steps(self) -> tuple[Step, ...]:
        """Returns the training of a model from scratch on R."""
        deletion = self.deletion
        without = task(deletion.forget, deletion.size, already_forgotten=deletion.earlier)
        return chain(without, self.run.recipe)

    def answers(self, variables: Variables) -> Answers:
        """Returns a model's answers on D, T and V, on the host."""
        answers = jax.jit(reader(self.run.model))(variables, self.data)
        return Answers(*map(np.asarray, answers))

    @functools.cached_property
    def shadows(self) -> Shadows | str:
        """The models of a bank, or why there are none."""
        return shadows_of(self.context)

    def judge(self, answers: Answers, before: Answers) -> tuple[bool, float]:
        """Says whether a candidate is as accurate as it must be, and scores it.

        Args:
          answers: of the candidate.
          before: of the model that is to forget.
        """
        # How much accuracy it lost, on V and on R.
        section, retain = self.section, self.deletion.retain
        losses = [
            round(float(before.correct[indices].mean() - answers.correct[indices].mean()), DIGITS)
            for indices in (self.unseen, retain)
        ]
        kept = losses[0] <= section.validation_drop and losses[1] <= section.retained_drop

        # How well S is told from images never seen: by a bank, or else from V of like difficulty.
        margins = np.asarray(answers.margins)
        if isinstance(self.shadows, str):
            forget, unseen = margins[self.deletion.forget], margins[self.unseen]
            auc = told_apart(forget, unseen, self.matching)
        else:
            mended = self.shadows.mended(margins)
            auc = 1 - float(np.nanmean(self.shadows.p_values(mended, self.deletion.forget)))
        return kept, (1 - abs(losses[0])) * (1 - 2 * abs(auc - 0.5))


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
        methods = candidates(chooser)
        plan = {method.name: (method.options, chooser.steps(method)) for method in methods}
        spent = chooser.matched_examples
        if any(method.refine == "rescored" for method in methods):
            spent += len(chooser.unseen)

    # Each candidate is made, judged and kept, as far as the budget goes.
    before = chooser.answers(chooser.start)
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
                kept = attempt(chooser, name, steps, before, advance)
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
    before: Answers,
    advance: progress.Advance,
) -> dict[str, Any]:
    """Makes a candidate, saves it, and says how good it is; None stands for one that diverged."""
    start = None if name == RETRAIN else chooser.start
    job = Job(chooser.run.config.seed, chooser.key(name), steps, start, which=name)
    made = next(make_models(chooser.looking, [job], advance, name, diverging="noted"))
    answers = None if made.diverged else chooser.answers(made.model)
    kept, score = False, None
    if answers is not None and np.isfinite(answers.margins).all():
        kept, score = chooser.judge(answers, before)
        chooser.place.save_model(files.candidate(chooser.deletion.number, name), made.model)
    loss = made.curve[-1]["loss"] if made.curve else None
    return {"score": score, "kept": kept, "loss": loss, **made.times}


def candidates(chooser: Chooser) -> list[Method]:
    """Returns the methods that a batch chooses from, which its budget allows for together.

    Raises:
      InvalidInputError: it allows for none, or not for those that the configuration names.
    """
    # Those of the configuration are taken as they are.
    section, left = chooser.section, chooser.budget - chooser.matched_examples
    written = section.candidates
    if written is not None:
        methods = [build(chooser, name, options) for name, options in written.items()]
        costs = {method.name: cost(chooser, method) for method in methods}
        if sum(costs.values()) > left:
            listed = ", ".join(
                f"{name} {value / chooser.retraining:.3f}" for name, value in costs.items()
            )
            raise InvalidInputError(
                f"forgetting.candidates: they take {listed} of retraining, and the model that "
                f"tells how hard examples are {chooser.matched_examples / chooser.retraining:.3f}; "
                f"together more than forgetting.budget, {section.budget}; name fewer, of fewer "
                "epochs, or raise it"
            )
        return methods

    # Those of rumjax get an epoch each, or more where the budget has room for all of them.
    left -= len(chooser.unseen)
    most = 1 + left // max(1, len(chooser.deletion.retain))
    for epochs in range(most, 0, -1):
        methods, rest = [], left
        for name, form in own_candidates(chooser, epochs).items():
            method = build(chooser, name, form)
            rest -= cost(chooser, method)
            if rest < 0:
                break
            methods.append(method)
        if len(methods) == OWN_CANDIDATES or (methods and epochs == 1):
            return methods
    raise InvalidInputError(
        f"forgetting.budget: {section.budget} of retraining's {chooser.run.recipe.epochs} epochs "
        "does not allow for an epoch of any algorithm and the scores that it needs; raise it, or "
        "name candidates of your own in forgetting.candidates"
    )


def check_budget(chooser: Chooser) -> None:
    """Checks that there are candidates that the budget allows for, before a batch is begun.

    Raises:
      InvalidInputError: see `candidates`.
    """
    if chooser.budget < chooser.retraining:
        candidates(chooser)


def own_candidates(chooser: Chooser, epochs: int) -> Mapping[str, Options]:
    """Writes rumjax's own candidates, the most promising first, each of so many epochs in all.

    Rates are a part of the one at which the model was trained: what has converged needs little to
    be moved, and loses accuracy where it is moved too far.
    """
    rate = chooser.run.config.training.get("learning_rate", 0.1)

    def salun(part: float, epochs: int) -> Options:
        numbers = {"learning_rate": rate * part, "mask_fraction": 0.5, "epochs": epochs}
        return {"algorithm": "salun", **numbers}

    def neggrad_plus(part: float, epochs: int) -> Options:
        numbers = {"learning_rate": rate * part, "beta": 0.95, "epochs": epochs}
        return {"algorithm": "neggrad_plus", **numbers}

    # What is hardly memorized needs nothing; the rest shares the epochs.
    early = epochs // 2
    nothing: Options = {"algorithm": "original"}
    select = {
        "low": nothing,
        "medium": salun(0.1, early) if early else nothing,
        "high": salun(0.2, epochs - early),
    }
    refined = rum(select, refine=chooser.refined_by)
    parted = len(chooser.deletion.forget) >= LEAST_PARTED
    relabeled = {"algorithm": "random_label", "learning_rate": rate * 0.2, "epochs": epochs}
    return {
        "salun_gently": vanilla(salun(0.1, epochs)),
        **({"rum": refined} if parted else {"random_label": vanilla(relabeled)}),
        "salun": vanilla(salun(0.2, epochs)),
        "neggrad_plus": vanilla(neggrad_plus(0.2, epochs)),
        "neggrad_plus_gently": vanilla(neggrad_plus(0.1, epochs)),
        "finetune": vanilla({"algorithm": "finetune", "learning_rate": rate / 2, "epochs": epochs}),
    }


def build(chooser: Chooser, name: str, options: Options) -> Method:
    """Builds a candidate from what a configuration writes."""
    config = chooser.run.config
    return build_method(
        name,
        options,
        config.unlearner_defaults,
        chooser.run.model,
        chooser.run.data.num_classes,
        config.own_scores,
    )


def cost(chooser: Chooser, method: Method) -> int:
    """Counts the gradients of a candidate.

    Raises:
      InvalidInputError: it has an unlearner of one's own, whose gradients nobody can count.
    """
    gradients = gradients_of(_sized(chooser, method), chooser.data)
    if gradients is None:
        raise InvalidInputError(
            f"forgetting.candidates.{method.name}: the gradients of an unlearner of your own are "
            "not known, so that no budget can be kept"
        )
    return gradients


def _sized(chooser: Chooser, method: Method) -> tuple[Step, ...]:
    """Returns steps of the sizes of a method's, without the scores that it refines by."""
    zeros = Scores(np.zeros(chooser.deletion.size, np.float32))
    deletion = chooser.deletion
    return rum_steps(
        deletion.forget,
        deletion.retain,
        refine=refinement(
            method, {method.refine: zeros}, chooser.context.labels, chooser.run.config.seed
        ),
        select=method.select,
        order=method.order,
    )


def retraining_options(chooser: Chooser) -> dict[str, Any]:
    """Returns what retraining is written as: the recipe of the configuration."""
    return {"strategy": RETRAIN, "select": {"all": dict(chooser.run.config.training)}}


def replay(chooser: Chooser, name: str, form: Mapping[str, Any]) -> Variables:
    """Makes the model of a batch once more, by the method and the key that it was made by."""
    start: Variables | None
    if name == RETRAIN:
        steps, start = chooser.retraining_steps(), None
    else:
        steps, start = chooser.steps(build(chooser, name, form)), chooser.start
    job = Job(chooser.run.config.seed, chooser.key(name), steps, start, which=name)
    (made,) = make_models(chooser.looking, [job], lambda _: None, name)
    model: Variables = made.model
    return model
