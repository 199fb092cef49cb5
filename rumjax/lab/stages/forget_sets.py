"""The forget set S of a case, chosen once and handed on, and how hard it is to forget."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rumjax import forget_sets, scores
from rumjax.data.origins import copies
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet, by_score
from rumjax.lab import files, progress
from rumjax.lab.config import FORGET
from rumjax.lab.context import CaseContext
from rumjax.lab.jobs import Batch
from rumjax.lab.measuring import first_embeddings
from rumjax.lab.options import call, names_of
from rumjax.lab.results import read_forget_set, write_forget_set
from rumjax.lab.sections import Forget
from rumjax.lab.stages.scores import read as read_scores
from rumjax.listings import OF_RUN
from rumjax.refine import Parts
from rumjax.registry import resolve
from rumjax.types import Scores, Splits

MMD_SAMPLES = 4000
"""Examples of the rest of D, with which the MMD of a part is estimated."""
RESERVED = {"all", *OF_RUN}
"""Names in the files of forget sets that no part may have."""


def batch(context: CaseContext) -> Batch:
    """Returns what lacks of a case's forget set: the choice, its description, or nothing."""
    place = context.place
    is_there = place.has(files.FORGET_SETS) and place.has(files.HARDNESS)
    return Batch(
        stage="forget_sets",
        context=context,
        names=[] if is_there else ["all"],
        title="Forget sets",
        total=0,
    )


def make(context: CaseContext, names: Sequence[str], advance: progress.Advance) -> None:
    """Chooses S, as far as it is not chosen yet, and describes it.

    `forget_sets.npz` and `.csv` hold S, `forget_sets.json` how hard it is to forget.
    """
    del names, advance
    place, scores = context.place, read_scores(context)
    forget_set = read_forget_set(place)
    if forget_set is None:
        forget_set = choose_set(
            context.case.forget, context.run.data, scores, lambda: first_embeddings(context)
        )
        write_forget_set(place, forget_set, context.run.data)
        if context.case.forget.by in ("examples", "file"):
            warn_of_copies(context, forget_set)
    place.write_json(files.HARDNESS, describe(context, scores, forget_set))


def read(context: CaseContext) -> ForgetSet:
    """Reads the forget set that was chosen for a case."""
    forget_set = read_forget_set(context.place)
    assert forget_set is not None
    return forget_set


def warn_of_copies(context: CaseContext, forget_set: ForgetSet) -> None:
    """Says how many images that somebody asked to forget are also retained, pixel by pixel."""
    images = np.asarray(context.run.data.train.images)
    retained = copies(images[forget_set.forget], images[forget_set.retain])
    if retained.any():
        context.console.print(
            f"{retained.sum()} of {len(forget_set.forget)} images to forget have a copy, pixel by "
            "pixel, among those that are retained: a model goes on learning from it. A request by "
            "SHA-256 (rumjax.data.hashes) is of all copies with the same label.",
            markup=False,
        )


def choose_set(
    section: Forget,
    data: Splits,
    scores: Mapping[str, Scores],
    embeddings: Callable[[], np.ndarray],
) -> ForgetSet:
    """Chooses S and its parts, by what the section `forget` says.

    Args:
      section: how S is chosen.
      data: its D is what S is chosen of.
      scores: scores of D by name.
      embeddings: returns float32[N, E], where S is chosen by entanglement.

    Raises:
      InvalidInputError: S cannot be made of this data, or a part has a reserved name.
    """
    # Each way to choose needs something else of the data; a function of the user's says what.
    options, labels = dict(section.options), np.asarray(data.train.labels)
    count = len(labels)
    choose_by = resolve("by in forget", section.by, FORGET | dict.fromkeys(scores, by_score))
    needs: dict[str, Any]
    if section.by in scores:
        options.setdefault("center", 0.5 if section.by == "memorization" else "median")
        needs = {"scores": scores[section.by]}
    elif section.by == "entanglement":
        needs = {"embeddings": embeddings()}
    elif section.by == "class":
        needs = {"labels": labels, "class_names": data.class_names}
    elif section.by in ("examples", "file"):
        needs = {"data": data}
    elif section.by in FORGET:
        needs = {"count": count}
    else:
        wanted = names_of(choose_by)
        needs = {"labels": labels, "count": count, "scores": scores}
        needs = {name: value for name, value in needs.items() if name in wanted}
    parts: Parts = call("forget", choose_by, options, **needs)

    # A study of requests deals it out, and asks for the first of them.
    if section.requests is not None:
        parts = forget_sets.requests(parts, section.requests, until=section.until)
    if taken := RESERVED & parts.keys():
        raise InvalidInputError(f"forget set: no part may be called {', '.join(sorted(taken))}")
    return ForgetSet.of(parts, count)


def describe(
    context: CaseContext, example_scores: Mapping[str, Scores], forget_set: ForgetSet
) -> dict[str, dict[str, Any]]:
    """Describes how hard S ("all") and its parts are to forget.

    Embeddings are those of the first seed's original model. MMD² is taken with γ by the median
    heuristic, and with at most `MMD_SAMPLES` random examples of the rest.

    Returns:
      For each: its `size`, mean scores by name, `entanglement_score` and `mmd_squared` with the
      rest of D.
    """
    embeddings = first_embeddings(context)
    random = np.random.default_rng(0)
    rows: dict[str, dict[str, Any]] = {}
    for name, part in {"all": forget_set.forget, **forget_set.parts}.items():
        rest = np.setdiff1d(np.arange(context.size), part)
        row = {key: float(score.values[part].mean()) for key, score in example_scores.items()}
        if embeddings.shape[1]:
            sample = random.permutation(rest)[:MMD_SAMPLES]
            row["entanglement_score"] = scores.entanglement_score(embeddings, part, rest)
            row["mmd_squared"] = scores.mmd_squared(embeddings, part, sample, gamma="median")
        rows[name] = {"size": len(part), **row}
    return rows
