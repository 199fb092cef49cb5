"""The forget set S of a case, chosen once and handed on, and how hard it is to forget."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rumjax import forget_sets, scores
from rumjax.data.origins import copies
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet, by_score
from rumjax.lab import files
from rumjax.lab.config import FORGET
from rumjax.lab.context import CaseContext
from rumjax.lab.measuring import first_embeddings
from rumjax.lab.options import call, names_of
from rumjax.lab.results import read_forget_set, write_forget_set
from rumjax.lab.sections import Forget
from rumjax.listings import OF_RUN
from rumjax.refine import Parts
from rumjax.registry import resolve
from rumjax.types import Scores, Splits

MMD_SAMPLES = 4000
"""Examples of the rest of D, with which the MMD of a part is estimated."""
RESERVED = {"all", *OF_RUN}
"""Names in the files of forget sets that no part may have."""


def choose(context: CaseContext, scores: Mapping[str, Scores]) -> ForgetSet:
    """Chooses S, or reads it from `forget_sets.npz`, and describes it in `forget_sets.json`."""
    place = context.place
    forget_set = read_forget_set(place)
    if forget_set is None:
        forget_set = choose_set(
            context.case.forget, context.run.data, scores, lambda: first_embeddings(context)
        )
        write_forget_set(place, forget_set, context.run.data)
        if context.case.forget.by in ("examples", "file"):
            warn_of_copies(context, forget_set)
    if not place.has(files.HARDNESS):
        place.write_json(files.HARDNESS, describe(context, scores, forget_set))
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
