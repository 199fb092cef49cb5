"""What training and unlearning cost on an accelerator, by precision, arrangement and algorithm.

    python benchmarks/accelerator.py [--minutes 15] [--parts cnn unlearners] [--only ssd scrub]
        [--small] [--out FILE]

Uses the first device and random images. Its parts, the most important first:

- resnet18: training of one model, and of four one after another ("map"), batches of 256, and one of
  its residual blocks;
- cnn: training of the CNN of the default configuration, one, "map" and side by side ("vmap"), also
  with a learning rate for each model, and with XLA's own convolutions ("lax"), batches of 128;
- between: networks between these two, one and four side by side, with convolutions as matrix
  products ("dot") and XLA's own;
- peer: training in PyTorch on the same network, images on the device, eager and compiled;
- influence: the solve with a Fisher of 1 000 examples on the CNN, and per-example gradients of 256
  examples on ResNet-18, by micro-batch;
- vmap: several ResNet-18 side by side;
- networks: ResNet-50, and VGG-16 on images of 64×64, one and four side by side;
- unlearners: an epoch of each unlearning algorithm on a ResNet-18, S a class a tenth as large as
  its complement, or all of it for those that work at once.

Prints a line for each measurement: the median, least and most milliseconds of the runs after
compilation, for a step and model where training is measured. float32 has the default precision of
JAX and PyTorch, which is TF32 on recent NVIDIA devices, except where the name says "highest".

Each part runs in a process of its own and gets a share of the minutes. No measurement begins after
its part's share is over, and one that hangs is ended; either is reported as missing. `--only`
leaves out all other measurements. `--small` tries the first two of each part, or those that are
named, on any device, a CPU too; its numbers mean nothing. `--out` keeps everything measured, a JSON
object a line, as soon as it is there. The last line printed is a JSON object with the seconds of
all measurements.
"""

import argparse
import gc
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback
from importlib import metadata
from typing import Any, NamedTuple

import jax
from accelerator_sizes import FULL, SMALL
from accelerator_training import block, peer, training
from accelerator_unlearning import ALGORITHMS, per_example, solve, unlearning

GRACE = 60
"""Seconds after the end of a part's share at which its process is ended."""
NO_ACCELERATOR = 2
"""The exit code of a process that finds only a CPU."""


class Part(NamedTuple):
    """What one process measures, the most important first."""

    share: float
    """of the time, relative to the others"""
    measurements: dict[str, tuple[Any, ...]]
    """a function and its arguments after the scale, by name"""


def by_form(network, precision, *arrangements):
    """Returns the measurements of a network's training by products and by XLA's convolutions."""
    return {
        f"{network} {precision} {title} {form}": (
            training,
            network,
            precision,
            within,
            count,
            None,
            form,
        )
        for title, within, count in arrangements
        for form in ("dot", "lax")
    }


ONE, SIDE_BY_SIDE = ("one", "map", 1), ("vmap 4", "vmap", 4)

PARTS = {
    "resnet18": Part(
        20,
        {
            "bfloat16 one": (training, "resnet18", "bfloat16"),
            "float32 one": (training, "resnet18", "float32"),
            "float32 highest one": (training, "resnet18", "float32", "map", 1, "highest"),
            "bfloat16 map 4": (training, "resnet18", "bfloat16", "map", 4),
            "block bfloat16": (block, "bfloat16"),
        },
    ),
    "cnn": Part(
        14,
        {
            "float32 one": (training, "cnn", "float32"),
            "float32 vmap 16": (training, "cnn", "float32", "vmap", 16),
            "float32 vmap 16, a rate each": (
                training,
                "cnn",
                "float32",
                "vmap",
                16,
                None,
                None,
                True,
            ),
            "float32 vmap 64": (training, "cnn", "float32", "vmap", 64),
            "float32 map 16": (training, "cnn", "float32", "map", 16),
            "float32 vmap 16 lax": (training, "cnn", "float32", "vmap", 16, None, "lax"),
            "bfloat16 vmap 16": (training, "cnn", "bfloat16", "vmap", 16),
            "float32 highest vmap 16": (training, "cnn", "float32", "vmap", 16, "highest"),
        },
    ),
    "between": Part(
        28,
        {
            **by_form("cnn 4 times as wide", "float32", ONE, SIDE_BY_SIDE),
            **by_form("resnet18 16 wide", "bfloat16", ONE, SIDE_BY_SIDE),
            **by_form("resnet18 32 wide", "bfloat16", ONE),
        },
    ),
    "peer": Part(
        15,
        {
            "resnet18 bfloat16 eager": (peer, "resnet18", "bfloat16"),
            "resnet18 bfloat16 compiled, reduce-overhead": (
                peer,
                "resnet18",
                "bfloat16",
                "reduce-overhead",
            ),
            "cnn float32 compiled, reduce-overhead": (peer, "cnn", "float32", "reduce-overhead"),
            "resnet18 float32 eager": (peer, "resnet18", "float32"),
            "cnn float32 eager": (peer, "cnn", "float32"),
            "resnet18 bfloat16 compiled": (peer, "resnet18", "bfloat16", "default"),
        },
    ),
    "influence": Part(
        10,
        {
            "solve, micro-batch 256": (solve, 256),
            "solve, micro-batch 1000": (solve, 1000),
            "per example bfloat16, micro-batch 32": (per_example, "bfloat16", 32),
            "per example bfloat16, micro-batch 128": (per_example, "bfloat16", 128),
            "per example bfloat16, micro-batch 8": (per_example, "bfloat16", 8),
            "solve, micro-batch 32": (solve, 32),
            "per example float32, micro-batch 32": (per_example, "float32", 32),
        },
    ),
    "vmap": Part(
        16,
        {
            "bfloat16 vmap 8": (training, "resnet18", "bfloat16", "vmap", 8),
            "float32 vmap 4": (training, "resnet18", "float32", "vmap", 4),
            "bfloat16 vmap 4": (training, "resnet18", "bfloat16", "vmap", 4),
            "bfloat16 vmap 2": (training, "resnet18", "bfloat16", "vmap", 2),
        },
    ),
    "networks": Part(
        16,
        {
            "vgg16 bfloat16 one": (training, "vgg16", "bfloat16"),
            "vgg16 bfloat16 vmap 4": (training, "vgg16", "bfloat16", "vmap", 4),
            "resnet50 bfloat16 one": (training, "resnet50", "bfloat16"),
            "resnet50 bfloat16 vmap 4": (training, "resnet50", "bfloat16", "vmap", 4),
        },
    ),
    "unlearners": Part(
        30,
        {
            name: (unlearning, name)
            for name in dict.fromkeys(("finetune", "neggrad_plus", "scrub", "salun", *ALGORITHMS))
        },
    ),
}


