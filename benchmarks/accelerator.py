"""What training and unlearning cost on an accelerator, by precision, arrangement and algorithm.

    python benchmarks/accelerator.py [--minutes 15] [--parts resnet18 cnn] [--small] [--out FILE]

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
- unlearners: unlearning of a ResNet-18.

Prints a line for each measurement: the median, least and most milliseconds of the runs after
compilation, for a step and model where training is measured. float32 has the default precision of
JAX and PyTorch, which is TF32 on recent NVIDIA devices, except where the name says "highest".

Each part runs in a process of its own and gets a share of the minutes. No measurement begins after
its part's share is over, and one that hangs is ended; either is reported as missing. `--small`
tries the first two measurements of each part on any device, a CPU too; its numbers mean nothing.
`--out` keeps everything measured, a JSON object a line, as soon as it is there. The last line
printed is a JSON object with the seconds of all measurements.
"""

import argparse
import contextlib
import dataclasses
import functools
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
import jax.numpy as jnp
import numpy as np

from rumjax import chain, ensemble, gradients, models, retrain, run, task, unlearn
from rumjax.models.conv import OVERRIDE
from rumjax.models.resnet import BasicBlock
from rumjax.types import Dataset, subset

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
GRACE = 60
"""Seconds after the end of a part's share at which its process is ended."""
NO_ACCELERATOR = 2
"""The exit code of a process that finds only a CPU."""


class Size(NamedTuple):
    """How a network is trained."""

    images: tuple[int, int, int, int]
    batch: int
    steps: int
    """in an epoch of one model; several models share them"""
    fewest_steps: int
    """in an epoch of each of several models"""
    bank: int
    """examples that a model of a bank is trained on, for epochs per hour"""
    options: dict[str, Any] = {}  # noqa: RUF012 (nobody writes to it)


class Scale(NamedTuple):
    """How much of everything is measured."""

    sizes: dict[str, Size]
    runs: int
    fisher: int
    """examples of the Fisher"""
    gradients: int
    """examples whose gradients are taken one by one"""
    channels: int
    """of the residual block"""


FULL = Scale(
    {
        "resnet18": Size((50_000, 32, 32, 3), 256, 40, 8, 35_000),
        "cnn": Size((6_000, 28, 28, 1), 128, 40, 40, 3_000),
        "resnet50": Size((5_000, 32, 32, 3), 256, 10, 10, 35_000),
        "vgg16": Size((5_000, 64, 64, 3), 256, 10, 10, 35_000),
        "resnet18 16 wide": Size((50_000, 32, 32, 3), 256, 40, 8, 35_000, {"width": 16}),
        "resnet18 32 wide": Size((50_000, 32, 32, 3), 256, 40, 8, 35_000, {"width": 32}),
        "cnn 4 times as wide": Size(
            (6_000, 28, 28, 1), 128, 40, 40, 3_000, {"widths": (64, 128, 256)}
        ),
    },
    runs=5,
    fisher=1000,
    gradients=256,
    channels=64,
)
SMALL = Scale(
    {
        "resnet18": Size((64, 8, 8, 3), 4, 4, 2, 48, {"width": 8, "depths": (1,)}),
        "cnn": Size((256, 28, 28, 1), 16, 8, 8, 128, {"widths": (4, 8, 8), "hidden": 16}),
        "resnet50": Size((64, 8, 8, 3), 4, 2, 2, 48, {"width": 4, "depths": (1,)}),
        "vgg16": Size((64, 32, 32, 3), 4, 2, 2, 48, {"width": 8}),
        "resnet18 16 wide": Size((64, 8, 8, 3), 4, 4, 2, 48, {"width": 4, "depths": (1,)}),
        "resnet18 32 wide": Size((64, 8, 8, 3), 4, 4, 2, 48, {"width": 8, "depths": (1,)}),
        "cnn 4 times as wide": Size((256, 28, 28, 1), 16, 8, 8, 128, {"widths": (8, 8, 16)}),
    },
    runs=2,
    fisher=20,
    gradients=8,
    channels=8,
)


