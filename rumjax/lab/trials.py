"""Tries settings of methods on seeds of their own, and judges them by a criterion."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from rumjax import ensemble, metrics
from rumjax.audits import FORGOTTEN, OUT, Population, balanced_accuracy, unlearning_lira
from rumjax.audits.games import weighted_auc
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.lab import files, progress
from rumjax.lab.answers import Answers, read_answers, reader
from rumjax.lab.context import CaseContext, load_oracle, load_original, stage_key, with_validation
from rumjax.lab.difficulty import Matching, match
from rumjax.lab.grids import fingerprint
from rumjax.lab.informing import Informant
from rumjax.lab.making import Job, steps_of
from rumjax.lab.methods import Method
from rumjax.lab.rescoring import scores_for
from rumjax.lab.sections import LEAST_AUDITED, Tuning
from rumjax.types import Scores, Variables

HELD_BYTES = 2**30
"""Bytes of models, with what their unlearning keeps, of all those that a device makes in turn."""

Sets = Mapping[str, np.ndarray]
"""Indices into what a model is asked about: "forget", "retain", "test" and maybe "validation"."""


JudgeOne: TypeAlias = Callable[[Answers, Answers, Sets, Matching | None], float]
"""Scores a model's answers beside those of a reference."""
Judge: TypeAlias = Callable[
    [Sequence[Answers], Sequence[Answers], Sets, Matching | None], list[float]
]


class Criterion(NamedTuple):
    """A criterion that settings are judged by."""

    judge: Judge
    """Scores the answers of models beside those of references, one for each seed, 0…1, higher is
    better."""
    reference: Callable[[CaseContext, int], Variables]
    """Loads the reference of a seed."""


def one_by_one(judge: JudgeOne) -> Judge:
    """Returns what judges each seed by itself."""

    def judge_all(
        models: Sequence[Answers],
        references: Sequence[Answers],
        sets: Sets,
        matching: Matching | None,
    ) -> list[float]:
        pairs = zip(models, references, strict=True)
        return [judge(model, reference, sets, matching) for model, reference in pairs]

    return judge_all


def against_oracle(model: Answers, oracle: Answers, sets: Sets, matching: Matching | None) -> float:
    """Computes ToW against the oracle of the same seed: the paper's way, for which one retrains."""
    return metrics.tug_of_war(accuracies(model, sets), accuracies(oracle, sets))


def accuracies(answers: Answers, sets: Sets) -> metrics.Accuracies:
    """Returns the accuracies on S, R and T."""
    forget, retain, test = (
        float(answers.correct[sets[name]].mean()) for name in ("forget", "retain", "test")
    )
    return metrics.Accuracies(forget, retain, test)


def by_attack(
    models: Sequence[Answers],
    oracles: Sequence[Answers],
    sets: Sets,
    matching: Matching | None,
) -> list[float]:
    """Computes (1 − max(0, 2A − 1))·(1 − |Δa_R|)·(1 − |Δa_T|), the same for all seeds.

    A is the accuracy of U-LiRA (Hayes et al., arXiv 2403.01218) in telling, example by example of
    S, models that forgot it from oracles; Δa are differences between mean accuracies.

    Returns:
      The score once for each model; 0 where there are too few to attack.
    """
    if len(models) < LEAST_AUDITED // 2:
        return [0.0] * len(models)
    margins = np.stack([np.asarray(one.margins)[sets["forget"]] for one in (*models, *oracles)])
    worlds = np.repeat([FORGOTTEN, OUT], [len(models), len(oracles)]).astype(np.int8)
    population = Population(margins, np.broadcast_to(worlds[:, None], margins.shape))
    score = 1 - max(0.0, 2 * balanced_accuracy(unlearning_lira(population)) - 1)
    for name in ("retain", "test"):
        ours, theirs = (
            np.mean([np.asarray(one.correct)[sets[name]].mean() for one in those])
            for those in (models, oracles)
        )
        score *= 1 - abs(float(ours) - float(theirs))
    return [score] * len(models)


