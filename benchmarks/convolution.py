"""Forms of convolution, in training whole epochs on the device.

    python benchmarks/convolution.py [--runs 5]

Trains the CNN of the default configuration on 2 000 of its images for an epoch, in one compiled
program, in turn: with convolutions as matrix products ("dot"), with XLA's own ("lax"), and as
someone would write it with Linen's layers ("linen"), which rumjax computes by products too. Prints
seconds, and as its last line a JSON object with the ratios to "dot": above 1, "dot" is faster.
"""

import argparse
import json
import os
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rumjax import data, models, retrain, task
from rumjax.models.conv import OVERRIDE
from rumjax.types import Dataset, Outputs


class Linen(nn.Module):
    """The CNN of the default configuration in Linen's own layers."""

    @nn.compact
    def __call__(self, images):
        initial = nn.initializers.he_normal()
        hidden = images
        for width in (16, 32, 64):
            hidden = nn.relu(nn.Conv(width, (3, 3), strides=2, kernel_init=initial)(hidden))
        hidden = hidden.reshape(len(hidden), -1)
        hidden = nn.relu(nn.Dense(128, kernel_init=initial)(hidden))
        return Outputs(nn.Dense(10)(hidden), hidden)


FORMS = {
    "dot": ("dot", models.build("cnn", 10)),
    "lax": ("lax", models.build("cnn", 10)),
    "linen": ("auto", models.Model(Linen(), num_classes=10)),
}
"""The method of convolution and the model, by name."""


def epoch_of(name, dataset, everything):
    """A compiled epoch whose convolutions take one form."""
    os.environ[OVERRIDE], model = FORMS[name]
    recipe = retrain(model, epochs=1, batch_size=128, learning_rate=0.1)
    state = jax.jit(recipe.init, static_argnums=1)(jax.random.key(0), None, dataset, everything)
    # A fresh function: JAX keeps traces by function, and would keep the other form's.
    epoch = jax.jit(lambda state: recipe.epoch(state, dataset, everything)[0])
    begin = time.perf_counter()
    jax.block_until_ready(epoch(state))
    print(f"{name}: first call, with compilation, {time.perf_counter() - begin:.1f} s")
    return lambda: jax.block_until_ready(epoch(state))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    train = data.load("fashion_mnist_mini").train
    dataset = Dataset(jnp.asarray(train.images[:2000]), jnp.asarray(train.labels[:2000]))
    everything = task([], 2000)
    epochs = {form: epoch_of(form, dataset, everything) for form in FORMS}
    seconds = {form: [] for form in epochs}
    for _ in range(runs):
        for form, epoch in epochs.items():
            begin = time.perf_counter()
            epoch()
            seconds[form].append(time.perf_counter() - begin)
    ratios = {
        form: np.divide(times, seconds["dot"]) for form, times in seconds.items() if form != "dot"
    }
    for form, times in seconds.items():
        print(f"{form}: median {statistics.median(times):.3f} s, {min(times):.3f}–{max(times):.3f}")
    print(
        json.dumps(
            {
                "name": "convolution",
                "ratio": {form: round(float(np.median(each)), 2) for form, each in ratios.items()},
                "spread": {
                    form: [round(float(each.min()), 2), round(float(each.max()), 2)]
                    for form, each in ratios.items()
                },
                "runs": runs,
                "device": jax.devices()[0].device_kind,
                "jax": jax.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
