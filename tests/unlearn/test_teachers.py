"""Bad Teacher, DELETE and LoTUS are their twins in NumPy, and look at nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rumjax.errors import InvalidInputError
from rumjax.losses import relative_entropy, soft_cross_entropy
from rumjax.sampling import share, share_size, shuffled, union
from rumjax.types import Dataset, Subset, task
from rumjax.unlearn import base, chain, run
from rumjax.unlearn.noisy_teacher import lotus, noisy
from rumjax.unlearn.teachers import bad_teacher, delete, without_class
from tests.references import teachers
from tests.references.descent import adam, sgd
from tests.references.network import Network

KEY = jax.random.key(5)
FORGET = np.arange(0, 60, 5)
TASK = task(FORGET, 60)
NOTHING = task([], 60, capacity=len(FORGET))
RETAIN = np.setdiff1d(np.arange(60), FORGET)
EPOCHS = 5
# S and a quarter of R make one batch, and a step of every epoch.
SHARE, BATCH = 0.25, 24
BAD = {"epochs": EPOCHS, "batch_size": BATCH, "retain_share": SHARE, "learning_rate": 0.01}


begin = jax.jit(base._start.__wrapped__)
advance = jax.jit(base._advance.__wrapped__)
"""without donation, so that states before an epoch can be looked at after it"""


def start(unlearner, variables, data, chosen=TASK, key=KEY):
    return begin(unlearner, key, variables, data, chosen)


def walk(unlearner, state, data, chosen=TASK):
    """States before the first epoch and after each, and metrics of each."""
    states, metrics = [state], []
    for _ in range(EPOCHS):
        state, finite, noted = advance(unlearner, state, data, chosen)
        assert finite
        assert noted["diverged_at"] == -1
        states.append(state)
        metrics.append(noted)
    return states, metrics


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def same(first, second):
    return bits(first) == bits(second)


def exact(variables):
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), variables)


def assert_close(found, params, stats):
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5),
        (found.params, found.batch_stats),
        (params, stats),
    )


def replaced(data, places, *, images=True, labels=True):
    """The data with other images and labels in these places."""
    pixels, classes = np.array(data.images), np.array(data.labels)
    if images:
        pixels[places] = 255 - pixels[places]
    if labels:
        classes[places] = (classes[places] + 1) % 3
    return Dataset(jnp.asarray(pixels), jnp.asarray(classes))


@pytest.fixture(scope="module")
def taught(model, original, data):
    """Bad Teacher of two random networks, walked, with batch statistics that stay.

    The gradient of a bias before batch norm is else nothing but rounding, and Adam follows it.
    """
    unlearner = bad_teacher(model, draws=2, batch_norm="freeze", **BAD)
    return unlearner, *walk(unlearner, start(unlearner, original, data), data)


def drawn(variables, position):
    return jax.tree.map(lambda leaf: leaf[position], exact(variables))


def test_bad_teacher_is_its_twin(taught, data, original):
    _, states, metrics = taught
    memory = states[0].memory
    chosen = np.concatenate([FORGET, memory.kept.indices[: memory.kept.size]])
    images = np.asarray(data.images, float)[chosen]
    given, bad = exact(original), [drawn(memory.bad, position) for position in range(2)]
    student = Network(given.batch_stats, update=False)
    step = teachers.bad_teacher(student, given, bad, images, np.isin(chosen, FORGET))
    params = adam(
        given.params, [step] * EPOCHS, learning_rate=0.01, weight_decay=0.0, decoupled=False
    )
    assert_close(states[-1].variables, params, given.batch_stats)
    assert metrics[-1]["loss"] < metrics[0]["loss"]


def test_a_uniform_teacher_is_its_twin(model, original, data):
    unlearner = bad_teacher(model, teacher="uniform", optimizer="sgd", **BAD)
    states, _ = walk(unlearner, start(unlearner, original, data), data)
    kept = states[0].memory.kept
    chosen = np.concatenate([FORGET, kept.indices[: kept.size]])
    images = np.asarray(data.images, float)[chosen]
    given = exact(original)
    student = Network(given.batch_stats, update=True)
    step = teachers.bad_teacher(student, given, [], images, np.isin(chosen, FORGET))
    params = sgd(given.params, [step] * EPOCHS, learning_rate=0.01, momentum=0.9, weight_decay=0.0)
    assert_close(states[-1].variables, params, student.stats)


def test_mistake_17_the_random_teacher_has_the_architecture_of_the_student(taught, data):
    unlearner, states, _ = taught
    bad, good = states[0].memory.bad, states[0].memory.good
    forms = [jax.tree.map(lambda leaf: leaf.shape[1:], bad), jax.tree.map(jnp.shape, good)]
    assert forms[0] == forms[1]
    # Fresh ones, different from each other, from the given model, and for every seed.
    stats = bad.batch_stats["BatchNorm_0"]
    assert (np.asarray(stats["mean"]) == 0).all()
    assert (np.asarray(stats["var"]) == 1).all()
    other = start(unlearner, good, data, key=jax.random.key(6)).memory.bad
    kernels = [np.asarray(each.params["Dense_1"]["kernel"]) for each in (bad, other)]
    kernels = [*kernels[0], *kernels[1], np.asarray(good.params["Dense_1"]["kernel"])]
    assert len(np.unique([kernel.sum() for kernel in kernels])) == 5


def test_teachers_and_the_sample_do_not_change(taught, original):
    _, states, _ = taught
    assert same(states[0].memory.good, original)
    assert all(same(state.memory, states[0].memory) for state in states)
    kept = states[0].memory.kept
    assert int(kept.size) == 12
    assert np.isin(kept.indices[: kept.size], RETAIN).all()


def test_bad_teacher_looks_at_no_labels_and_at_a_sample_of_r(taught, data, original):
    unlearner, states, _ = taught
    kept = states[0].memory.kept
    unseen = np.setdiff1d(RETAIN, kept.indices[: kept.size])
    other = replaced(replaced(data, np.arange(60), images=False), unseen)
    again, _ = walk(unlearner, start(unlearner, original, other), other)
    assert same(again[-1].variables, states[-1].variables)
    seen = replaced(data, kept.indices[:1])
    again, _ = walk(unlearner, start(unlearner, original, seen), seen)
    assert not same(again[-1].variables, states[-1].variables)


def test_where_every_teacher_is_the_student_nothing_moves(taught, original, data):
    unlearner, walked, _ = taught
    assert not same(walked[-1].variables, original)
    # Bad teachers that are the good one, and a forget set of nothing.
    twins = jax.tree.map(lambda leaf: jnp.asarray(np.stack([leaf, leaf])), original)
    teacher = walked[0]._replace(memory=walked[0].memory._replace(bad=twins))
    empty = start(unlearner, original, data, NOTHING)
    for still, chosen in ((teacher, TASK), (empty, NOTHING)):
        states, metrics = walk(unlearner, still, data, chosen)
        assert same(states[-1].variables, original)
        assert metrics[0]["loss"] == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def deleted(model, original, data):
    unlearner = delete(model, epochs=EPOCHS, learning_rate=0.05, batch_size=len(FORGET))
    return unlearner, *walk(unlearner, start(unlearner, original, data), data)


def test_delete_is_its_twin(deleted, data, original):
    _, states, _ = deleted
    given, images = exact(original), np.asarray(data.images, float)[FORGET]
    student = Network(given.batch_stats, update=True)
    step = teachers.delete(student, given, images, np.asarray(data.labels)[FORGET])
    params = sgd(given.params, [step] * EPOCHS, learning_rate=0.05, momentum=0.9, weight_decay=0.0)
    assert_close(states[-1].variables, params, student.stats)
    assert all(same(state.memory, original) for state in states)


def test_delete_does_not_look_at_r(deleted, data, original):
    unlearner, states, _ = deleted
    other = replaced(data, RETAIN)
    again, _ = walk(unlearner, start(unlearner, original, other), other)
    assert same(again[-1].variables, states[-1].variables)
    assert unlearner.gradients(12, 48, data) == EPOCHS * 12


@jax.jit
def begun(logits, labels):
    """Targets of DELETE at the start, its loss, and the gradient of that by the logits."""
    targets = without_class(logits, labels)
    weights = jnp.ones(len(labels))
    return targets, jax.value_and_grad(relative_entropy, 1)(targets, logits, weights)


@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
def test_delete_begins_at_minus_log_of_one_minus_p(scale):
    random = np.random.default_rng(0)
    logits = scale * random.normal(size=(7, 4))
    labels = random.integers(0, 4, 7)
    others = np.array([np.delete(row, label) for row, label in zip(logits, labels, strict=True)])
    # −log(1 − p_y), where p_y may be 1 in float64 already.
    wanted = scipy.special.logsumexp(logits, axis=1) - scipy.special.logsumexp(others, axis=1)
    targets, (loss, slope) = begun(np.float32(logits), labels)
    assert loss == pytest.approx(wanted.mean(), rel=1e-5)
    difference = scipy.special.softmax(logits, axis=1) - np.asarray(targets, float)
    np.testing.assert_allclose(slope, difference / 7, atol=1e-6)


def test_delete_on_two_classes_teaches_the_other_one():
    logits = np.array([[1.0, 3.0], [0.5, -0.5]], np.float32)
    targets, (loss, _) = begun(logits, np.array([1, 1]))
    assert targets.tolist() == [[1, 0], [1, 0]]
    assert loss == pytest.approx(-scipy.special.log_softmax(logits, axis=1)[:, 0].mean(), rel=1e-6)


def test_a_uniform_target_costs_the_mean_log_probability():
    logits = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    loss = jax.jit(relative_entropy)(np.full((7, 4), 0.25, np.float32), logits, np.ones(7, "f4"))
    logs = scipy.special.log_softmax(logits, axis=1).mean(axis=1)
    assert loss == pytest.approx(np.mean(-np.log(4) - logs), rel=1e-5)


@pytest.fixture(scope="module")
def hard(data):
    """Data whose forget set has four labels that the model does not expect."""
    return replaced(data, FORGET[:4], images=False)


@pytest.fixture(scope="module")
def held_out(original, hard):
    """An accuracy on held-out images that is .1 below that on S."""
    labels, images = np.asarray(hard.labels)[FORGET], np.asarray(hard.images, float)[FORGET]
    return float(teachers.accuracy(exact(original), images, labels)) - 0.1


def noisy_one(model, accuracy, **changes):
    options = {
        "alpha": 3.0,
        "batch_norm": "freeze",
        "weight_decay": 0.1,
        "held_out_accuracy": accuracy,
    } | changes
    return lotus(model, **{**BAD, **options})


@pytest.fixture(scope="module")
def softened(model, original, hard, held_out):
    unlearner = noisy_one(model, held_out)
    return unlearner, *walk(unlearner, start(unlearner, original, hard), hard)


def test_lotus_is_its_twin(softened, hard, original, held_out):
    _, states, metrics = softened
    given, images = exact(original), np.asarray(hard.images, float)
    student = Network(given.batch_stats, update=False)
    everything = union(states[0].memory.kept, TASK.forget)
    steps = []
    for state in states[:-1]:
        # The order and the noise of the epoch, by the keys of its only step.
        key = jax.random.split(state.key)[1]
        chosen = np.asarray(shuffled(jax.random.fold_in(key, 0), everything))[:BATCH]
        batch_key = jax.random.split(jax.random.fold_in(key, 1), 1)[0]
        noise_key = jax.random.fold_in(jax.random.split(batch_key)[1], 1)
        noise = np.asarray(jax.random.gumbel(noise_key, (BATCH, 3)), float)
        now = exact(state.variables)
        right = teachers.accuracy(now, images[FORGET], np.asarray(hard.labels)[FORGET])
        temperature = np.exp(3.0 * (right - held_out))
        step = (images[chosen], np.isin(chosen, FORGET), noise, temperature)
        steps.append(teachers.lotus(student, given, *step))
    params = adam(given.params, steps, learning_rate=0.01, weight_decay=0.1, decoupled=True)
    assert_close(states[-1].variables, params, given.batch_stats)
    assert all(same(state.memory, states[0].memory) for state in states)
    assert metrics[0]["accuracy_gap"] == pytest.approx(0.1, abs=1e-6)


def test_lotus_does_nothing_where_s_is_known_no_better(model, original, hard, held_out):
    for accuracy, moves in ((held_out + 0.11, False), (held_out + 0.109, True)):
        unlearner = noisy_one(model, accuracy)
        state = start(unlearner, original, hard)
        after, _, metrics = advance(unlearner, state, hard, TASK)
        assert same(after.variables, original) == (not moves)
        assert same(after.optimizer, state.optimizer) == (not moves)
        assert metrics["stopped"] == (not moves)


def test_lotus_stops_for_good(softened, model, hard):
    _, states, _ = softened
    stop, go = noisy_one(model, 1.0), noisy_one(model, 0.0)
    stopped, _, _ = advance(stop, states[2], hard, TASK)
    still, _, metrics = advance(go, stopped, hard, TASK)
    assert metrics["accuracy_gap"] > 0
    assert metrics["stopped"] == 1
    for part in ("variables", "optimizer"):
        assert same(getattr(still, part), getattr(states[2], part))


def test_lotus_looks_at_a_sample_of_r(softened, hard, original):
    unlearner, states, _ = softened
    kept = states[0].memory.kept
    other = replaced(hard, np.setdiff1d(RETAIN, kept.indices[: kept.size]))
    other = replaced(other, RETAIN, images=False)
    again, _ = walk(unlearner, start(unlearner, original, other), other)
    assert same(again[-1].variables, states[-1].variables)


def test_drawn_classes_are_drawn_from_the_teacher():
    logits = np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]], np.float32)
    many = np.repeat(logits[None], 4000, axis=0).reshape(-1, 3)
    soft, classes = (
        np.asarray(each).reshape(4000, 2, 3) for each in jax.jit(noisy)(KEY, many, 1.0)
    )
    wanted = scipy.special.softmax(logits, axis=1)
    # Six standard deviations of a share.
    spread = 6 * np.sqrt(wanted * (1 - wanted) / 4000)
    assert (np.abs(classes.mean(axis=0) - wanted) <= spread).all()
    np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-5)
    # One noise makes both answers.
    assert (soft.argmax(axis=-1) == classes.argmax(axis=-1)).all()


def test_a_student_that_is_its_teacher_has_no_gradient():
    @jax.jit
    def slope(logits):
        targets = jax.nn.softmax(logits)
        return jax.grad(lambda z: soft_cross_entropy(targets, z).sum())(logits)

    assert not np.asarray(slope(5 * np.random.default_rng(0).normal(size=(200, 10)))).any()


@pytest.mark.parametrize("size", [0, 1, 10, 1000, 45_000, 1_000_000])
def test_a_share_is_rounded_up_exactly(size):
    assert int(share_size(0.3, size)) == -(-3 * size // 10)
    assert int(share_size(1.0, size)) == size


def test_a_share_of_a_set_is_of_that_set():
    drawn = share(KEY, Subset(jnp.arange(20), jnp.int32(7)), 0.5)
    assert int(drawn.size) == 4
    assert (drawn.indices[:4] < 7).all()


def test_what_is_wrong_is_said(model, original, data):
    with pytest.raises(InvalidInputError, match="'uniform'"):
        bad_teacher(model, teacher="unifrom")
    with pytest.raises(InvalidInputError, match="one uniform teacher, not 2"):
        bad_teacher(model, teacher="uniform", draws=2)
    with pytest.raises(InvalidInputError, match="needs held_out_accuracy"):
        run(KEY, chain(TASK, lotus(model)), original, data)
    with pytest.raises(InvalidInputError, match="held_out_accuracy"):
        lotus(model, held_out_accuracy=1.5)
    with pytest.raises(InvalidInputError, match="nothing is to be forgotten"):
        run(KEY, chain(NOTHING, delete(model)), original, data)
    assert bad_teacher(model).gradients(5, 10, data) == 8
