"""Tells unlearners what they need to know besides D, where nobody has told them yet.

That is of held-out images, of retrained models that judge nobody, or of the bank; see
`rumjax.types.fact`. Nothing is loaded where no unlearner asks.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.lab.answers import read_answers
from rumjax.lab.bank import ModelBank, Row
from rumjax.lab.context import CaseContext, Context, load_teacher
from rumjax.lab.dependencies import bank_header
from rumjax.lab.measuring import look
from rumjax.models import predict
from rumjax.scores import Effect, removal_effect
from rumjax.types import Variables
from rumjax.unlearn import Step
from rumjax.unlearn.facts import accuracy_of, error_of, probabilities_of
from rumjax.unlearn.steps import facts_of, unknown_facts

LEAST = 4
"""Models of a bank, below which there is no datamodel."""
HELD_OUT = ("held_out_accuracy", "held_out_probabilities", "reference_error")
"""The facts that are of V."""

Start = Variables | Callable[[], Variables]


class Informant:
    """Finds facts out, each once."""

    def __init__(self, context: Context, size: int | None = None) -> None:
        """Prepares to find out what the unlearners of a case ask.

        Args:
          context: of a case whose forget set is chosen, and whose teachers and bank are made as far
            as its methods need them; or of requests, which have no teachers.
          size: the number of examples that unlearners are shown, D first; D and T by default.
        """
        self.context = context
        self.size = context.size + len(context.run.data.test.labels) if size is None else size
        self.known: dict[Any, np.ndarray] = {}
        self.teacher_logits = functools.cache(self._teacher_logits)
        self.bank = functools.cache(self._bank)
        self.effect = functools.cache(self._effect)

    def informed(
        self, steps: Sequence[Step], start: Start, who: Hashable, *, of_bank: int | None = None
    ) -> tuple[Step, ...]:
        """Returns steps whose unlearners know all that can be found out for them.

        Facts are of the model that the steps start from, also those of later steps. A datamodel
        predicts for a step what the removal of all does that is forgotten until then.

        Args:
          steps: a method's.
          start: the model that they start from, or a function that loads it.
          who: that model's name, which no other has.
          of_bank: its number, if it is a model of the bank, whose datamodel is then of the others.
        """
        informed, gone = [], np.empty(0, np.int32)
        for step in steps:
            forget = np.asarray(step.task.forget.indices)[: int(step.task.forget.size)]
            gone = np.union1d(gone, forget).astype(np.int32)
            told = {}
            for name in unknown_facts(step.unlearner):
                if name in FACTS:
                    key = name, who, forget.tobytes(), gone.tobytes()
                    if key not in self.known:
                        variables = start() if callable(start) else start
                        self.known[key] = FACTS[name](self, variables, forget, gone, of_bank)
                    told[name] = self.known[key]
            unlearner: Any = step.unlearner
            if told:
                unlearner = dataclasses.replace(unlearner, **told)
            informed.append(step._replace(unlearner=unlearner))
        return tuple(informed)

    # Of held-out images

    def accuracy(self, start: Variables, *_: Any) -> np.ndarray:
        """Returns the model's accuracy on V."""
        held = self.context.run.data.validation
        return np.asarray(accuracy_of(self._held_out_logits(start), held.labels))

    def probabilities(self, start: Variables, *_: Any) -> np.ndarray:
        """Returns its mean probabilities on each class of V."""
        parts = self.context.run.data
        logits = self._held_out_logits(start)
        return np.asarray(probabilities_of(logits, parts.validation.labels, parts.class_names))

    def error(self, start: Variables, forget: np.ndarray, *_: Any) -> np.ndarray:
        """Returns its error on V, weighted as the classes of the step's forget set are."""
        parts, labels = self.context.run.data, self.context.labels[forget]
        logits = self._held_out_logits(start)
        return np.asarray(error_of(logits, parts.validation.labels, labels, parts.class_names))

    def _held_out_logits(self, start: Variables) -> np.ndarray:
        """Returns a model's logits on V."""
        images = self.context.run.data.validation.images
        return np.asarray(predict(self.context.run.model, start, images).logits)

    # Of retrained models

    def oracle_logits(self, *_: Any) -> np.ndarray:
        """Returns the mean logits of models retrained without S, none of which judges."""
        return self.teacher_logits()

    def _teacher_logits(self) -> np.ndarray:
        context = self.context
        assert isinstance(context, CaseContext)
        count = context.run.config.bank.matching_oracles
        logits = [look(context, load_teacher(context, number)).logits for number in range(count)]
        return self._of_data(np.mean(logits, axis=0)[: context.size])

    # Of the bank

    def datamodel_margins(
        self, start: Variables, forget: np.ndarray, gone: np.ndarray, of_bank: int | None
    ) -> np.ndarray:
        """Returns the model's margins on D, with the predicted effect of removing what is gone."""
        del forget
        before = read_answers(self.context.run.model, start, self.context.data).margins
        effect = self.effect(tuple(gone.tolist()), of_bank)
        return self._of_data(np.asarray(before)[: self.context.size] + effect)

    def _effect(self, removed: tuple[int, ...], of_bank: int | None) -> np.ndarray:
        """Returns the predicted effect of a removal on the margins on D, float32[N].

        It is not predicted by a model that it is told about.
        """
        bank, gone = self.bank(), np.array(removed, np.int32)
        others = np.flatnonzero(np.array(self._models()) != of_bank)
        member, outputs = bank.member[others], bank.margins[others]

        # What is gone has a penalty of its own: there, an effect is to be expected.
        values = np.zeros(self.context.size, np.float32)
        kept = np.setdiff1d(np.arange(self.context.size), gone)
        for part in (gone, kept):
            effect = removal_effect(member, outputs[:, part], gone, features=gone, own=part)
            values[part] = effect.values
            if part is gone and of_bank is None:
                self._say(effect, gone, len(others))
        return values

    def _say(self, effect: Effect, gone: np.ndarray, models: int) -> None:
        """Says what a datamodel predicts, and how well."""
        change, error, residual, unshrunken = (
            float(values.mean())
            for values in (
                effect.values,
                effect.standard_error,
                effect.residual,
                effect.unshrunken,
            )
        )
        self.context.console.print(
            f"Datamodel of {models} models: without {len(gone)} examples, their margins change by "
            f"{change:.2f} on average, with standard errors of {error:.2f} ({unshrunken:.2f} "
            f"without its penalty); it predicts models left out with an error of {residual:.2f}.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def _bank(self) -> Row:
        """Returns the rows of the bank, of D alone."""
        models = ModelBank(self.context.work, bank_header(self.context.run))
        rows = models.stack(self._models())
        return rows._replace(margins=rows.margins[:, : self.context.size])

    def _models(self) -> list[int]:
        """Returns the numbers of the bank's models that did not diverge."""
        bank = ModelBank(self.context.work, bank_header(self.context.run))
        sound = sound_models(bank, self.context.run.config.bank.models)
        if len(sound) < LEAST:
            raise InvalidInputError(
                f"bank.models: a datamodel needs {LEAST} that did not diverge, there are "
                f"{len(sound)}"
            )
        return sound

    # Their form

    def _of_data(self, values: np.ndarray) -> np.ndarray:
        """Returns values of D, followed by zeros for the other examples that unlearners see."""
        more = [(0, self.size - len(values))] + [(0, 0)] * (values.ndim - 1)
        return np.pad(values, more)


FACTS: dict[str, Callable[..., np.ndarray]] = {
    "held_out_accuracy": Informant.accuracy,
    "held_out_probabilities": Informant.probabilities,
    "reference_error": Informant.error,
    "oracle_logits": Informant.oracle_logits,
    "datamodel_margins": Informant.datamodel_margins,
}
"""What finds out a fact, by the name of its field."""


def sound_models(bank: ModelBank, most: int) -> list[int]:
    """Returns the numbers of a bank's models, below `most`, that are there and did not diverge."""
    diverged = bank.diverged()
    return [model for model in bank.done() if model < most and model not in diverged]


def blank(steps: Sequence[Step], size: int, classes: int) -> tuple[Step, ...]:
    """Returns steps whose unlearners know zeros in place of all that they do not know yet.

    Args:
      steps: a method's.
      size: the number of examples that unlearners are shown.
      classes: K.
    """
    sizes, told = {"N": size, "K": classes}, []
    for step in steps:
        unlearner: Any = step.unlearner
        zeros = {
            name: np.zeros(
                [sizes[axis] for axis in facts_of(unlearner)[name].metadata["fact"]], np.float32
            )
            for name in unknown_facts(unlearner)
        }
        if zeros:
            unlearner = dataclasses.replace(unlearner, **zeros)
        told.append(step._replace(unlearner=unlearner))
    return tuple(told)
