"""What a bank costs against its models, its examples, devices and workers.

    python benchmarks/scaling.py [--runs 5] [--only workers]

Trains banks of the default network, as a run does, and takes the time once every worker has opened
the data and compiled. Devices are virtual: a CPU of two cores split into more than two shows what
the splitting costs, not what more cores would gain. Workers are processes that share the cores, of
`--engine=dask:local:N`; 0 of them is this process with all cores. Prints models per second, and as
its last line a JSON object with each figure relative to the first of its kind.
"""

import argparse
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
    parser.add_argument("--only", choices=("models", "examples", "devices", "workers"))
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        folder, engine, *numbers = arguments.worker
        work(folder, engine, *map(int, numbers))
        return
    cores, count = os.cpu_count(), arguments.models
    settings = {
        "models": {m: {"models": m, "devices": cores} for m in (count, 2 * count, 4 * count)},
        "examples": {n: {"models": count, "devices": cores, "size": n} for n in (1500, 3000, 6000)},
        "devices": {d: {"models": 2 * count, "devices": d} for d in (1, 2, 4, 8)},
        # The first is this process, with all devices.
        "workers": {
            w: {"models": 4 * count, "devices": max(1, cores // max(w, 1)), "workers": w}
            for w in (0, 1, 2, 4)
        },
    }
    if arguments.only:
        settings = {arguments.only: settings[arguments.only]}
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
    last = found[kind]
    two = last.get(2, last[max(last)])
    pairs.finish(
        "scaling",
        ratio=two["relative"],
        spread=two["spread"],
        runs=arguments.runs,
        **found,
    )


def rate(models, devices, size=3000, workers=0):
    """Models per second of this process's devices, or of workers with so many devices each."""
    with tempfile.TemporaryDirectory() as folder:
        engine = f"dask:local:{workers}" if workers else "here"
        command = [sys.executable, __file__, "--worker", folder, engine, models, devices, size]
        # Workers find the same number of devices; what one has compiled the others need not.
        variables = {
            "JAX_NUM_CPU_DEVICES": f"{devices}",
            "JAX_COMPILATION_CACHE_DIR": os.path.join(tempfile.gettempdir(), "rumjax_scaling"),
        }
        done = subprocess.run(
            list(map(str, command)),
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return float(done.stdout.strip().split("\n")[-1])


def work(folder, engine, models, devices, size):
    """Trains a bank; prints the models per second of all but the first ones of each worker."""
    import dataclasses
    import pathlib
    import time

    from rich.console import Console

    from rumjax import data
    from rumjax.lab import devices as settled
    from rumjax.lab import engines, experiment, jobs, pipeline
    from rumjax.lab.stages import bank
    from rumjax.lab.workdir import WorkDirectory
    from rumjax.launch import configuration

    settled.settle(devices, only_cpu=engine != "here")

    # The first examples of the images that come with rumjax.
    splits = data.load("fashion_mnist_mini")._asdict()
    path = pathlib.Path(folder, "images.npz")
    arrays = {}
    for name in ("train", "validation", "test"):
        some = slice(size if name == "train" else None)
        arrays |= {
            f"{name}_images": splits[name].images[some],
            f"{name}_labels": splits[name].labels[some],
        }
    np.savez(path, **arrays)
    config = configuration("fashion_mnist_rum.py")
    config["data"] = {"name": "npz", "data_dir": str(path)}
    config["training"]["epochs"] = 4
    config["bank"]["models"] = models
    config["budget"] = None  # the methods are of a longer training
    run = experiment.build(config)

    # Every worker opens the data and compiles for the first models.
    console = Console(quiet=True)
    with (
        WorkDirectory(folder) as directory,
        engines.opened(engine, directory, console) as opened,
    ):
        context = pipeline.open_context(run, directory, console, engine=opened)
        lacking = bank.batch(context)
        first = 2 * devices * engines.width(opened)
        jobs.make(dataclasses.replace(lacking, names=lacking.names[:first]))
        begin = time.perf_counter()
        jobs.make(dataclasses.replace(lacking, names=lacking.names[first:]))
        print((len(lacking.names) - first) / (time.perf_counter() - begin))


if __name__ == "__main__":
    main()
