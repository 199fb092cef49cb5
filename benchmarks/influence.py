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
import json
import pathlib
import statistics
import tempfile
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pairs
import peers
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

    @jax.jit
    def gradient(params, image, label):
        def loss(params):
            return example_losses(model, params, variables, image[None], label[None])[0]

        return ravel_pytree(jax.grad(loss)(params))[0]

    def rows(count):
        each = (gradient(variables.params, images[i], labels[i]) for i in range(count))
        return np.stack([np.asarray(row) for row in each])

    # By JAX and not by NumPy, whose BLAS has threads of its own that are in the way of JAX's.
    @jax.jit
    def solved(found):
        system = found @ found.T + DAMPING * fisher * jnp.eye(fisher)
        weights = jax.scipy.linalg.solve(system, found @ direction, assume_a="pos")
        return unravel((direction - weights @ found) / DAMPING)

    def solve():
        return flat(solved(rows(fisher)))

    return (lambda: rows(examples)), solve


class Torch:
    """PyTorch in a process of its own: thread pools of both sides would disturb each other."""

    def __init__(self, problem, path):
        model, variables, dataset, vector, fisher, examples = problem
        images = dataset.images[: max(fisher, examples)]
        parameters = {f"parameter{i}": p for i, p in enumerate(peers.from_cnn(variables.params))}
        np.savez(
            path,
            images=images,
            labels=dataset.labels[: len(images)],
            logits=model.apply(variables, images, train=False)[0].logits,
            mean=model.mean,
            std=model.std,
            vector=flat(vector),
            **parameters,
        )
        script = pathlib.Path(__file__).with_name("peer_gradients.py")
        sizes = ["--fisher", fisher, "--examples", examples, "--damping", DAMPING]
        self.peer = pairs.Peer(script, "--problem", path, *sizes)
        print(f"PyTorch: {json.dumps(self.peer.about)}", flush=True)

    def way(self, name):
        """What it does by that name, as `rumjax` and `jax_loop` give it."""

        def ask(what):
            self.peer.tell(what, name)
            return self.peer.answer()["found"]

        return (lambda: ask("gradients")), (lambda: np.load(ask("solve")))


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

    jax.config.update("jax_platforms", "cpu")
    problem = problem_of(arguments.fisher, arguments.examples)
    take, solve = rumjax(problem)
    folder = tempfile.TemporaryDirectory()
    torch = Torch(problem, pathlib.Path(folder.name, "problem.npz"))
    ways = {"jax loop": jax_loop(problem)}
    ways |= {f"torch {name}": torch.way(name) for name in ("loop", "vmap")}
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
    torch.peer.close()
    folder.cleanup()
    pairs.finish(
        "influence",
        **{part: {what: each[part] for what, each in found.items()} for part in PARTS},
        relative_error=errors,
        fisher=arguments.fisher,
        examples=arguments.examples,
        runs=arguments.runs,
        threads=torch.peer.about["threads"],
        torch=torch.peer.about["torch"],
    )


if __name__ == "__main__":
    main()