def on_validation(
    model: Answers, original: Answers, sets: Sets, matching: Matching | None
) -> float:
    """Computes (1 − |a_V − a_V(θo)|)·(1 − 2·|AUC − ½|), for which no model is retrained.

    AUC is that of telling S from V of like difficulty, see `told_apart`. At ½ the examples of S
    look as if never seen.
    """
    unseen = sets["validation"]
    drop = abs(float(model.correct[unseen].mean()) - float(original.correct[unseen].mean()))
    margins = np.asarray(model.margins)
    auc = told_apart(margins[sets["forget"]], margins[unseen], matching)
    return float((1 - drop) * (1 - 2 * abs(auc - 0.5)))


def told_apart(forget: np.ndarray, unseen: np.ndarray, matching: Matching | None) -> float:
    """Returns the probability that an example of S has a larger margin than one of V.

    Where it is known how hard they are, what is compared is the margin less what one expects of
    such an example, and the examples of V weigh as those of S do, stratum by stratum.
    """
    weights = np.full(len(unseen), 1 / len(unseen))
    if matching is not None:
        forget, unseen = matching.residuals(forget, unseen)
        weights = matching.weights
    positive = np.arange(len(forget) + len(unseen)) < len(forget)
    every = np.concatenate([np.full(len(forget), 1 / len(forget)), weights])
    return weighted_auc(np.concatenate([forget, unseen]), positive, every)


CRITERIA = {
    "oracle": Criterion(one_by_one(against_oracle), load_oracle),
    "ulira": Criterion(by_attack, load_oracle),
    "validation": Criterion(one_by_one(on_validation), load_original),
}
"""The criteria that a section `tuning` may name."""


