"""What training costs on an accelerator: of rumjax, by arrangement and precision; of PyTorch."""

import contextlib
import dataclasses
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from accelerator_sizes import (
    MEAN,
    STD,
    dataset_of,
    digest,
    gibibytes,
    images_of,
    memory,
    model_of,
    timed,
)

from rumjax import ensemble, retrain
from rumjax.models.conv import OVERRIDE
from rumjax.models.resnet import BasicBlock


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
