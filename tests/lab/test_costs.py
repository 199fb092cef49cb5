"""Gradients are counted as they are taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax import gradients
from rumjax.descent import Sgd
from rumjax.lab.costs import gradients_of
from rumjax.types import task
from rumjax.unlearn import ALGORITHMS, chain, run

FORGET = np.arange(0, 60, 5)
OPTIONS = {
    "neggrad_plus": {"epochs": 2},
    "scrub": {"epochs": 3, "max_epochs": 2},
    "salun": {"epochs": 1, "num_classes": 3},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_example_of_every_batch_is_counted(
    data, plain_model, plain_original, monkeypatch, name
):
    counts = []
    batch = Sgd.batch

    def counted(self, *arguments):
        drawn = batch(self, *arguments)
        jax.debug.callback(lambda weights: counts.append(weights.sum()), drawn.weights)
        return drawn

    monkeypatch.setattr(Sgd, "batch", counted)
    options = {**OPTIONS[name], "batch_size": 7}
    steps = chain(task(FORGET, 60), ALGORITHMS[name](plain_model, **options))
    jax.clear_caches()
    run(jax.random.key(0), steps, plain_original, data)
    jax.effects_barrier()
    jax.clear_caches()
    by_mask = len(FORGET) if name == "salun" else 0
    assert gradients_of(steps, data) == sum(counts) + by_mask


def test_the_fisher_is_counted_with_what_memory_makes_it_take_again(
    data, plain_model, plain_original, monkeypatch
):
    """Blocks of gradients are held one beside the other, and taken anew for every pair."""
    taken = []
    gradient_rows = gradients.fisher.gradient_rows

    def counted(model, variables, data, indices, **options):
        jax.debug.callback(lambda chosen: taken.append(len(chosen)), jnp.asarray(indices))
        return gradient_rows(model, variables, data, indices, **options)

    monkeypatch.setattr(gradients.fisher, "gradient_rows", counted)
    one = 4 * sum(leaf.size for leaf in jax.tree.leaves(plain_original.params))
    for held in (one * 100, one * 4):
        monkeypatch.setattr(gradients.fisher, "HELD", held)
        unlearner = ALGORITHMS["influence"](plain_model, fisher_examples=18, micro_batch=2)
        steps = chain(task(FORGET, 60), unlearner)
        taken.clear()
        jax.clear_caches()
        run(jax.random.key(0), steps, plain_original, data)
        jax.effects_barrier()
        jax.clear_caches()
        # Both mean gradients, G v and Gᵀ a; and the Gram matrix.
        assert gradients_of(steps, data) == 12 + 48 + 18 + 18 + sum(taken)
        assert (sum(taken) > 18) == (held == one * 4)


def test_an_unlearner_of_your_own_is_not_counted(data, plain_model):
    class Own(Sgd):
        pass

    steps = chain(task(FORGET, 60), ALGORITHMS["original"](plain_model))
    assert gradients_of(steps, data) == 0
    own = object.__new__(Own)
    assert gradients_of((steps[0]._replace(unlearner=own),), data) is None


@pytest.mark.parametrize(
    ("name", "passes", "over"),
    [("retrain", 3, 48), ("finetune", 3, 48), ("l1_sparse", 3, 48), ("neggrad", 3, 12)],
)
def test_passes_over_one_set_are_as_many_gradients(data, plain_model, name, passes, over):
    steps = chain(task(FORGET, 60), ALGORITHMS[name](plain_model, epochs=passes))
    assert gradients_of(steps, data) == passes * over


def test_looking_uphill_takes_a_gradient_more(data, plain_model):
    for sharpness, times in (("none", 1), ("sam", 2), ("asam", 2)):
        unlearner = ALGORITHMS["finetune"](plain_model, epochs=3, sharpness=sharpness)
        assert gradients_of(chain(task(FORGET, 60), unlearner), data) == times * 3 * 48


def test_every_algorithm_is_counted(data, plain_model):
    needed = {"random_label": {"num_classes": 3}, "salun": {"num_classes": 3}}
    needed["retrain"] = {"epochs": 1}
    for name, factory in ALGORITHMS.items():
        steps = chain(task(FORGET, 60), factory(plain_model, **needed.get(name, {})))
        assert gradients_of(steps, data) is not None
