"""Per-example gradients and the influence solve, against loops and against PyTorch.

    python benchmarks/influence.py [--runs 5]

On the CNN of the default configuration after two epochs: the gradients of 256 examples, and
(F + λI)⁻¹ v with the Fisher of 1 000 examples, as `rumjax.influence` computes it. Peers hold all
gradients at once and solve with the same Gram matrix. They take them by "jax loop", a compiled
gradient and a call an example; "torch loop", autograd an example; "torch vmap", `torch.func`. All
solutions must agree. Prints seconds, and as its last line a JSON object with the ratios
peer/rumjax: above 1, rumjax is faster. Let nothing else run meanwhile.
"""

import argparse
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pairs
import peers
import scipy.linalg
from jax.flatten_util import ravel_pytree

from rumjax import chain, data, gradients, influence, models, retrain, run, task
from rumjax.gradients import example_losses
from rumjax.types import Dataset, subset

DAMPING = 1e-3
IMAGES, FORGOTTEN = 3000, 100
PARTS = ("ratio", "spread", "seconds")


def flat(tree):
    """Like a vector of PyTorch's parameters."""
    return np.concatenate([each.ravel() for each in peers.from_cnn(tree)])


class Problem(NamedTuple):
    """What everybody is given; indices are 0 … fisher - 1 for the Fisher, 0 … examples - 1."""

    model: Any
    variables: Any
    dataset: Any
    vector: Any
    fisher: int
    examples: int


def problem_of(fisher, examples):
    """A model trained briefly, and the direction that `influence` would take."""
    train = data.load("fashion_mnist_mini").train
    images, labels = train.images[:IMAGES], train.labels[:IMAGES]
    dataset = Dataset(jnp.asarray(images), jnp.asarray(labels))
    mean, std = models.channel_statistics(images)
    model = models.build("cnn", 10, mean=mean, std=std)
    recipe = retrain(model, epochs=2, batch_size=128, learning_rate=0.1)
    variables = run(jax.random.key(0), chain(task([], IMAGES), recipe), None, dataset)
    forget = task(np.arange(IMAGES - FORGOTTEN, IMAGES), IMAGES)
    vector = jax.jit(influence(model).direction)(variables, dataset, forget)
    return Problem(model, variables, dataset, vector, fisher, examples)


def rumjax(problem):
    model, variables, dataset, vector, fisher, examples = problem
    images, labels = dataset.images[:examples], dataset.labels[:examples]
    chosen, micro_batch = subset(np.arange(fisher)), influence(model).micro_batch
    together = jax.jit(lambda *given: gradients.per_example_gradients(model, *given))
    solution = jax.jit(
        lambda *given: gradients.fisher_solve(
            model, *given, damping=DAMPING, micro_batch=micro_batch
        )
    )

    def take():
        return jax.block_until_ready(together(variables, images, labels))

    def solve():
        return flat(solution(variables, dataset, chosen, vector))

    return take, solve


def jax_loop(problem):
    model, variables, dataset, vector, fisher, examples = problem
    images, labels = np.asarray(dataset.images), np.asarray(dataset.labels)
    direction, unravel = ravel_pytree(vector)
    direction = np.asarray(direction)

    @jax.jit
    def gradient(params, image, label):
        def loss(params):
            return example_losses(model, params, variables, image[None], label[None])[0]

        return ravel_pytree(jax.grad(loss)(params))[0]

    def rows(count):
        each = (gradient(variables.params, images[i], labels[i]) for i in range(count))
        return np.stack([np.asarray(row) for row in each])

    def solve():
        found = rows(fisher)
        system = found @ found.T + DAMPING * fisher * np.eye(fisher, dtype=np.float32)
        factor = scipy.linalg.cho_factor(system, overwrite_a=True)
        weights = scipy.linalg.cho_solve(factor, found @ direction)
        return flat(unravel((direction - weights @ found) / DAMPING))

    return (lambda: rows(examples)), solve


