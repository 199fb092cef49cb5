"""One regression test for each mistake of earlier code that must not come back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rumjax import forget_sets, metrics
from rumjax.errors import DivergenceError
from rumjax.refine import rum
from rumjax.scores import TrainingDynamics, entanglement_score
from rumjax.types import Scores, Variables, task
from rumjax.unlearn import (
    ALGORITHMS,
    Step,
    base,
    chain,
    neggrad,
    neggrad_plus,
    random_label,
    retrain,
    run,
    salun,
    scrub,
)
from rumjax.unlearn.relabelling import largest, relabelled

KEY = jax.random.key(7)
FORGET = np.arange(0, 60, 5)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def forget_gradient(model, variables, data):
    def loss(params):
        outputs, _ = model.apply(
            variables._replace(params=params), data.images[FORGET], train=False
        )
        return optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits, data.labels[FORGET]
        ).mean()

    return jax.grad(loss)(variables.params)


def test_mistake_1_the_saliency_mask_keeps_the_largest_gradients_at_the_original_model(
    model, original, data
):
    unlearner = salun(model, num_classes=3, mask_fraction=0.3, batch_size=5)
    state = base._start(unlearner, KEY, original, data, task(FORGET, 60))
    assert_equal(state.variables, original)
    magnitude = jax.tree.map(jnp.abs, forget_gradient(model, original, data))
    kept = jax.tree.leaves(jax.tree.map(lambda g, m: g[m], magnitude, state.memory))
    dropped = jax.tree.leaves(jax.tree.map(lambda g, m: g[~m], magnitude, state.memory))
    total = sum(leaf.size for leaf in kept + dropped)
    assert sum(leaf.size for leaf in kept) == int(0.3 * total)
    largest_dropped = max(float(leaf.max()) for leaf in dropped if leaf.size)
    assert min(float(leaf.min()) for leaf in kept if leaf.size) >= largest_dropped * (1 - 1e-5)


def test_mistake_1_the_largest_of_a_tree_are_those_of_its_sorted_magnitudes():
    tree = {"a": jnp.array([3.0, -1.0]), "b": jnp.array([[-4.0, 0.5]])}
    assert_equal(largest(tree, 0.5), {"a": np.array([True, False]), "b": np.array([[True, False]])})


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_mistake_2_redrawn_labels_are_uniform_among_the_other_classes(data, classes):
    forget = task(FORGET, 60).forget
    data = data._replace(labels=data.labels % classes)
    keys = jax.random.split(KEY, 600)
    drawn = jax.vmap(lambda key: relabelled(key, data, forget, classes).labels)(keys)
    assert (drawn[:, FORGET] != data.labels[None, FORGET]).all()
    retained = np.setdiff1d(np.arange(60), FORGET)
    assert (drawn[:, retained] == data.labels[None, retained]).all()
    counts = np.bincount(np.asarray(drawn[:, FORGET[0]]), minlength=classes)
    others = np.delete(counts, int(data.labels[FORGET[0]]))
    assert others.sum() == 600
    # Six standard deviations of a binomial count.
    spread = 6 * np.sqrt(600 / (classes - 1) * (1 - 1 / (classes - 1)))
    assert np.abs(others - 600 / (classes - 1)).max() <= spread


def test_mistake_2_each_epoch_redraws_the_labels(model, original, data):
    unlearner = random_label(model, num_classes=3, learning_rate=0.0, batch_size=16)
    state = unlearner.init(KEY, original, data, task(FORGET, 60))
    after, _ = unlearner.epoch(state, data, task(FORGET, 60))
    first, second = (
        relabelled(jax.random.split(each.key)[1], data, task(FORGET, 60).forget, 3).labels
        for each in (state, after)
    )
    assert (first != second).any()


def test_mistake_3_masked_parameters_stay_bit_identical_under_momentum_and_weight_decay(
    model, original, data
):
    unlearner = salun(
        model, num_classes=3, learning_rate=0.1, weight_decay=0.1, epochs=3, batch_size=16
    )
    mask = base._start(unlearner, KEY, original, data, task(FORGET, 60)).memory
    found = run(KEY, chain(task(FORGET, 60), unlearner), original, data)
    jax.tree.map(
        lambda new, old, kept: np.testing.assert_array_equal(
            np.asarray(new)[~kept].view(np.int32), np.asarray(old)[~kept].view(np.int32)
        ),
        found.params,
        original.params,
        mask,
    )
    moved = jax.tree.map(
        lambda new, old, kept: bool((new != old)[kept].any()), found.params, original.params, mask
    )
    assert any(jax.tree.leaves(moved))


def test_mistake_4_each_step_starts_from_the_result_of_the_one_before(model, original, data):
    first, second = np.split(FORGET, 2)
    unlearner = ALGORITHMS["finetune"](model, epochs=1, batch_size=16, learning_rate=0.1)
    steps = rum(
        FORGET,
        np.setdiff1d(np.arange(60), FORGET),
        refine=lambda _: {"first": first, "second": second},
        select=unlearner,
    )
    together = run(KEY, steps, original, data)
    advance = jax.jit(lambda state, task: unlearner.epoch(state, data, task)[0])
    variables = original
    for position, step in enumerate(steps):
        key = jax.random.fold_in(KEY, position)
        state = advance(unlearner.init(key, variables, data, step.task), step.task)
        variables = state.variables
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        together,
        variables,
    )


def test_mistake_5_entanglement_uses_the_mean_over_all_examples():
    embeddings = np.array([[0.0], [2.0], [4.0], [10.0], [12.0]])
    forget, retain = np.array([3, 4]), np.array([0, 1, 2])
    mean, mean_r, mean_s = 28 / 5, 2.0, 11.0
    within = (4 + 0 + 4) / 3 + (1 + 1) / 2
    between = ((mean_r - mean) ** 2 + (mean_s - mean) ** 2) / 2
    assert entanglement_score(embeddings, forget, retain) == pytest.approx(within / between)
    unweighted = (mean_r + mean_s) / 2
    other = ((mean_r - unweighted) ** 2 + (mean_s - unweighted) ** 2) / 2
    found = entanglement_score(embeddings, forget, retain, grand_mean="unweighted")
    assert found == pytest.approx(within / other)


def test_mistake_6_scrub_takes_max_passes_in_the_first_epochs_only(model, original, data):
    unlearner = scrub(model, epochs=5, max_epochs=2, batch_size=16, learning_rate=1e-3)
    maximized = []
    run(
        KEY,
        chain(task(FORGET, 60), unlearner),
        original,
        data,
        on_epoch=lambda done: maximized.append(done.metrics["max_loss"] != 0.0),
    )
    assert maximized == [True, True, False, False, False]


def test_mistake_6_scrub_moves_the_student_and_never_the_teacher(model, original, data):
    unlearner = scrub(model, epochs=3, max_epochs=1, batch_size=16, learning_rate=0.05)
    before = jax.tree.map(np.array, original)
    chosen = task(FORGET, 60)
    state = base._start(unlearner, KEY, original, data, chosen)
    for _ in range(2):
        state, _, _ = base._advance(unlearner, state, data, chosen)
    assert_equal(state.memory, before)
    assert_equal(original, before)
    pairs = zip(jax.tree.leaves(state.variables), jax.tree.leaves(before), strict=True)
    assert any((new != old).any() for new, old in pairs)


def test_mistake_7_ties_fall_alike_for_every_method():
    values = np.zeros(40, np.float32)
    low = forget_sets.by_score(Scores(values), 8, seed=3)
    again = forget_sets.by_score(Scores(values.copy()), 8, seed=3)
    assert_equal(low, again)
    other = forget_sets.by_score(Scores(values), 8, seed=4)
    assert set(low["low"]) != set(other["low"])
    joined = np.concatenate(list(low.values()))
    assert len(np.unique(joined)) == 24


def test_mistake_8_low_means_well_learned_for_proxies_too():
    labels = np.array([0, 0, 0])
    dynamics = TrainingDynamics(labels)
    dynamics.add(np.array([[0.99, 0.01], [0.6, 0.4], [0.1, 0.9]], np.float32))
    for name, score in dynamics.scores().items():
        if name in ("c_proxy", "binary_accuracy"):
            assert score.values[0] <= score.values[1] <= score.values[2], name
            assert score.values[0] < score.values[2], name
    assert dynamics.scores()["max_confidence"].values[1] == pytest.approx(-0.6)


def test_mistake_9_the_modified_entropy_takes_the_log_of_one_minus_p():
    probabilities = np.array([[0.7, 0.2, 0.1]])
    found = metrics.modified_entropy(probabilities, np.array([0]))
    wanted = -(0.3 * np.log(0.7) + 0.2 * np.log(0.8) + 0.1 * np.log(0.9))
    assert found == pytest.approx([wanted])


def test_mistake_10_the_oracle_is_trained_by_the_recipe_of_the_original(model, data):
    recipe = retrain(model, epochs=6, batch_size=16, schedule="steps", milestones=(2, 4))
    progress = jnp.arange(0, 6, 0.5)
    rates = jnp.array([recipe.rate(each) for each in progress])
    np.testing.assert_allclose(rates, 0.2 ** (progress // 2), rtol=1e-6)
    cosine = retrain(model, epochs=6, batch_size=16)
    optax_cosine = optax.cosine_decay_schedule(1.0, 6)
    np.testing.assert_allclose(
        [cosine.rate(each) for each in progress], [optax_cosine(x) for x in progress], atol=1e-6
    )
    # Same record, same keys, same subset: the oracle of nothing is the original.
    steps = chain(task([], 60), dataclasses.replace(recipe, epochs=2))
    assert_equal(run(KEY, steps, None, data), run(KEY, steps, None, data))


def test_mistake_11_divergence_names_algorithm_epoch_and_batch(model, original, data):
    unlearner = neggrad_plus(model, learning_rate=1e18, epochs=8, batch_size=16)
    with pytest.raises(DivergenceError, match=r"NegGradPlus \(all\) diverged in epoch \d of 8"):
        run(KEY, (Step("all", unlearner, task(FORGET, 60)),), original, data)


def test_mistake_11_a_cap_stops_the_ascent(plain_model, plain_original, data):
    options = {"learning_rate": 0.05, "epochs": 40, "batch_size": 12, "weight_decay": 0.0}
    steps = chain(task(FORGET, 60), neggrad(plain_model, forget_loss_cap=np.log(3), **options))

    def forget_loss(variables: Variables) -> float:
        outputs, _ = plain_model.apply(variables, data.images[FORGET], train=False)
        losses = optax.softmax_cross_entropy_with_integer_labels(
            outputs.logits, data.labels[FORGET]
        )
        return float(losses.mean())

    capped = forget_loss(run(KEY, steps, plain_original, data))
    free = forget_loss(
        run(KEY, chain(task(FORGET, 60), neggrad(plain_model, **options)), plain_original, data)
    )
    assert free > 3 * capped
    assert capped > forget_loss(plain_original)
