"""Planned times of a plan for the devices at hand, against measured ones.

    python benchmarks/plan.py [--config fashion_mnist_rum.py] [--epochs 3] [--cpu-devices 2]

A configuration on "fashion_mnist_mini", whose images come with rumjax. Of three programs, training,
fine-tuning and NegGrad+, the plan's time is that of measured steps of training alone, times the
batches that the program takes; the other is that of the program itself, on real images, all devices
at work and compilation left out. Prints both and, as its last line, a JSON object with the ratios
planned/measured: above 1, the plan says too much.
"""

import argparse
import os

import jax
import jax.numpy as jnp
import numpy as np
import pairs

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", default="fashion_mnist_rum.py")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--cpu-devices", type=int, default=os.cpu_count())


def main():
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.cpu_devices)
    from rumjax import ensemble, task, unlearn
    from rumjax.lab import compiling, experiment, planning, targets
    from rumjax.launch import configuration
    from rumjax.types import Dataset

    # The plan's time of a step of training.
    run = experiment.build(configuration(arguments.config))
    target = targets.find(None, None)
    step = compiling.measured_step(run, run.recipe, target)
    print(f"a step of {run.recipe.batch_size} images: {1000 * step:.2f} ms of a device")

    # The same programs as the plan counts them, and run.
    train, forget = run.data.train, np.arange(run.size // 20)
    data = Dataset(jnp.asarray(train.images), jnp.asarray(train.labels))
    options = {"epochs": arguments.epochs, "batch_size": run.recipe.batch_size}
    unlearners = {
        "training": unlearn.retrain(run.model, **options),
        "finetune": unlearn.finetune(run.model, **options),
        "neggrad_plus": unlearn.neggrad_plus(run.model, learning_rate=1e-4, **options),
    }
    start = run.model.init(jax.random.key(0), train.images[:1])
    count, ratios = len(target.devices), {}
    for name, unlearner in unlearners.items():
        steps = unlearn.chain(task(forget, run.size), unlearner)
        batches = planning.batches_of(unlearner, len(forget), run.size - len(forget))
        jobs = [
            ensemble.Job(f"model {number}", jax.random.key(number), steps, start)
            for number in range(count)
        ]
        made = ensemble.make_groups([jobs], data, devices=target.devices, diverging="noted")
        measured = count * next(iter(made))[1].seconds
        planned = batches * step
        ratios[name] = planned / measured
        print(f"{name:<14} planned {planned:7.2f} s, measured {measured:7.2f} s of a device")
    pairs.finish("plan", planned_over_measured=ratios)


if __name__ == "__main__":
    main()
