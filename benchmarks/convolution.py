"""The two forms of convolution, in training whole epochs on the device.

    python benchmarks/convolution.py [--runs 5]

Trains the CNN of the default configuration on 2 000 of its images for an epoch, in one compiled
program, once with convolutions as matrix products ("dot") and once with XLA's own ("lax"), in turn.
Prints seconds, and as its last line a JSON object with the ratio lax/dot: above 1, "dot" is faster.
"""

import argparse
import json
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from rumjax import data, models, retrain, task
from rumjax.models.conv import OVERRIDE
from rumjax.types import Dataset


def epoch_of(form, recipe, dataset, everything):
    """A compiled epoch whose convolutions take one form."""
    os.environ[OVERRIDE] = form
    state = jax.jit(recipe.init, static_argnums=1)(jax.random.key(0), None, dataset, everything)
    # A fresh function: JAX keeps traces by function, and would keep the other form's.
    epoch = jax.jit(lambda state: recipe.epoch(state, dataset, everything)[0])
    begin = time.perf_counter()
    jax.block_until_ready(epoch(state))
    print(f"{form}: first call, with compilation, {time.perf_counter() - begin:.1f} s")
    return lambda: jax.block_until_ready(epoch(state))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    train = data.load("fashion_mnist_mini").train
    dataset = Dataset(jnp.asarray(train.images[:2000]), jnp.asarray(train.labels[:2000]))
    model = models.build("cnn", 10)
    recipe = retrain(model, epochs=1, batch_size=128, learning_rate=0.1)
    everything = task([], 2000)
    epochs = {form: epoch_of(form, recipe, dataset, everything) for form in ("dot", "lax")}
    seconds = {form: [] for form in epochs}
    for _ in range(runs):
        for form, epoch in epochs.items():
            begin = time.perf_counter()
            epoch()
            seconds[form].append(time.perf_counter() - begin)
    ratios = np.divide(seconds["lax"], seconds["dot"])
    for form, times in seconds.items():
        print(f"{form}: median {statistics.median(times):.3f} s, {min(times):.3f}–{max(times):.3f}")
    print(
        json.dumps(
            {
                "name": "convolution",
                "ratio": round(float(np.median(ratios)), 2),
                "spread": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)],
                "runs": runs,
                "device": jax.devices()[0].device_kind,
                "jax": jax.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
