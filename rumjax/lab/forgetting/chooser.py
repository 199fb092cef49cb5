"""What all candidates of a batch share: its data, its budget, and what judges them."""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np

from rumjax.lab import files
from rumjax.lab.answers import Answers, read_answers
from rumjax.lab.building import build_method, refinement
from rumjax.lab.context import Context, stage_key, with_validation
from rumjax.lab.costs import retraining_gradients
from rumjax.lab.difficulty import Matching, match
from rumjax.lab.experiment import Run, unknown_of
from rumjax.lab.forgetting.deletion import Deletion
from rumjax.lab.forgetting.shadows import Shadows, shadows_of
from rumjax.lab.informing import Informant
from rumjax.lab.methods import Method
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
REMEMBERED = 0.1
"""The p-value below which a model is taken to remember S."""


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
        self.data, self.unseen = with_validation(self.run.data)
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

    @functools.cached_property
    def informant(self) -> Informant:
        """Finds out what unlearners are told of V and of the bank."""
        return Informant(self.looking, len(self.data.labels))

    def steps(self, method: Method) -> tuple[Step, ...]:
        """Returns the steps of a method on the batch, whose unlearners know what they must."""
        scored = method.refine in ("rescored", "memorization")
        steps = self.steps_by(method, self.scores if scored else {})
        return self.informant.informed(steps, self.start, files.BROUGHT)

    def steps_by(self, method: Method, scores: Mapping[str, Scores]) -> tuple[Step, ...]:
        """Returns the steps of a method on the batch, refined by these scores."""
        deletion, seed = self.deletion, self.run.config.seed
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
        return read_answers(self.run.model, variables, self.data)

    @functools.cached_property
    def before(self) -> Answers:
        """The answers of the model that is to forget."""
        return self.answers(self.start)

    @functools.cached_property
    def shadows(self) -> Shadows | str:
        """The models of a bank, or why there are none."""
        if learns_from_bank(self.run):
            return "a candidate learns from what the bank predicts, which would judge itself"
        return shadows_of(self.context)

    @functools.cached_property
    def remembers(self) -> bool:
        """Whether the model that is to forget fits S better than V of like difficulty.

        Where it does not, there is little to be unlearned, and much to be lost.
        """
        margins = np.asarray(self.before.margins)
        test = self.matching.test(margins[self.deletion.forget], margins[self.unseen])
        return test.p_value < REMEMBERED

    def judge(self, answers: Answers) -> tuple[bool, float]:
        """Says whether a candidate is as accurate as it must be, and scores it by its answers."""
        # How much accuracy it lost, on V and on R.
        section, retain, before = self.section, self.deletion.retain, self.before
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


def build(run: Run, name: str, options: Options) -> Method:
    """Builds a candidate from what a configuration writes."""
    config = run.config
    return build_method(
        name,
        options,
        config.unlearner_defaults,
        run.model,
        run.data.num_classes,
        config.own_scores,
        section="forgetting.candidates",
    )


def learns_from_bank(run: Run) -> bool:
    """Says whether a candidate of the configuration is told what models of the bank predict."""
    section = run.config.forgetting
    written = {} if section.candidates is None or section.budget >= 1 else section.candidates
    return any(
        "datamodel_margins" in unknown_of(build(run, name, options))
        for name, options in written.items()
    )
