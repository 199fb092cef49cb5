"""SISA against one model: accuracy, and what deletions cost as a share of retraining.

    python benchmarks/sisa.py [--shards 1 2 5 10] [--seeds 3] [--parts accuracy gradients seconds]

The default network and images, 10 epochs, batches of 64; each shard has three slices. Deletions are
1, 10, 40 and 200 of 6 000 images at random, each time from the ensemble as it was trained.

accuracy: on T, of the ensemble and of a single model, and of both after 200 deletions; these are
also made by training the shards from scratch, and all models are compared bit by bit.
gradients: counted, of 1 000 requests; nothing is trained.
seconds: of one request a seed, compiled code apart, against retraining the single model.

As its last line it prints a JSON object.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import pairs

from rumjax import chain, data, models, retrain, run, sisa, task
from rumjax.types import Dataset

DELETIONS = (1, 10, 40, 200)
SIZE, SLICES, EPOCHS, DRAWS = 6000, 3, 10, 1000
PARTS = ("accuracy", "gradients", "seconds")


class Setting:
    """What is trained on what."""

    def __init__(self):
        self.splits = data.load("fashion_mnist_mini")
        self.data = Dataset(*map(jnp.asarray, self.splits.train))
        self.model = models.build("cnn", 10)
        self.recipe = retrain(self.model, epochs=EPOCHS, batch_size=64, learning_rate=0.1)
        self.predict = jax.jit(sisa.predict, static_argnums=0, static_argnames="vote")

    def single(self, seed, forget=()):
        """A model trained from scratch without some examples."""
        steps = chain(task(forget, SIZE, capacity=max(DELETIONS)), self.recipe)
        return jax.block_until_ready(run(jax.random.key(seed), steps, None, self.data))

    def right(self, several, vote="mean"):
        test = self.splits.test
        said = np.argmax(self.predict(self.model, several, test.images, vote=vote), axis=1)
        return float(np.mean(said == test.labels))


def draw(seed, count):
    return np.random.default_rng((seed, count)).choice(SIZE, count, replace=False)


def accuracies(setting, plans):
    recipe, dataset, right = setting.recipe, setting.data, setting.right
    found = {name: [] for name in ("one", "mean", "majority", "one after", "mean after")}
    exact = True
    for seed, plan in enumerate(plans):
        key, forget = jax.random.key(seed), draw(seed, max(DELETIONS))
        ensemble = sisa.train(key, plan, recipe, dataset)
        after = sisa.forget(ensemble, recipe, dataset, forget).ensemble
        scratch = sisa.train(key, plan, recipe, dataset, already_forgotten=forget)
        exact &= sisa.digest(after) == sisa.digest(scratch)
        for name, gone in {"one": (), "one after": forget}.items():
            alone = setting.single(seed, gone)
            found[name].append(right(jax.tree.map(lambda leaf: leaf[None], alone)))
        found["mean"].append(right(sisa.models(ensemble)))
        found["majority"].append(right(sisa.models(ensemble), "majority"))
        found["mean after"].append(right(sisa.models(after)))
    return {name: spread(values) for name, values in found.items()} | {"exact": exact}


def gradients(_, plans):
    found = {}
    for count in DELETIONS:
        prices = [
            sisa.cost(plans[number % len(plans)], EPOCHS, draw(number, count))
            for number in range(DRAWS)
        ]
        found[count] = {
            "share": spread([price.share for price in prices]),
            "touched": round(float(np.mean([len(price.retrained) for price in prices])), 3),
            "expected": round(sisa.expected_shards(plans[0].shards, count), 3),
        }
    return found


def seconds(setting, plans):
    recipe, dataset = setting.recipe, setting.data
    found = {count: [] for count in DELETIONS}
    setting.single(0)
    for seed, plan in enumerate(plans):
        ensemble = sisa.train(jax.random.key(seed), plan, recipe, dataset)
        again = pairs.seconds(lambda seed=seed: setting.single(seed, draw(seed, max(DELETIONS))))
        for count in DELETIONS:
            request = (ensemble, recipe, dataset, draw(seed, count))
            mine = pairs.seconds(lambda request=request: sisa.forget(*request))
            print(f"  {plan.shards} shards, {count} deletions: {mine:.2f} s of {again:.2f} s")
            found[count].append(mine / again)
    return {count: spread(values) for count, values in found.items()}


def spread(values):
    mean, least, most = (round(float(f(values)), 3) for f in (np.mean, np.min, np.max))
    return {"mean": mean, "least": least, "most": most}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    setting, found = Setting(), {}
    for shards in arguments.shards:
        plans = [
            sisa.plan(SIZE, shards=shards, slices=SLICES, seed=seed)
            for seed in range(arguments.seeds)
        ]
        measures = {"accuracy": accuracies, "gradients": gradients, "seconds": seconds}
        found[shards] = {name: measures[name](setting, plans) for name in arguments.parts}
        print(f"{shards} shards: {found[shards]}", flush=True)
    pairs.finish("sisa", slices=SLICES, seeds=arguments.seeds, by_shards=found)


if __name__ == "__main__":
    main()