def machine():
    """Describes the device and the versions."""
    device = jax.local_devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "jax": jax.__version__,
        "jaxlib": metadata.version("jaxlib"),
        "flax": metadata.version("flax"),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def names_of(part, small, only):
    """Lists what a part measures, if it is asked for; the first two if everything is small."""
    names = list(PARTS[part].measurements)
    if only:
        return [name for name in names if name in only]
    return names[:2] if small else names


def work(part, until, small, only, path):
    """Measures a part, in a process of its own, and appends what it finds to a file."""

    def note(**line):
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    # PyTorch should have the device for itself.
    if part != "peer":
        about = machine()
        if about["platform"] == "cpu" and not small:
            sys.exit(NO_ACCELERATOR)
        note(machine=about)

    for name in names_of(part, small, only):
        title = f"{part}: {name}"
        if time.time() > until:
            note(name=title, missing="no time was left")
            continue
        function, *arguments = PARTS[part].measurements[name]
        try:
            result = function(SMALL if small else FULL, *arguments)
        except Exception as error:
            # The others do not depend on it.
            traceback.print_exc()
            note(name=title, missing=f"{type(error).__name__}: {error}".split("\n")[0][:300])
        else:
            note(name=title, **result)
            print(row(title, result), flush=True)
        gc.collect()


def row(title, result):
    """Formats a measurement as a line."""
    middle, least, most = (1000 * result[key] for key in ("seconds", "least", "most"))
    line = f"{title:<45}{middle:>11.3f} ({least:.3f}–{most:.3f}) ms × {result['runs']}"
    line += f", compiled in {result['compile_seconds']:.1f} s"
    if "model_epochs_per_hour" in result:
        line += f", {result['model_epochs_per_hour']} model epochs an hour"
    if result["peak_gib"] is not None:
        line += f", at most {result['peak_gib']} GiB so far"
    return line


def measure(part, until, end, small, only, path):
    """Runs the process of a part, and notes what it did not come to."""
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(part, until, small, only, path)
    )
    process.start()
    try:
        process.join(max(0, min(end, until + GRACE) - time.time()))
        too_slow = process.is_alive()
    finally:
        process.kill()
        process.join()
    if process.exitcode == NO_ACCELERATOR:
        sys.exit("no accelerator found; --small tries the script on a CPU")

    # A process that is killed may leave half a line.
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    known = {line.get("name") for line in lines}
    missing = "no time was left" if too_slow else f"its process ended, code {process.exitcode}"
    for title in (f"{part}: {name}" for name in names_of(part, small, only)):
        if title not in known:
            lines.append({"name": title, "missing": missing})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="for everything")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measurements of these parts")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--out", type=pathlib.Path, help="a file for all that is measured")
    arguments = parser.parse_args()

    # Memory is only measured where it is taken as needed, and compilation where it is not kept.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    # Whoever ends this process ends that of the part, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))

    # One part after another, each with its share of the time that is left.
    end = time.time() + 60 * arguments.minutes
    waiting = list(arguments.parts)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.out or pathlib.Path(folder, "measurements")
        path.write_text("")
        while waiting:
            shares = [PARTS[part].share for part in waiting]
            now = time.time()
            until = now + (end - now) * shares[0] / sum(shares)
            part, small = waiting.pop(0), arguments.small
            lines = measure(part, until, end, small, arguments.only, path)

    # What was not measured, then everything in a line.
    about, seconds, missing = {}, {}, {}
    for line in lines:
        if "machine" in line:
            about = line["machine"]
        elif "missing" in line:
            missing[line["name"]] = line["missing"]
        else:
            seconds[line["name"]] = line["seconds"]
    for title, why in missing.items():
        print(f"{title}: {why}")
    print(json.dumps({"name": "accelerator", **about, "seconds": seconds, "missing": missing}))


if __name__ == "__main__":
    main()
