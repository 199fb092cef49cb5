"""What a bank costs against its models, its examples, devices and processes.

    python benchmarks/scaling.py [--runs 5]

Trains banks of the default network and takes the time from the first chunk of models to the last,
after compilation. Devices are virtual: a CPU of two cores split into more than two shows what the
splitting costs, not what more cores would gain. Processes share a directory on this machine, each
with its share of the cores. Prints models per second, and as its last line a JSON object with each
figure relative to the first of its kind.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--models", type=int, default=12)
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker[0], *map(int, arguments.worker[1:]))
        return
    cores, count = os.cpu_count(), arguments.models
    settings = {
        "models": {m: {"models": m, "devices": cores} for m in (count, 2 * count, 4 * count)},
        "examples": {n: {"models": count, "devices": cores, "size": n} for n in (1500, 3000, 6000)},
        "devices": {d: {"models": 2 * count, "devices": d} for d in (1, 2, 4, 8)},
        "processes": {
            p: {"models": 2 * count, "devices": max(1, cores // p), "processes": p}
            for p in (1, 2, 4)
        },
    }
    found = {}
    for kind, each in settings.items():
        rates = {value: [] for value in each}
        for _ in range(arguments.runs):
            for value, setting in each.items():
                rates[value].append(rate(**setting))
        found[kind] = {}
        first = np.array(rates[min(rates)])
        for value, measured in rates.items():
            relative = np.array(measured) / first
            found[kind][value] = {
                "models_per_second": round(float(np.median(measured)), 3),
                "relative": round(float(np.median(relative)), 3),
                "spread": [round(float(relative.min()), 3), round(float(relative.max()), 3)],
            }
            print(f"{kind} {value}: {found[kind][value]}", flush=True)
    two = found["processes"][2]
    pairs.finish(
        "scaling",
        ratio=two["relative"],
        spread=two["spread"],
        runs=arguments.runs,
        **found,
    )


def rate(models, devices, size=3000, processes=1):
    """Models per second, between the first chunk of each process and its last."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--worker", folder]
        shares = [(index, processes, models, devices, size) for index in range(processes)]
        workers = [
            subprocess.Popen([*command, *map(str, share)], stdout=subprocess.PIPE, text=True)
            for share in shares
        ]
        total = 0.0
        for worker in workers:
            times = json.loads(worker.communicate()[0].strip().split("\n")[-1])
            assert worker.returncode == 0
            (_, begin), *rest = times
            if rest:
                total += sum(made for made, _ in rest) / (rest[-1][1] - begin)
        return total


def work(folder, index, processes, models, devices, size):
    """Trains a share of a bank; prints how many models were made when."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    # Compiled once for all, so that processes begin together.
    cache = os.path.join(tempfile.gettempdir(), "rumjax_scaling")
    jax.config.update("jax_compilation_cache_dir", cache)

    import time

    import jax.numpy as jnp

    from rumjax import data, retrain
    from rumjax import models as networks
    from rumjax.lab import bank
    from rumjax.lab.cluster import Process
    from rumjax.lab.workdir import WorkDirectory
    from rumjax.types import Dataset

    train = data.load("fashion_mnist_mini").train
    dataset = Dataset(jnp.asarray(train.images[:size]), jnp.asarray(train.labels[:size]))
    recipe = retrain(networks.build("cnn", 10), epochs=4, batch_size=128, learning_rate=0.1)
    header = {"seed": 0, "fraction": 0.5, "size": size, "examples": size}
    times = []
    with WorkDirectory(folder, holder=f"process{index}") as directory:
        bank.train(
            bank.ModelBank(directory, header),
            recipe,
            dataset,
            jax.random.key(0),
            models=models,
            process=Process(index, processes),
            on_made=lambda made: times.append((len(made.names), time.time())),
        )
    print(json.dumps(times))


if __name__ == "__main__":
    main()