def torch_way(problem, rows_of):
    """PyTorch, with gradients float32[count, d] by `rows_of(network, images, labels)`."""
    import torch

    model, variables, dataset, vector, fisher, examples = problem
    network = peers.load_cnn(variables.params)
    mean, std = (torch.tensor(each).reshape(-1, 1, 1) for each in (model.mean, model.std))
    images = (peers.turned(dataset.images[: max(fisher, examples)]) / 255 - mean) / std
    labels = torch.from_numpy(np.array(dataset.labels, np.int64))
    direction = torch.from_numpy(flat(vector))
    wanted = model.apply(variables, dataset.images[: len(images)], train=False)[0].logits
    found = network(images).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)

    def rows(count):
        return rows_of(network, images[:count], labels[:count])

    def solve():
        found = rows(fisher)
        system = found @ found.T + DAMPING * fisher * torch.eye(fisher)
        factor = torch.linalg.cholesky(system)
        weights = torch.cholesky_solve((found @ direction)[:, None], factor)[:, 0]
        return ((direction - weights @ found) / DAMPING).numpy()

    return (lambda: rows(examples)), solve


def torch_loop(problem):
    import torch

    def rows_of(network, images, labels):
        parameters, found = list(network.parameters()), []
        for image, label in zip(images, labels, strict=True):
            loss = torch.nn.functional.cross_entropy(network(image[None]), label[None])
            gradient = torch.autograd.grad(loss, parameters)
            found.append(torch.cat([each.flatten() for each in gradient]))
        return torch.stack(found)

    return torch_way(problem, rows_of)


def torch_vmap(problem):
    import torch

    def rows_of(network, images, labels):
        parameters = {name: each.detach() for name, each in network.named_parameters()}

        def loss(parameters, image, label):
            logits = torch.func.functional_call(network, parameters, (image[None],))
            return torch.nn.functional.cross_entropy(logits, label[None])

        gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        found = gradients(parameters, images, labels).values()
        return torch.cat([each.flatten(1) for each in found], dim=1)

    return torch_way(problem, rows_of)


def compared(what, own, others, runs):
    """Ratios peer/ours of each peer, in turn, and everybody's seconds."""
    for function in (own, *others.values()):
        function()  # compilation, and memory that has been in use
    seconds = {name: ([], []) for name in others}
    for number in range(runs):
        for name, other in others.items():
            here, there = pairs.seconds(own), pairs.seconds(other)
            seconds[name][0].append(here)
            seconds[name][1].append(there)
            print(
                f"{what}, run {number + 1}: rumjax {here:.3f} s, {name} {there:.3f} s", flush=True
            )
    digests = {name: pairs.ratios(*each) for name, each in seconds.items()}
    medians = {"rumjax": statistics.median(np.ravel([each[0] for each in seconds.values()]))}
    medians |= {name: statistics.median(each[1]) for name, each in seconds.items()}
    return {
        "ratio": {name: each["ratio"] for name, each in digests.items()},
        "spread": {name: each["spread"] for name, each in digests.items()},
        "seconds": {name: round(each, 3) for name, each in medians.items()},
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--fisher", type=int, default=1000, help="examples of the Fisher")
    parser.add_argument("--examples", type=int, default=256, help="gradients to take")
    arguments = parser.parse_args()

    import torch

    jax.config.update("jax_platforms", "cpu")
    problem = problem_of(arguments.fisher, arguments.examples)
    take, solve = rumjax(problem)
    others = {"jax loop": jax_loop, "torch loop": torch_loop, "torch vmap": torch_vmap}
    ways = {name: way(problem) for name, way in others.items()}
    begin = time.perf_counter()
    wanted = solve()
    first = time.perf_counter() - begin
    print(f"rumjax: first solve, with compilation, {first:.1f} s")
    errors = {}
    for name, (_, other) in ways.items():
        error = np.linalg.norm(other() - wanted) / np.linalg.norm(wanted)
        print(f"{name}: the solution differs by {error:.1e} of its norm", flush=True)
        assert error < 1e-2, name
        errors[name] = float(f"{error:.1e}")
    found = {
        "gradients": compared(
            "gradients", take, {name: way[0] for name, way in ways.items()}, arguments.runs
        ),
        "solve": compared(
            "solve", solve, {name: way[1] for name, way in ways.items()}, arguments.runs
        ),
    }
    pairs.finish(
        "influence",
        **{part: {what: each[part] for what, each in found.items()} for part in PARTS},
        relative_error=errors,
        fisher=arguments.fisher,
        examples=arguments.examples,
        runs=arguments.runs,
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
