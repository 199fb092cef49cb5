"""What holds for every algorithm there is, found in one compiled run of each.

It has several lanes of `jax.vmap`: the same model twice, another S, another R.
"""

import inspect
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rumjax
from rumjax.models import Model
from rumjax.types import Dataset, Outputs, Variables, task
from rumjax.unlearn import ALGORITHMS, CARDS, chain, run_pure
from rumjax.unlearn.steps import facts_of
from tests.references import small

SIZE, CLASSES = 36, 3
FORGET = np.arange(0, SIZE, CLASSES)
"""all of one class, since some algorithms forget nothing less"""
KEY = jax.random.key(5)
LANES = ("base", "again", "other S", "other R")


class Pooled(nn.Module):
    """A convolution, batch norm and the means of its channels: what every algorithm can work on."""

    @nn.compact
    def __call__(self, images, train):
        hidden = nn.Conv(5, (3, 3), use_bias=False)(images)
        hidden = nn.BatchNorm(use_running_average=not train, momentum=0.9)(hidden)
        hidden = nn.relu(hidden).mean((1, 2))
        return Outputs(nn.Dense(CLASSES)(hidden), hidden)


MODEL = Model(Pooled())


def images_of(seed):
    labels = np.arange(SIZE) % CLASSES
    random = np.random.default_rng(seed)
    prototypes = np.random.default_rng(0).integers(0, 256, (CLASSES, 4, 4, 1))
    images = prototypes[labels] + random.normal(0, 50, (SIZE, 4, 4, 1))
    return np.clip(images, 0, 255).astype(np.uint8), labels.astype(np.int32)


@pytest.fixture(scope="module")
def start():
    """A model that knows the data, and not by heart."""
    data = Dataset(*map(jnp.asarray, images_of(0)))
    recipe = rumjax.retrain(MODEL, epochs=6, batch_size=12, learning_rate=0.1)
    return rumjax.run(jax.random.key(0), chain(task([], SIZE), recipe), None, data)


def unlearner(name):
    """The algorithm with small settings, and facts of some kind."""
    factory = ALGORITHMS[name]
    options = {key: value for key, value in small.OWN[name].items() if key != "mask_fraction"}
    taken = inspect.signature(factory).parameters
    if "options" in taken and "epochs" not in options:
        options["epochs"] = 2
    if {"batch_size", "options"} & taken.keys():
        options["batch_size"] = 8
    made = factory(MODEL, **options)
    shapes = {"N": SIZE, "K": CLASSES}
    facts = {
        field: np.full([shapes[axis] for axis in about.metadata["fact"]], 1 / CLASSES, np.float32)
        for field, about in facts_of(made).items()
    }
    if "held_out_accuracy" in facts:  # so low that there is something to forget
        facts["held_out_accuracy"] = np.float32(0)
    return made if not facts else factory(MODEL, **options, **facts)


def lanes():
    """Images of every lane, and labels; what differs, differs everywhere it can."""
    base, other = images_of(0), images_of(1)
    forgotten = np.isin(np.arange(SIZE), FORGET)
    kinds = {"other S": forgotten, "other R": ~forgotten}
    images = []
    for lane in LANES:
        changed = kinds.get(lane, np.zeros(SIZE, bool))[:, None, None, None]
        images.append(np.where(changed, 255 - other[0], base[0]))
    return jnp.asarray(np.stack(images)), jnp.asarray(base[1])


@pytest.fixture(scope="module", params=list(ALGORITHMS))
def made(request, start):
    """The models of all lanes, and what makes that of the first by itself."""
    images, labels = lanes()
    steps = chain(task(FORGET, SIZE), unlearner(request.param))

    def run_lane(images):
        return run_pure(KEY, steps, start, Dataset(images, labels))

    together = jax.tree.map(np.asarray, jax.jit(jax.vmap(run_lane))(images))
    leaves, structure = jax.tree.flatten(together)
    by_lane = {
        lane: jax.tree.unflatten(structure, [leaf[place] for leaf in leaves])
        for place, lane in enumerate(LANES)
    }
    return request.param, by_lane, lambda: jax.jit(run_lane)(images[0])


def same(first: Variables, second: Variables) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(one.tobytes() == other.tobytes() for one, other in pairs)


def test_every_algorithm_keeps_what_all_must_keep(made):
    name, lanes, _ = made
    needs = CARDS[ALGORITHMS[name]].needs

    # A model that is finite, and the same each time.
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(lanes["base"]))
    assert same(lanes["base"], lanes["again"])

    # It looks at S and R if its card says so, and else does not.
    assert same(lanes["base"], lanes["other S"]) == ("S" not in needs)
    assert same(lanes["base"], lanes["other R"]) == ("R" not in needs)


def test_a_model_beside_others_is_the_one_by_itself(made):
    _, lanes, alone = made
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
        lanes["base"],
        alone(),
    )


def test_every_algorithm_has_a_card_and_is_in_the_table():
    page = (small.ROOT / "docs" / "methods.md").read_text()
    assert {ALGORITHMS[name] for name in ALGORITHMS} <= CARDS.keys()
    assert rumjax.unlearn.table(ALGORITHMS) in page
    assert set(ALGORITHMS) <= set(re.findall(r"^### (\w+)$", page, re.MULTILINE))


def test_the_readme_names_every_algorithm():
    readme = (small.ROOT / "README.md").read_text()
    linked = re.findall(r"\[(\w+)\]\(docs/methods\.md#(\w+)\)", readme)
    assert sorted(linked) == sorted((name, name) for name in ALGORITHMS)
