"""Settings of one algorithm in one program against one after another.

    python benchmarks/tuning.py [--runs 3] [--settings 64]

Fine-tuning on 540 images, 60 forgotten, at as many learning rates and epochs as there are settings:
few images, so that dispatch and compilation dominate. Three ways, each to the end and compilation
included: "compiled each", a run of `rumjax.run` for every setting with nothing kept from the one
before, as where every setting is a program of its own; "one by one", the same with compiled code
kept; "at once", all settings in one `rumjax.ensemble`. Prints seconds and how often an epoch was
traced, and as its last line a JSON object with the ratios way/at once: above 1, at once is faster.
"""

import argparse
import os

import jax
import jax.numpy as jnp
import numpy as np
import pairs

jax.config.update("jax_num_cpu_devices", os.cpu_count())
jax.config.update("jax_enable_compilation_cache", False)

from rumjax import chain, data, ensemble, models, run, task, unlearn
from rumjax.types import Dataset

SIZE, FORGOTTEN = 600, 60


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--settings", type=int, default=64)
    arguments = parser.parse_args()
    train = data.load("fashion_mnist_mini").train
    dataset = Dataset(jnp.asarray(train.images[:SIZE]), jnp.asarray(train.labels[:SIZE]))
    model = models.build("cnn", 10)
    original = model.init(jax.random.key(0), train.images[:1])
    rates = np.geomspace(1e-3, 1e-1, arguments.settings)
    steps = [
        chain(
            task(range(FORGOTTEN), SIZE),
            unlearn.finetune(model, learning_rate=rate, epochs=1 + number % 4, batch_size=128),
        )
        for number, rate in enumerate(rates)
    ]
    keys = jax.random.split(jax.random.key(1), arguments.settings)
    names = [f"setting {number}" for number in range(arguments.settings)]
    devices, found = jax.local_devices(), {}
    traced = count_traces()

    def one_by_one(between=lambda: None):
        made = []
        for key, each in zip(keys, steps, strict=True):
            between()
            made.append(run(key, each, original, dataset))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *made)

    def at_once():
        work = ensemble.together(names, keys, steps, [original] * arguments.settings)
        per_device = -(-arguments.settings // len(devices))
        (made,) = ensemble.run([work], dataset, read=ensemble.whole, per_device=per_device)
        return made.read

    ways = {
        "compiled each": lambda: one_by_one(jax.clear_caches),
        "one by one": one_by_one,
        "at once": at_once,
    }

    def timed(name, way):
        def measured():
            jax.clear_caches()
            ensemble.programs.compiled.cache_clear()
            before = len(traced)
            found[name] = way()
            print(f"{name}: an epoch was traced {len(traced) - before} times")

        return measured

    times = pairs.in_turn({name: timed(name, way) for name, way in ways.items()}, arguments.runs)
    for name in ways:
        for one, other in zip(*map(jax.tree.leaves, (found[name], found["at once"])), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    compared = {
        name: pairs.ratios(times["at once"], times[name]) for name in ways if name != "at once"
    }
    ratio = {name: each["ratio"] for name, each in compared.items()}
    pairs.finish("tuning", ratio=ratio, by_way=compared, settings=arguments.settings)


def count_traces():
    """A list that grows by one each time an epoch of fine-tuning is traced."""
    traced, passes = [], unlearn.finetune.__globals__["Finetune"].passes

    def counted(*arguments):
        traced.append(1)
        return passes(*arguments)

    unlearn.finetune.__globals__["Finetune"].passes = counted
    return traced


if __name__ == "__main__":
    main()
