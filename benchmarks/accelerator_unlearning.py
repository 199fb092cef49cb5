"""What unlearning costs on an accelerator: algorithms by name, and gradients of examples."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from accelerator_sizes import dataset_of, digest, images_of, memory, model_of, timed, variables_of

from rumjax import chain, gradients, run, task, unlearn
from rumjax.lab.informing import blank
from rumjax.lab.options import names_of
from rumjax.types import Dataset, subset

ALGORITHMS = [name for name in unlearn.ALGORITHMS if name not in ("original", "retrain")]


def unlearner_of(name, scale):
    """Makes an algorithm that works on a ResNet-18 for an epoch more than is timed, or once."""
    size = scale.sizes["resnet18"]
    factory = unlearn.ALGORITHMS[name]
    names = names_of(factory)
    offered = {
        "epochs": scale.runs + 1,
        "max_epochs": 1,
        "batch_size": size.batch,
        "learning_rate": 1e-4,
        "num_classes": 10,
        "fisher_examples": scale.fisher,
    }
    options = {option: value for option, value in offered.items() if option in names}
    return factory(model_of("resnet18", size, "bfloat16"), **options)


def unlearning(scale, name):
    """Measures an epoch of unlearning, or all of what works at once.

    S is a class, which some algorithms want, and has a tenth as many examples as its complement.
    Facts from outside D are zeros.
    """
    # S first, of class 0, and the others after it.
    size = scale.sizes["resnet18"]
    retain = size.steps * size.batch
    forget = max(size.steps // 10, 1) * size.batch
    count = forget + retain
    images, labels = images_of((count, *size.images[1:]))
    labels = np.where(np.arange(count) < forget, 0, 1 + labels % 9).astype(np.int32)
    dataset = Dataset(jnp.asarray(images), jnp.asarray(labels))

    # Compile.
    unlearner = unlearner_of(name, scale)
    steps = blank(chain(task(np.arange(forget), count), unlearner), count, 10)
    variables = variables_of(unlearner.model, dataset)
    begin = time.perf_counter()
    unlearn.warm_up(steps, variables, dataset)
    compile_seconds = time.perf_counter() - begin

    def epochs():
        clock = [time.perf_counter()]

        def look(epoch):
            clock.append(time.perf_counter())

        run(jax.random.key(0), steps, variables, dataset, on_epoch=look)
        return np.diff(clock)

    # The first epoch includes what an algorithm begins with, SCRUB's teacher for instance.
    at_once = unlearner.epochs == 1
    seconds = [epochs()[0] for _ in range(scale.runs + 1)] if at_once else epochs()
    first, *others = seconds
    return digest(
        others,
        compile_seconds=compile_seconds,
        first_epoch_longer_by_seconds=float(first - np.median(others)),
        gradients_of_examples=unlearner.gradients(forget, retain, dataset) // unlearner.epochs,
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
