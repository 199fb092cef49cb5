"""How stages look at models, and what the measures need of them."""

import jax
import numpy as np

from rumjax import metrics
from rumjax.forget_sets import ForgetSet
from rumjax.lab.context import CaseContext, Context, load_oracle, load_original
from rumjax.models import predict
from rumjax.types import Outputs, Variables

_predict = jax.jit(predict, static_argnums=0)


def look(context: Context, variables: Variables) -> Outputs:
    """Returns a model's outputs on D and then T, on the host."""
    outputs = _predict(context.run.model, variables, context.data.images)
    return jax.tree.map(np.asarray, outputs)


def probabilities(outputs: Outputs) -> np.ndarray:
    """Returns softmax probabilities, float32[n, K]."""
    return np.asarray(jax.nn.softmax(outputs.logits))


def first_embeddings(context: Context) -> np.ndarray:
    """Returns embeddings of D by the first seed's original model, float32[N, E]."""
    variables = load_original(context, context.run.seeds[0])
    images = context.data.images[: context.size]
    return np.asarray(_predict(context.run.model, variables, images).embeddings)


def measure(
    context: CaseContext, forget_set: ForgetSet, seed: int, outputs: Outputs
) -> metrics.Measured:
    """Measures a model by its outputs; the seed is that of the attack's sample of R."""
    shares, size = probabilities(outputs), context.size
    test_labels = np.asarray(context.run.data.test.labels)
    return metrics.measure(
        metrics.Predictions(shares[:size], context.labels),
        metrics.Predictions(shares[size:], test_labels),
        forget_set.parts,
        samples=context.run.config.attack.samples,
        seed=seed,
    )


def measure_oracle(context: CaseContext, forget_set: ForgetSet, seed: int) -> metrics.Measured:
    """Measures a seed's reference oracle."""
    return measure(context, forget_set, seed, look(context, load_oracle(context, seed)))
