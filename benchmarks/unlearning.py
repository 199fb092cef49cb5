"""Unlearning of many seeds at once against one after another.

    python benchmarks/unlearning.py [--runs 5] [--seeds 8]

The default network and images; every seed has its own original model and its own forget set of 600
of 6 000. Both sides are compiled before the clock starts. Prints runs of unlearning per hour, and
as its last line a JSON object with the ratios one after another/at once by algorithm: above 1, at
once is faster.
"""

import argparse
import os

import jax
import jax.numpy as jnp
import numpy as np
import pairs

jax.config.update("jax_num_cpu_devices", os.cpu_count())

from rumjax import chain, data, ensemble, models, run, task, unlearn
from rumjax.types import Dataset

SIZE, FORGOTTEN = 6000, 600


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    train = data.load("fashion_mnist_mini").train
    dataset = Dataset(jnp.asarray(train.images), jnp.asarray(train.labels))
    model = models.build("cnn", 10)
    names = [f"seed {seed}" for seed in range(arguments.seeds)]
    keys = jax.random.split(jax.random.key(0), arguments.seeds)
    originals = [model.init(key, train.images[:1]) for key in keys]
    tasks = [
        task(np.random.default_rng(seed).permutation(SIZE)[:FORGOTTEN], SIZE)
        for seed in range(arguments.seeds)
    ]
    options = {"epochs": arguments.epochs, "batch_size": 128, "learning_rate": 0.01}
    unlearners = {
        "finetune": unlearn.finetune(model, **options),
        "neggrad_plus": unlearn.neggrad_plus(model, **options),
        "salun": unlearn.salun(model, num_classes=10, **options),
    }
    devices, per_device = ensemble.fitting(arguments.seeds, most=arguments.seeds)
    size = len(devices) * per_device
    print(f"{len(devices)} devices, {per_device} models on each, {arguments.seeds} seeds")
    found = {}
    for name, unlearner in unlearners.items():
        steps = [chain(each, unlearner) for each in tasks]

        def one_after_another(steps=steps):
            for key, each, original in zip(keys, steps, originals, strict=True):
                jax.block_until_ready(run(key, each, original, dataset))

        def works(steps=steps):
            for first in range(0, arguments.seeds, size):
                these = slice(first, first + size)
                yield ensemble.together(names[these], keys[these], steps[these], originals[these])

        def at_once(works=works):
            made = ensemble.run(
                works(), dataset, read=ensemble.whole, devices=devices, per_device=per_device
            )
            return list(made)

        one_after_another()
        print(f"{name}: compiled for all at once in {at_once()[0].compile_seconds:.1f} s")
        times = pairs.in_turn(
            {f"{name} one by one": one_after_another, f"{name} at once": at_once}, arguments.runs
        )
        one_by_one, together = times.values()
        rate = 3600 * arguments.seeds / np.median(together)
        print(f"{name}: {rate:.0f} runs per hour at once")
        found[name] = pairs.ratios(together, one_by_one) | {"runs_per_hour": round(rate)}
    ratio = {name: each["ratio"] for name, each in found.items()}
    pairs.finish("unlearning", ratio=ratio, by_algorithm=found, seeds=arguments.seeds)


if __name__ == "__main__":
    main()