class Trials:
    """Tries methods on the tuning seeds."""

    def __init__(
        self,
        context: CaseContext,
        tuning: Tuning,
        scores: Mapping[str, Scores],
        forget_set: ForgetSet,
    ) -> None:
        """Prepares the data that models are asked about.

        Args:
          context: of a case; the models of the tuning seeds must be there.
          tuning: the section `tuning`.
          scores: scores of D by name.
          forget_set: S.
        """
        self.context, self.tuning, self.scores = context, tuning, scores
        self.forget_set, self.criterion = forget_set, CRITERIA[tuning.criterion]
        train, test = context.size, len(context.run.data.test.labels)
        self.sets = {
            "forget": forget_set.forget,
            "retain": forget_set.retain,
            "test": np.arange(train, train + test),
        }

        # Only one criterion asks about V, which comes after D and T, and how hard it is.
        self.data = context.data
        self.matching: Matching | None = None
        if tuning.criterion == "validation":
            self.data, unseen = with_validation(context.run.data)
            self.sets["validation"] = unseen
            key = stage_key(tuning.seeds[0], "difficulty")
            self.matching = match(context.run, key, self.data, forget_set, unseen)

        # Models that several trials need are loaded once, and facts found out once.
        self.informant = Informant(context, len(self.data.labels))
        self.read = reader(context.run.model)
        self.reference = functools.cache(self._reference)
        self.start = functools.cache(lambda seed: load_original(context, seed))

    def _reference(self, seed: int) -> Answers:
        reference = self.criterion.reference(self.context, seed)
        return read_answers(self.context.run.model, reference, self.data)

    def make(self, methods: Sequence[Method], advance: progress.Advance) -> None:
        """Tries methods on the tuning seeds, and writes what came of each.

        Methods of the same steps, up to numbers, are one compiled program.
        """
        waiting: dict[Any, list[Method]] = {}
        for method in methods:
            waiting.setdefault(program_of(method), []).append(method)
        for alike in waiting.values():
            for method, judged, results in self._try(alike):
                self._write(method, judged, results)
                advance(method.name)

    def _try(
        self, alike: Sequence[Method]
    ) -> Iterator[tuple[Method, list[float], list[ensemble.Result]]]:
        """Runs methods of one program on all seeds; yields scores and results by seed."""
        # Chunks are of about the same size, so that one compilation serves all of them.
        seeds, devices = self.tuning.seeds, jax.local_devices()
        arrangement = self.arrangement(alike[0])
        most = max(1, arrangement.per_device * len(devices) // len(seeds))
        size = -(-len(alike) // -(-len(alike) // most))
        chunks = [alike[first : first + size] for first in range(0, len(alike), size)]
        models = size * len(seeds)

        results = ensemble.make_groups(
            (
                [self.job(method, seed).for_ensemble() for method in chunk for seed in seeds]
                for chunk in chunks
            ),
            self.data,
            read=self.read,
            devices=devices[:models],
            per_device=-(-models // len(devices)),
            within=arrangement.within,
            diverging="noted",
        )
        for method in alike:
            of_seeds = [next(results)[1] for _ in seeds]
            yield method, self.judge(of_seeds), of_seeds

    def _write(
        self, method: Method, scores: list[float], results: Sequence[ensemble.Result]
    ) -> None:
        self.context.place.write_json(
            file_of(self.tuning, method),
            {
                "method": method.name,
                "algorithm": method.algorithm,
                "options": method.options,
                "criterion": self.tuning.criterion,
                "score": float(np.mean(scores)),
                "scores": scores,
                "diverged": sum(result.diverged is not None for result in results),
                "seconds": results[-1].seconds * len(scores),
                "epochs": method.epochs,
            },
        )

    def arrangement(self, method: Method) -> ensemble.Arrangement:
        """Chooses how many models of a method a device holds at a time, and how it makes them."""
        seed = self.tuning.seeds[0]
        chosen = ensemble.arrange(
            lambda: ensemble.work_of([self.job(method, seed).for_ensemble()]),
            self.data,
            read=self.read,
            most=self.context.run.config.bank.per_device,
        )
        if chosen.within == "vmap":
            return chosen

        # One after another, many settings are one call.
        held = 4 * sum(leaf.nbytes for leaf in jax.tree.leaves(self.start(seed)))
        return chosen._replace(per_device=int(max(1, HELD_BYTES // held)))

    def job(self, method: Method, seed: int) -> Job:
        """Returns the job of a method on a seed."""
        start = self.start(seed)
        scores = scores_for(self.context, method, self.scores, start, seed)
        steps = steps_of(self.context, method, scores, self.forget_set, seed)
        steps = self.informant.informed(steps, start, seed)
        return Job(seed, stage_key(seed, f"unlearn/{method.name}"), steps, start, method.name)

    def judge(self, results: Sequence[ensemble.Result]) -> list[float]:
        """Scores the models of all seeds; those that diverged score 0."""
        pairs = zip(self.tuning.seeds, results, strict=True)
        sound = {seed: result.read for seed, result in pairs if result.diverged is None}
        references = [self.reference(seed) for seed in sound]
        scores = self.criterion.judge(list(sound.values()), references, self.sets, self.matching)
        by_seed = dict(zip(sound, scores, strict=True))
        for seed, score in by_seed.items():
            if not np.isfinite(score):
                raise InvalidInputError(
                    f"tuning.criterion: {self.tuning.criterion!r} is {score} on seed {seed}, so "
                    "that no setting is best; choose another criterion"
                )
        return [by_seed.get(seed, 0.0) for seed in self.tuning.seeds]


def file_of(tuning: Tuning, method: Method) -> str:
    """Returns the file that holds what is known of a method with its settings."""
    tried = {"options": method.options, "seeds": tuning.seeds}
    setting = fingerprint(tried | {"criterion": tuning.criterion})
    return files.trial(method.name, setting)


def program_of(method: Method) -> Any:
    """Returns what methods have in common that can be tried in one compiled program."""
    select = (method.select[part] for part in method.order)
    return method.refine, method.parts, *(jax.tree.structure(unlearner) for unlearner in select)
