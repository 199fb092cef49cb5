"""How stages look at models, and what the measures need of them."""

import jax
import numpy as np

from rumjax import metrics
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.lab.context import CaseContext, Context, load_oracle, load_original
from rumjax.lab.options import call_with
from rumjax.models import predict
from rumjax.registry import attempt, resolve
from rumjax.rows import first
from rumjax.types import Outputs, Variables


def look(context: Context, variables: Variables) -> Outputs:
    """Returns a model's outputs on D and then T, on the host."""
    outputs = predict(context.run.model, variables, context.data.images)
    return jax.tree.map(np.asarray, outputs)


def probabilities(outputs: Outputs) -> np.ndarray:
    """Returns softmax probabilities, float32[n, K]."""
    return np.asarray(jax.nn.softmax(outputs.logits))


def first_embeddings(context: Context) -> np.ndarray:
    """Returns embeddings of D by the first seed's original model, float32[N, E]."""
    variables = load_original(context, context.run.seeds[0])
    images = first(context.data.images, context.size)
    return np.asarray(predict(context.run.model, variables, images).embeddings)


def measure(
    context: CaseContext, forget_set: ForgetSet, seed: int, outputs: Outputs
) -> metrics.Measured:
    """Measures a model by its outputs; the seed is that of the attack's sample of R."""
    shares, size = probabilities(outputs), context.size
    test_labels = np.asarray(context.run.data.test.labels)
    return metrics.measure(
        metrics.Predictions(shares[:size], context.labels),
        metrics.Predictions(shares[size:], test_labels),
        forget_set,
        samples=context.run.config.attack.samples,
        seed=seed,
    )


def measure_oracle(context: CaseContext, forget_set: ForgetSet, seed: int) -> metrics.Measured:
    """Measures a seed's reference oracle."""
    return measure(context, forget_set, seed, look(context, load_oracle(context, seed)))


def own_measures(
    context: CaseContext, forget_set: ForgetSet, name: str, seed: int, outputs: Outputs
) -> dict[str, float]:
    """Computes the measures of the user's own, by name; says which are not finite.

    Each is called with what it takes of `outputs` and `oracle` (those of the model and of its
    seed's reference oracle, on D and then T), `labels` (int32[N + T]), and `forget_set`.

    Raises:
      InvalidInputError: a result is not a number.
    """
    measures = context.run.config.measures
    if not measures:
        return {}

    # Every measure may take any of these.
    oracle = look(context, load_oracle(context, seed))
    labels = np.asarray(context.data.labels)
    values = {}
    for measured, path in measures.items():
        where = f"measures.{measured}"
        function = resolve(where, path, {})
        value = call_with(
            where,
            function,
            outputs=outputs,
            oracle=oracle,
            labels=labels,
            forget_set=forget_set,
        )

        # Its result must be a number, and is said where it is none that can be averaged.
        number = attempt(where, np.asarray, {}, value)
        if number.ndim != 0 or number.dtype.kind not in "biuf":
            raise InvalidInputError(
                f"{where}: {path} returned {number.dtype} of shape {number.shape}; wanted a number"
            )
        values[measured] = float(number)
        if not np.isfinite(number):
            said = f"{where} is {number} for {name} on seed {seed}"
            context.console.print(said, markup=False, soft_wrap=True)
    return values
