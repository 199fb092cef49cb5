"""The methods that a batch chooses from: rumjax's own or the user's, within the budget."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rumjax.errors import InvalidInputError
from rumjax.lab.bank import ModelBank
from rumjax.lab.costs import gradients_of
from rumjax.lab.experiment import Run, unknown_of
from rumjax.lab.forgetting.chooser import Chooser, build
from rumjax.lab.forgetting.shadows import bank_of
from rumjax.lab.informing import LEAST, sound_models
from rumjax.lab.methods import Method, rum, vanilla
from rumjax.lab.options import Options
from rumjax.lab.suiting import check_classes, check_starts
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Scores

OWN_CANDIDATES = 6
LEAST_PARTED = 6
"""Examples of S, below which it is not cut into parts."""


def candidates(chooser: Chooser, *, remembered: bool = False) -> list[Method]:
    """Returns the methods that a batch chooses from, which its budget allows for together.

    Args:
      chooser: of the batch.
      remembered: whether S is known to be remembered, so that larger steps are tried first.

    Raises:
      InvalidInputError: it allows for none, or not for those that the configuration names.
    """
    # Those of the configuration are taken as they are.
    section, left = chooser.section, chooser.budget - chooser.matched_examples
    written = section.candidates
    if written is not None:
        methods = [build(chooser.run, name, options) for name, options in written.items()]
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
        for name, form in own_candidates(chooser, epochs, remembered=remembered).items():
            method = build(chooser.run, name, form)
            rest -= cost(chooser, method)
            if rest < 0:
                break
            methods.append(method)
        if len(methods) == OWN_CANDIDATES or (methods and epochs == 1):
            return methods
    raise InvalidInputError(
        f"forgetting.budget: {section.budget} of retraining's {chooser.run.recipe.epochs} epochs "
        "does not allow for an epoch of any algorithm and the scores that it needs; raise it (1 "
        "retrains the model), or name candidates of your own in forgetting.candidates"
    )


def check_budget(chooser: Chooser) -> None:
    """Checks that there are candidates that the budget allows for, before a batch is begun.

    Raises:
      InvalidInputError: see `candidates`.
    """
    if chooser.budget < chooser.retraining:
        candidates(chooser)


def own_candidates(
    chooser: Chooser, epochs: int, *, remembered: bool = False
) -> Mapping[str, Options]:
    """Writes rumjax's own candidates, the most promising first, each of so many epochs in all.

    Rates are a part of the one at which the model was trained: what has converged needs little to
    be moved, and loses accuracy where it is moved too far.
    """
    rate = chooser.run.config.training.get("learning_rate", 0.1)

    def at(part: float) -> float:
        return float(f"{rate * part:.6g}")  # 0.02, and not 0.020000000000000004

    def salun(part: float, epochs: int) -> Options:
        numbers = {"learning_rate": at(part), "mask_fraction": 0.5, "epochs": epochs}
        return {"algorithm": "salun", **numbers}

    def neggrad_plus(part: float, epochs: int) -> Options:
        numbers = {"learning_rate": at(part), "beta": 0.95, "epochs": epochs}
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
    relabeled = {"algorithm": "random_label", "learning_rate": at(0.2), "epochs": epochs}
    steps = {"salun_gently": vanilla(salun(0.1, epochs)), "salun": vanilla(salun(0.2, epochs))}
    first, third = reversed(steps) if remembered else steps
    return {
        first: steps[first],
        **({"rum": refined} if parted else {"random_label": vanilla(relabeled)}),
        third: steps[third],
        "neggrad_plus": vanilla(neggrad_plus(0.2, epochs)),
        "neggrad_plus_gently": vanilla(neggrad_plus(0.1, epochs)),
        "finetune": vanilla({"algorithm": "finetune", "learning_rate": at(0.5), "epochs": epochs}),
    }


def check_written(run: Run, work: WorkDirectory) -> None:
    """Checks that candidates of the configuration suit the network, and can be told all they must.

    Raises:
      InvalidInputError: they refuse the network, or learn from retrained models or from a bank that
        is not there.
    """
    section = run.config.forgetting
    if section.candidates is None or section.budget >= 1:
        return
    tried: set[Any] = set()
    for name, options in section.candidates.items():
        method, where = build(run, name, options), f"forgetting.candidates.{name}"
        facts = unknown_of(method)
        check_starts(where, method.select, run, tried)
        if "oracle_logits" in facts:
            raise InvalidInputError(
                f"{where}: it learns from models that are retrained without the examples, and one "
                "of those could be delivered itself; set forgetting.budget to 1, which retrains, "
                "or name another algorithm"
            )
        if "datamodel_margins" in facts:
            bank = bank_of(run, work)
            if not isinstance(bank, ModelBank):
                raise InvalidInputError(
                    f"{where}: it learns from a datamodel of a bank, and {bank} in {work.path}; "
                    "have a run there that needs one, by memorization or an audit for instance, or "
                    "name another algorithm"
                )
            count = len(sound_models(bank, run.config.bank.models))
            if count < LEAST:
                raise InvalidInputError(
                    f"{where}: a datamodel needs {LEAST} models of a bank that did not diverge, "
                    f"there are {count} in {work.path}; train more, or name another algorithm"
                )


def cost(chooser: Chooser, method: Method) -> int:
    """Counts the gradients of a candidate.

    Raises:
      InvalidInputError: it has an unlearner of one's own, whose gradients nobody can count, or does
        not suit the classes of S and V.
    """
    # The sizes of the steps do not depend on the scores that a method refines by.
    zeros = Scores(np.zeros(chooser.deletion.size, np.float32))
    steps = chooser.steps_by(method, {method.refine: zeros})
    check_classes(f"forgetting.candidates.{method.name}", steps, chooser.run.data)
    gradients = gradients_of(steps, chooser.data)
    if gradients is None:
        raise InvalidInputError(
            f"forgetting.candidates.{method.name}: the gradients of an unlearner of your own are "
            "not known, so that no budget can be kept"
        )
    return gradients