@functools.cache
def images_of(shape):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, shape, np.uint8)
    return images, rng.integers(0, 10, len(images)).astype(np.int32)


@functools.cache
def dataset_of(shape):
    return Dataset(*map(jnp.asarray, images_of(shape)))


def model_of(network, size, precision):
    channels = size.images[-1]
    return models.build(
        network.split()[0],
        10,
        mean=MEAN[:channels],
        std=STD[:channels],
        bfloat16=precision == "bfloat16",
        options=size.options,
    )


def variables_of(model, dataset):
    return jax.jit(lambda key: model.init(key, dataset.images[:1]))(jax.random.key(0))


def digest(seconds, **others):
    """Summarizes the runs of a measurement."""
    return {
        "seconds": float(np.median(seconds)),
        "least": float(np.min(seconds)),
        "most": float(np.max(seconds)),
        "runs": len(seconds),
        **others,
    }


def gibibytes(size):
    return None if size is None else round(size / 2**30, 3)


def memory():
    """Returns the most memory that was in use since the process began; None where unknown."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    return {"peak_gib": gibibytes(statistics.get("peak_bytes_in_use"))}


def timed(scale, function, *arguments, per=1):
    """Compiles a function, then times runs of it; seconds are divided by `per`."""
    # Compile, and run once to warm up.
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - begin
    analysis = compiled.memory_analysis()
    temporary = None if analysis is None else analysis.temp_size_in_bytes
    jax.block_until_ready(compiled(*arguments))

    # Time the runs.
    seconds = []
    for _ in range(scale.runs):
        begin = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append((time.perf_counter() - begin) / per)
    return digest(
        seconds, compile_seconds=compile_seconds, temporary_gib=gibibytes(temporary), **memory()
    )


@contextlib.contextmanager
def convolutions_by(method):
    """Has convolutions take a form, "dot" or "lax", where one is given."""
    if method is None:
        yield
        return
    # What was traced with another form is not to be used again.
    jax.clear_caches()
    os.environ[OVERRIDE] = method
    try:
        yield
    finally:
        del os.environ[OVERRIDE]
        jax.clear_caches()


def training(
    scale,
    network,
    precision,
    within="map",
    count=1,
    matmul_precision=None,
    convolutions=None,
    settings=False,
):
    """Measures a step of a bank's training, for each of the models on the device.

    What an epoch costs besides its steps is found by epochs of one step, and subtracted. With
    `settings`, every model has a learning rate of its own.
    """
    # A work of as many models as the device holds, each on a subset of its own.
    size = scale.sizes[network]
    dataset = dataset_of(size.images)
    steps = max(size.steps // count, size.fewest_steps, 2)
    recipe = retrain(
        model_of(network, size, precision),
        epochs=scale.runs + 1,
        batch_size=size.batch,
        learning_rate=0.01,
    )
    orders = [np.random.default_rng(i).permutation(len(dataset.images)) for i in range(count)]
    subsets = np.stack(orders)[:, : steps * size.batch].astype(np.int32)
    names = [f"model {i}" for i in range(count)]
    full = ensemble.training(recipe, names, jax.random.split(jax.random.key(0), count), subsets)
    if settings:
        (step,) = full.steps
        rates = np.geomspace(1e-3, 1e-1, count).astype(np.float32)
        several = dataclasses.replace(step.unlearner, learning_rate=rates)
        full = full._replace(steps=[step._replace(unlearner=several)])

    # The same work on a batch each, by the same compiled program.
    (step,) = full.steps
    batch = step.task._replace(retain=step.task.retain._replace(size=jnp.int32(size.batch)))
    short = full._replace(steps=[step._replace(task=batch)])

    # Train both, and look at the clock after every epoch.
    clock = []
    with jax.default_matmul_precision(matmul_precision), convolutions_by(convolutions):
        made = list(
            ensemble.run(
                [full, short],
                dataset,
                read=ensemble.nothing,
                devices=jax.local_devices()[:1],
                per_device=count,
                within=within,
                on_epoch=lambda epoch: clock.append(time.perf_counter()),
                diverging="noted",
            )
        )
    epochs = np.diff(clock[: scale.runs + 1])
    one_step = float(np.median(np.diff(clock[scale.runs + 1 :])))
    seconds = (epochs - one_step) / ((steps - 1) * count)
    overhead = one_step - count * float(np.median(seconds))

    # The epoch of a model of a bank, with its share of the overhead.
    bank_steps = -(-size.bank // size.batch)
    bank_epoch = bank_steps * float(np.median(seconds)) + overhead / count
    return digest(
        seconds,
        compile_seconds=made[0].compile_seconds,
        model_epochs_per_hour=round(3600 / bank_epoch),
        epoch_overhead_seconds=overhead,
        steps=steps,
        models=count,
        batch=size.batch,
        **memory(),
    )


def unlearning(scale, name):
    """Measures a step of unlearning; S has a tenth as many examples as its complement."""
    # Steps of one algorithm on a ResNet-18.
    size = scale.sizes["resnet18"]
    forget_steps = max(size.steps // 10, 1)
    count = (forget_steps + size.steps) * size.batch
    dataset, model = dataset_of((count, *size.images[1:])), model_of("resnet18", size, "bfloat16")
    request = task(np.arange(forget_steps * size.batch), count)
    options = {"epochs": scale.runs + 1, "batch_size": size.batch, "learning_rate": 1e-4}
    options |= {"scrub": {"max_epochs": 1}, "salun": {"num_classes": 10}}.get(name, {})
    steps = chain(request, unlearn.ALGORITHMS[name](model, **options))
    variables = variables_of(model, dataset)

    # Compile, then run, and look at the clock after every epoch.
    begin = time.perf_counter()
    unlearn.warm_up(steps, variables, dataset)
    compile_seconds = time.perf_counter() - begin
    clock = [time.perf_counter()]
    run(
        jax.random.key(0),
        steps,
        variables,
        dataset,
        on_epoch=lambda epoch: clock.append(time.perf_counter()),
    )

    # The first epoch includes what is done once, such as SCRUB's maximization.
    first, *epochs = np.diff(clock)
    count = size.steps + (forget_steps if name == "salun" else 0)
    return digest(
        np.array(epochs) / count,
        compile_seconds=compile_seconds,
        first_epoch_longer_by_seconds=float(first - np.median(epochs)),
        steps=count,
        batch=size.batch,
        **memory(),
    )


def solve(scale, micro_batch):
    """Measures (F + λI)⁻¹ v on the CNN."""
    size = scale.sizes["cnn"]
    dataset, model = dataset_of(size.images), model_of("cnn", size, "float32")
    variables = variables_of(model, dataset)
    vector = jax.tree.map(lambda leaf: jnp.full_like(leaf, 1e-3), variables.params)

    def solution(variables, dataset, chosen, vector):
        return gradients.fisher_solve(
            model, variables, dataset, chosen, vector, damping=1e-3, micro_batch=micro_batch
        )

    chosen = subset(np.arange(scale.fisher))
    return timed(scale, solution, variables, dataset, chosen, vector)


def per_example(scale, precision, micro_batch):
    """Measures |∇ CE| of an example, of many that are summed up, on ResNet-18."""
    size = scale.sizes["resnet18"]
    dataset, model = dataset_of(size.images), model_of("resnet18", size, precision)

    def magnitude(variables, dataset, chosen):
        return gradients.mean_gradient_magnitude(
            model, variables, dataset, chosen, batch_size=micro_batch
        )

    variables, chosen = variables_of(model, dataset), subset(np.arange(scale.gradients))
    return timed(scale, magnitude, variables, dataset, chosen, per=scale.gradients)


def block(scale, precision):
    """Measures a residual block on a batch, forward and backward."""
    dtype = jnp.dtype(precision)
    network = BasicBlock(scale.channels, 1, dtype)
    size = scale.sizes["resnet18"]
    shape = (size.batch, *size.images[1:3], scale.channels)
    images = jax.random.normal(jax.random.key(0), shape, dtype)
    variables = jax.jit(lambda: network.init(jax.random.key(0), images[:1], True))()

    def slopes(variables, images):
        def loss(variables, images):
            outputs, _ = network.apply(variables, images, True, mutable=["batch_stats"])
            return jnp.mean(outputs.astype(jnp.float32) ** 2)

        return jax.grad(loss, argnums=(0, 1))(variables, images)

    return timed(scale, slopes, variables, images)


def peer(scale, network, precision, mode=None):
    """Measures a step of PyTorch: images on the device, normalized there batch by batch."""
    import peers
    import torch

    # Images as [N, H, W, C] on the device, and the network.
    cuda = torch.cuda.is_available()
    if mode and not cuda:
        raise RuntimeError("PyTorch is compiled only for CUDA here")
    torch.backends.cudnn.benchmark = True
    device = "cuda" if cuda else "cpu"
    size = scale.sizes[network]
    channels = size.images[-1]
    images, labels = (torch.from_numpy(array).to(device) for array in images_of(size.images))
    labels = labels.long()
    mean, std = (
        torch.tensor(moment[:channels], device=device).reshape(-1, 1, 1) for moment in (MEAN, STD)
    )
    if network == "resnet18":
        net = peers.resnet18(channels, width=size.options.get("width", 64))
    else:
        net = peers.cnn(channels)
    net = net.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=cuda
    )

    def loss_of(batch, labels):
        inputs = batch.permute(0, 3, 1, 2).float().div(255).sub(mean).div(std)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = net(inputs.contiguous(memory_format=torch.channels_last))
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    objective = torch.compile(loss_of, mode=mode) if mode else loss_of

    def epoch(steps):
        order = torch.randperm(len(images), device=device)
        for step in range(steps):
            chosen = order[step * size.batch : (step + 1) * size.batch]
            optimizer.zero_grad(set_to_none=True)
            objective(images[chosen], labels[chosen]).backward()
            optimizer.step()
        if cuda:
            torch.cuda.synchronize()

    # Three steps compile, and choose cuDNN's algorithms; an epoch warms up.
    begin = time.perf_counter()
    epoch(3)
    compile_seconds = time.perf_counter() - begin
    epoch(size.steps)

    # Time the runs.
    seconds = []
    for _ in range(scale.runs):
        begin = time.perf_counter()
        epoch(size.steps)
        seconds.append((time.perf_counter() - begin) / size.steps)
    return digest(
        seconds,
        compile_seconds=compile_seconds,
        steps=size.steps,
        models=1,
        batch=size.batch,
        peak_gib=gibibytes(torch.cuda.max_memory_allocated() if cuda else None),
        torch=torch.__version__,
        tf32_convolutions=torch.backends.cudnn.allow_tf32,
        tf32_products=torch.backends.cuda.matmul.allow_tf32,
    )


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
        6,
        {name: (unlearning, name) for name in ("finetune", "neggrad_plus", "scrub", "salun")},
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


def names_of(part, small):
    """Lists what a part measures; only the first two if everything is small."""
    return list(PARTS[part].measurements)[: 2 if small else None]


def work(part, until, small, path):
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

    for name in names_of(part, small):
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


def measure(part, until, end, small, path):
    """Runs the process of a part, and notes what it did not come to."""
    process = multiprocessing.get_context("spawn").Process(
        target=work, args=(part, until, small, path)
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
    for title in (f"{part}: {name}" for name in names_of(part, small)):
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
            lines = measure(waiting.pop(0), until, end, arguments.small, path)

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
