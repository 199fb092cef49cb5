"""How the models of all shards predict together."""

import jax
import jax.numpy as jnp
import numpy as np

from rumjax.errors import check_choice
from rumjax.models import Model
from rumjax.models import predict as outputs_of
from rumjax.models.checks import check_images, check_model, check_variables
from rumjax.sisa.keeping import Ensemble, check_ensemble
from rumjax.types import AnyArray, Array, Variables, collections_of

VOTES = ("mean", "majority")
"""What an ensemble says: the mean of its models' probabilities, or the shares of their votes."""


def models(ensemble: Ensemble) -> Variables:
    """Returns the models that predict: of every shard of which something is left, the last one.

    Returns:
      Variables whose arrays have a leading axis of at most as many models as there are shards.

    Raises:
      InvalidInputError: no ensemble.

    Examples:
      >>> from rumjax.sisa.plans import plan
      >>> checkpoints = Variables({"bias": np.zeros((2, 3, 4))}, {})
      >>> dealt = plan(2, shards=2, slices=3)
      >>> made = Ensemble(dealt, jax.random.key(0), "{}", np.array([1]), checkpoints)
      >>> models(made).params["bias"].shape
      (1, 4)
    """
    plan = check_ensemble(ensemble).plan
    left = np.delete(plan.shard_of, np.asarray(ensemble.forgotten, int))
    voting: Variables = jax.tree.map(lambda leaf: leaf[np.unique(left), -1], ensemble.checkpoints)
    return voting


def predict(
    model: Model,
    models: Variables,
    images: AnyArray,
    *,
    vote: str = "mean",
    batch_size: int = 512,
) -> Array:
    """Returns the probabilities of classes by all models together; float32[N, K].

    It is a pure function; for repeated use compile it, by `jax.jit(predict, static_argnums=0)`.

    Args:
      model: the architecture.
      models: of `rumjax.sisa.models`, with a leading axis.
      images: [N, H, W, C], uint8 or floats; N may be 0.
      vote: "mean" for the mean of the models' probabilities, "majority" for the share of the
        models whose likeliest class it is.
      batch_size: images at a time.

    Raises:
      InvalidInputError: an unknown vote, images of another form, or variables of another network.

    Examples:
      >>> from rumjax.models import Cnn
      >>> model, images = Model(Cnn(3, widths=(), hidden=4)), jnp.zeros((5, 2, 2, 1), jnp.uint8)
      >>> one = model.init(jax.random.key(0), images)
      >>> both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), one)
      >>> predict(model, both, images).shape
      (5, 3)
    """
    # Models with a leading axis.
    check_choice("vote", vote, VOTES)
    images = check_images("images", images)
    models = collections_of("models", models)
    count = np.shape(jax.tree.leaves(models)[0])[:1]
    models = check_variables("models", check_model(model), models, images, lead=count)

    # One after another.
    def probabilities(variables: Variables) -> Array:
        logits = outputs_of(model, variables, images, batch_size=batch_size).logits
        if vote == "majority":
            return jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
        return jax.nn.softmax(logits.astype(jnp.float32))

    return jax.lax.map(probabilities, models).mean(axis=0)
