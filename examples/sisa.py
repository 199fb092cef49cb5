"""Exact deletion by SISA, on the images that come with rumjax: about a minute on two cores.

    python examples/sisa.py

Trains five shards of three slices, forgets 40 images in two requests, of one and of 39, and prints
what each request cost, as a share of training one model anew, and accuracy on the test set beside
that of a single model trained on everything.
"""

import jax
import jax.numpy as jnp
import numpy as np

import rumjax
from rumjax import sisa


def main():
    """Trains, forgets twice, and prints accuracies and costs."""
    # The images, a network, and how it is trained.
    splits = rumjax.data.load("fashion_mnist_mini")
    data = rumjax.Dataset(*map(jnp.asarray, splits.train))
    size, model = len(data.labels), rumjax.models.build("cnn", num_classes=splits.num_classes)
    recipe = rumjax.retrain(model, epochs=10, batch_size=64, learning_rate=0.1)
    predict = jax.jit(sisa.predict, static_argnums=0)

    def accuracy(models):
        shares = predict(model, models, splits.test.images)
        return np.mean(np.argmax(shares, axis=1) == splits.test.labels)

    # One model on all of D, to compare with: an ensemble of itself.
    key = jax.random.key(0)
    everything = rumjax.chain(rumjax.task([], size), recipe)
    single = rumjax.run(key, everything, None, data)
    alone = jax.tree.map(lambda leaf: leaf[None], single)
    print(f"one model on all of D: accuracy {accuracy(alone):.3f}")

    # SISA: what is in which shard and slice is settled once, and kept with the models.
    plan = sisa.plan(size, shards=5, slices=3, seed=0)
    ensemble = sisa.train(key, plan, recipe, data)
    print(f"5 shards of 3 slices: accuracy {accuracy(sisa.models(ensemble)):.3f}")

    # Two requests, each of which goes on from what the one before has left.
    chosen = np.random.default_rng(0).choice(size, 40, replace=False)
    for request in (chosen[:1], chosen[1:]):
        ensemble, cost = sisa.forget(ensemble, recipe, data, request)
        again = ", ".join(f"{shard} ({first})" for shard, first in cost.retrained.items())
        print(f"forgot {len(request)} of {size}: accuracy {accuracy(sisa.models(ensemble)):.3f}")
        print(f"  at {cost.share:.0%} of the gradients of retraining; shards (slices): {again}")
    print(f"SHA-256 of the ensemble: {sisa.digest(ensemble)}")


if __name__ == "__main__":
    main()
