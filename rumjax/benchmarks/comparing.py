"""Runs an algorithm on the models of a pack, and holds it against the oracles as a run does."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rumjax import metrics
from rumjax.benchmarks.packs import Pack, load
from rumjax.errors import InvalidInputError
from rumjax.metrics import Interval, Predictions, mean_interval
from rumjax.models import Model, predict
from rumjax.types import Dataset, Unlearner, Variables, task
from rumjax.unlearn import Step, chain, run

Make: TypeAlias = Callable[[Pack], "Unlearner[Any] | Sequence[Step]"]
"""Makes an unlearner for the pack's network, which runs on all of S, or steps on its parts."""

SHOWN = {
    "tow": "ToW",
    "tow_mia": "ToW-MIA",
    "mia_gap": "MIA gap",
    "forget_accuracy": "Acc. S",
    "retain_accuracy": "Acc. R",
    "test_accuracy": "Acc. T",
    "rge": "RGE",
}
"""Measures of the table, and their titles; see `rumjax.metrics`. RGE, the gradients of unlearning
over those of retraining, is that of the run's own methods."""


class Comparison(NamedTuple):
    """An algorithm beside those of the run that the pack is of."""

    rows: tuple[Mapping[str, Any], ...]
    """of the algorithm, one for each seed, by the names of the columns of results.csv"""
    table: Mapping[str, Mapping[str, Interval]]
    """means over the seeds with 95 % Student-t intervals, by method and measure"""

    def __str__(self) -> str:
        """Lays the table out in plain text."""
        width = max(map(len, self.table))
        lines = [" ".join([f"{'':{width}}", *(f"{title:>13}" for title in SHOWN.values())])]
        for name, measures in self.table.items():
            cells = [_cell(measures.get(measure)) for measure in SHOWN]
            lines.append(" ".join([f"{name:{width}}", *cells]))
        return "\n".join(lines)


def compare(
    unlearner: "Unlearner[Any] | Make",
    pack: Pack | str = "fashion_mnist_rum",
    *,
    name: str = "yours",
    key: jax.Array | None = None,
    show: Callable[[str], None] | None = print,
) -> Comparison:
    """Runs an algorithm on a pack's original models, and prints it beside the run's own methods.

    It is held against the model that was retrained without S on the same seed, by the measures of
    Zhao et al. (NeurIPS 2024). The other rows are the run's own results; "original", which does
    nothing, and "retrain_second", another retrained model, say what is bad and what is perfect.

    Args:
      unlearner: made for `pack.model`; or a function of the pack that makes it, or that makes steps
        on parts of S, as `rumjax.refine.rum` does.
      pack: a pack, or the name of one that comes with rumjax.
      name: what the algorithm is called in the table.
      key: of its random numbers, `jax.random.key(0)` by default.
      show: is given the table, and what is being done; None for nothing.

    Raises:
      InvalidInputError: an unknown pack, a name that the table has already, or an unlearner that
        does not suit the pack.
      DivergenceError: a loss or a parameter is not finite.

    Examples:
      >>> from rumjax.unlearn import original  # does nothing, and takes no time
      >>> found = compare(lambda pack: original(pack.model), show=None)
      >>> list(found.table)[-1], len(found.rows)
      ('yours', 3)
    """
    pack = load(pack) if isinstance(pack, str) else pack
    if name in {row["name"] for row in pack.rows}:
        raise InvalidInputError(f"name: {name!r} is a method of {pack.name}; choose another")
    made = unlearner(pack) if callable(unlearner) else unlearner
    forget = pack.forget_set.forget
    size = pack.forget_set.size
    steps = tuple(made) if isinstance(made, Sequence) else chain(task(forget, size), made)
    given = Dataset(*map(jnp.asarray, pack.data.train))
    seeds = zip(pack.seeds, pack.originals, pack.oracles, strict=True)

    # Each seed's model, beside the oracle of the same seed.
    rows, begin = [], time.perf_counter()
    for number, (seed, original, oracle) in enumerate(seeds):
        own = jax.random.fold_in(jax.random.key(0) if key is None else key, seed)
        unlearned = run(own, steps, original, given)
        row = metrics.compare(_measured(pack, unlearned, seed), _measured(pack, oracle, seed))
        rows.append({"name": name, "seed": seed, **row})
        if show is not None:
            seconds = time.perf_counter() - begin
            show(f"{name}: {number + 1} of {len(pack.seeds)} seeds after {seconds:.0f} s")

    # The table of the run, with a row more.
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for each in (*pack.rows, *rows):
        by_name.setdefault(each["name"], []).append(each)
    table = {name: _summary(of_name) for name, of_name in by_name.items()}
    comparison = Comparison(tuple(rows), table)
    if show is not None:
        show(str(comparison))
    return comparison


def _measured(pack: Pack, variables: Variables, seed: int) -> metrics.Measured:
    train, test = (
        _predictions(pack.model, variables, part) for part in (pack.data.train, pack.data.test)
    )
    samples = pack.about["attack"]["samples"]
    return metrics.measure(train, test, pack.forget_set, samples=samples, seed=seed)


def _predictions(model: Model, variables: Variables, data: Dataset) -> Predictions:
    logits = predict(model, variables, jnp.asarray(data.images)).logits
    return Predictions(np.asarray(jax.nn.softmax(logits)), np.asarray(data.labels))


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Interval]:
    values = {
        measure: np.array([row[measure] for row in rows if row.get(measure) is not None])
        for measure in SHOWN
    }
    return {measure: mean_interval(array) for measure, array in values.items() if len(array)}


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return f"{'–':>13}"
    half = f" ± {interval.half_width:.3f}" if np.isfinite(interval.half_width) else ""
    return f"{f'{interval.value:.3f}{half}':>13}"
