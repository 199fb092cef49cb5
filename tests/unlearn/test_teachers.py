"""Bad Teacher, DELETE and LoTUS are their twins in NumPy, and look at nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rumjax.errors import InvalidInputError
from rumjax.sampling import share, share_size, shuffled, union
from rumjax.types import Dataset, Subset, task
from rumjax.unlearn import base, chain, run
from rumjax.unlearn.noisy_teacher import lotus, noisy
from rumjax.unlearn.teachers import (
    bad_teacher,
    delete,
    relative_entropy,
    soft_cross_entropy,
    without_class,
)
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


def copied(tree):
    return jax.tree.map(jnp.copy, tree)


def start(unlearner, variables, data, chosen=TASK, key=KEY):
    return base._start(unlearner, key, variables, data, chosen)


def walk(unlearner, state, data, chosen=TASK):
    """States before the first epoch and after each, and metrics of each."""
    states, metrics = [copied(state)], []
    for _ in range(EPOCHS):
        state, finite, noted = base._advance(unlearner, state, data, chosen)
        assert finite
        assert noted["diverged_at"] == -1
        states.append(copied(state))
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
    return Dataset(
        data.images.at[places].set(255 - data.images[places]) if images else data.images,
        data.labels.at[places].set((data.labels[places] + 1) % 3) if labels else data.labels,
    )


@pytest.fixture(scope="module")
def taught(model, original, data):
    """Bad Teacher of two random networks, walked; Adam would walk along rounding errors.

    They are all that the gradient of a bias before batch norm is.
    """
    unlearner = bad_teacher(model, draws=2, optimizer="sgd", **BAD)
    return unlearner, *walk(unlearner, start(unlearner, original, data), data)


def drawn(variables, position):
    return exact(jax.tree.map(lambda leaf: leaf[position], variables))


def test_bad_teacher_is_its_twin(taught, data, original):
    _, states, metrics = taught
    memory = states[0].memory
    chosen = np.concatenate([FORGET, memory.kept.indices[: memory.kept.size]])
    images = np.asarray(data.images, float)[chosen]
    given, bad = exact(original), [drawn(memory.bad, position) for position in range(2)]
    student = Network(given.batch_stats, update=True)
    step = teachers.bad_teacher(student, given, bad, images, np.isin(chosen, FORGET))
    params = sgd(given.params, [step] * EPOCHS, learning_rate=0.01, momentum=0.9, weight_decay=0.0)
    assert_close(states[-1].variables, params, student.stats)
    assert metrics[-1]["loss"] < metrics[0]["loss"]


def test_a_uniform_teacher_is_its_twin(plain_model, plain_original, data):
    unlearner = bad_teacher(plain_model, teacher="uniform", **BAD)
    states, metrics = walk(unlearner, start(unlearner, plain_original, data), data)
    kept = states[0].memory.kept
    chosen = np.concatenate([FORGET, kept.indices[: kept.size]])
    images = np.asarray(data.images, float)[chosen]
    given = exact(plain_original)
    step = teachers.bad_teacher(
        Network({}, update=False), given, [], images, np.isin(chosen, FORGET)
    )
    params = adam(
        given.params, [step] * EPOCHS, learning_rate=0.01, weight_decay=0.0, decoupled=False
    )
    assert_close(states[-1].variables, params, {})

    # The loss is that of S alone, since the student begins as its teacher on R.
    logs = scipy.special.log_softmax(
        teachers.answers(given, np.asarray(data.images, float)[FORGET]), axis=1
    )
    wanted = np.mean(-np.log(3) - logs.mean(axis=1))
    assert metrics[0]["loss"] == pytest.approx(wanted / 2, rel=1e-4)


def test_mistake_17_the_random_teacher_has_the_architecture_of_the_student(taught, model, data):
    unlearner, states, _ = taught
    bad, good = states[0].memory.bad, states[0].memory.good
    forms = [jax.tree.map(lambda leaf: leaf.shape[1:], bad), jax.tree.map(jnp.shape, good)]
    assert forms[0] == forms[1]
    # Fresh ones, different from each other, from the given model, and for every seed.
    fresh = model.init(jax.random.key(0), data.images)
    assert same(drawn(bad, 0).batch_stats, exact(fresh.batch_stats))
    other = start(unlearner, good, data, key=jax.random.key(6)).memory.bad
    kernels = [*bad.params["Dense_1"]["kernel"], *other.params["Dense_1"]["kernel"]]
    kernels.append(good.params["Dense_1"]["kernel"])
    assert len(np.unique([np.asarray(kernel).sum() for kernel in kernels])) == 5


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


def test_where_every_teacher_is_the_student_nothing_moves(model, original, data):
    unlearner = bad_teacher(model, batch_norm="freeze", **BAD)
    state = start(unlearner, original, data)
    moved, _ = walk(unlearner, copied(state), data)
    assert not same(moved[-1].variables, original)
    # A bad teacher that is the good one, and a forget set of nothing.
    twins = jax.tree.map(lambda leaf: leaf[None], original)
    teacher = state._replace(memory=state.memory._replace(bad=twins))
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


@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
def test_delete_begins_at_minus_log_of_one_minus_p(scale):
    random = np.random.default_rng(0)
    logits = scale * random.normal(size=(7, 4))
    labels = random.integers(0, 4, 7)
    others = np.array([np.delete(row, label) for row, label in zip(logits, labels, strict=True)])
    # −log(1 − p_y), where p_y may be 1 in float64 already.
    wanted = scipy.special.logsumexp(logits, axis=1) - scipy.special.logsumexp(others, axis=1)
    student = jnp.float32(logits)
    targets = without_class(student, jnp.array(labels))
    loss, slope = jax.value_and_grad(relative_entropy, 1)(targets, student, jnp.ones(7))
    assert loss == pytest.approx(wanted.mean(), rel=1e-5)
    difference = scipy.special.softmax(logits, axis=1) - np.asarray(targets, float)
    np.testing.assert_allclose(slope, difference / 7, atol=1e-6)


def test_delete_on_two_classes_teaches_the_other_one():
    logits, labels = jnp.array([[1.0, 3.0], [0.5, -0.5]]), jnp.array([1, 1])
    assert without_class(logits, labels).tolist() == [[1, 0], [1, 0]]
    losses = soft_cross_entropy(without_class(logits, labels), logits)
    np.testing.assert_allclose(losses, -jax.nn.log_softmax(logits)[:, 0], rtol=1e-6)


@pytest.fixture(scope="module")
def hard(data):
    """Data whose forget set has four labels that the model does not expect."""
    return replaced(data, FORGET[:4], images=False)


@pytest.fixture(scope="module")
def held_out(plain_original, hard):
    """An accuracy on held-out images that is .1 below that on S."""
    labels, images = np.asarray(hard.labels)[FORGET], np.asarray(hard.images, float)[FORGET]
    return float(teachers.accuracy(exact(plain_original), images, labels)) - 0.1


def noisy_one(model, accuracy, **changes):
    options = {"alpha": 3.0, "weight_decay": 0.1, "held_out_accuracy": accuracy} | changes
    return lotus(model, **{**BAD, **options})


@pytest.fixture(scope="module")
def softened(plain_model, plain_original, hard, held_out):
    unlearner = noisy_one(plain_model, held_out)
    return unlearner, *walk(unlearner, start(unlearner, plain_original, hard), hard)


def test_lotus_is_its_twin(softened, hard, plain_original, held_out):
    _, states, metrics = softened
    given, images = exact(plain_original), np.asarray(hard.images, float)
    student = Network({}, update=False)
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
    assert_close(states[-1].variables, params, {})
    assert all(same(state.memory, states[0].memory) for state in states)
    assert metrics[0]["accuracy_gap"] == pytest.approx(0.1, abs=1e-6)


def test_lotus_does_nothing_where_s_is_known_no_better(plain_model, plain_original, hard, held_out):
    for accuracy, moves in ((held_out + 0.11, False), (held_out + 0.109, True)):
        unlearner = noisy_one(plain_model, accuracy)
        state = start(unlearner, plain_original, hard)
        after, _, metrics = base._advance(unlearner, copied(state), hard, TASK)
        assert same(after.variables, plain_original) == (not moves)
        assert same(after.optimizer, state.optimizer) == (not moves)
        assert metrics["stopped"] == (not moves)


def test_lotus_stops_for_good(softened, plain_model, hard):
    _, states, _ = softened
    stop, go = noisy_one(plain_model, 1.0), noisy_one(plain_model, 0.0)
    stopped, _, _ = base._advance(stop, copied(states[2]), hard, TASK)
    still, _, metrics = base._advance(go, copied(stopped), hard, TASK)
    assert metrics["accuracy_gap"] > 0
    assert metrics["stopped"] == 1
    for part in ("variables", "optimizer"):
        assert same(getattr(still, part), getattr(states[2], part))


def test_lotus_looks_at_a_sample_of_r(softened, hard, plain_original):
    unlearner, states, _ = softened
    kept = states[0].memory.kept
    other = replaced(hard, np.setdiff1d(RETAIN, kept.indices[: kept.size]))
    other = replaced(other, RETAIN, images=False)
    again, _ = walk(unlearner, start(unlearner, plain_original, other), other)
    assert same(again[-1].variables, states[-1].variables)


def test_drawn_classes_are_drawn_from_the_teacher():
    logits = jnp.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]])
    keys = jax.random.split(KEY, 4000)
    soft, classes = jax.vmap(lambda key: noisy(key, logits, 1.0))(keys)
    wanted = np.asarray(jax.nn.softmax(logits))
    # Six standard deviations of a share.
    spread = 6 * np.sqrt(wanted * (1 - wanted) / 4000)
    assert (np.abs(np.asarray(classes).mean(axis=0) - wanted) <= spread).all()
    np.testing.assert_allclose(soft.sum(axis=-1), 1, rtol=1e-5)
    # Where noise is void, the answers are the teacher's.
    raised = jnp.log(soft[0])
    assert (raised.argmax(axis=-1) == classes[0].argmax(axis=-1)).all()


def test_a_student_that_is_its_teacher_has_no_gradient():
    logits = 5 * jax.random.normal(KEY, (200, 10))
    targets = jax.nn.softmax(logits)
    slope = jax.jit(jax.grad(lambda z: soft_cross_entropy(targets, z).sum()))(logits)
    assert not slope.any()


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
