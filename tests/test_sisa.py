"""SISA is exact: what is forgotten leaves no trace, and all else stays to the bit."""

import contextlib
import dataclasses
import json
import pathlib
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax import ensemble as ensembles
from rumjax import sisa
from rumjax.descent import Sgd
from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.models import predict
from rumjax.sisa.slices import Slice, check_recipe
from rumjax.types import Dataset, Task, subset
from rumjax.unlearn import finetune, retrain

KEY = jax.random.key(3)
SIZE, SHARDS, SLICES, EPOCHS = 60, 3, 3, 4
PLAN = sisa.plan(SIZE, shards=SHARDS, slices=SLICES, seed=1)
few = hypothesis.settings(deadline=None, max_examples=30)


def of(shard, slice_):
    """The examples of a slice of a shard."""
    return np.flatnonzero((PLAN.shard_of == shard) & (PLAN.slice_of == slice_))


FIRST = np.array([of(1, 2)[0], of(2, 1)[3], of(2, 2)[0]])
SECOND = np.array([of(1, 0)[2], of(1, 1)[0]])


@pytest.fixture(scope="module")
def recipe(model):
    return retrain(model, epochs=EPOCHS, batch_size=8, learning_rate=0.1)


@pytest.fixture(scope="module")
def train(recipe, data):
    """Training on one device, but for what is said to be different."""

    def train(*, plan=PLAN, devices=1, data=data, recipe=recipe, **options):
        with on_devices(devices):
            return sisa.train(KEY, plan, recipe, data, **options)

    return train


@pytest.fixture(scope="module")
def forget(recipe, data):
    """Forgetting on one device, but for what is said to be different."""

    def forget(ensemble, examples, *, devices=1, data=data, recipe=recipe, **options):
        with on_devices(devices):
            return sisa.forget(ensemble, recipe, data, examples, **options)

    return forget


@contextlib.contextmanager
def on_devices(count):
    """Has models made on the first devices, one at a time on each."""

    def fitting(models, most):
        return jax.local_devices()[: min(count, models)], 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensembles, "fitting", fitting)
        yield


@pytest.fixture(scope="module")
def before(train):
    return train()


@pytest.fixture(scope="module")
def after(forget, before):
    return forget(before, FIRST)


def shard_of(ensemble, shard):
    return jax.tree.map(lambda leaf: leaf[shard], ensemble.checkpoints)


def same(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(first, second) for first, second in pairs)


def with_noise(data, examples):
    """The data with other images and labels in the place of some."""
    random = np.random.default_rng(5)
    images, labels = np.array(data.images), np.array(data.labels)
    images[examples] = random.integers(0, 256, images[examples].shape)
    labels[examples] = (labels[examples] + 1) % 3
    return Dataset(jnp.asarray(images), jnp.asarray(labels))


# Exactness


def test_a_request_leaves_what_training_without_it_from_scratch_gives(train, before, after, data):
    # From data in which the examples are not even to be found.
    scratch = train(already_forgotten=FIRST, data=with_noise(data, FIRST))
    assert sisa.digest(after.ensemble) == sisa.digest(scratch)
    assert same(after.ensemble.checkpoints, scratch.checkpoints)
    assert after.cost.retrained == {1: 2, 2: 1}
    # It can fail: with them, touched shards are others, from the touched slice on.
    for shard, first in after.cost.retrained.items():
        for position in range(SLICES):
            old, new = (
                jax.tree.map(lambda leaf, p=position: leaf[p], shard_of(each, shard))
                for each in (before, after.ensemble)
            )
            assert same(old, new) == (position < first)
    assert same(shard_of(before, 0), shard_of(after.ensemble, 0))


def test_so_does_a_second_request(train, forget, after, data):
    gone = np.concatenate([FIRST, SECOND])
    twice = forget(after.ensemble, SECOND, data=with_noise(data, gone), already_forgotten=FIRST)
    assert sisa.digest(twice.ensemble) == sisa.digest(train(already_forgotten=gone))
    assert twice.cost.retrained == {1: 0}
    assert twice.ensemble.forgotten.tolist() == sorted(gone)
    assert same(shard_of(after.ensemble, 2), shard_of(twice.ensemble, 2))


def test_two_requests_are_as_good_as_one_and_their_order_does_not_matter(forget, before, after):
    together = forget(before, np.concatenate([FIRST, SECOND])).ensemble
    one_way = forget(after.ensemble, SECOND).ensemble
    other_way = forget(forget(before, SECOND).ensemble, FIRST).ensemble
    digests = {sisa.digest(each) for each in (together, one_way, other_way)}
    assert len(digests) == 1


@pytest.mark.thorough
def test_results_do_not_depend_on_the_number_of_devices(train, forget, before, after):
    several = train(devices=8)
    assert sisa.digest(several) == sisa.digest(before)
    assert sisa.digest(forget(several, FIRST, devices=8).ensemble) == sisa.digest(after.ensemble)


def test_a_shard_depends_on_its_own_examples_alone(train, before):
    others = np.concatenate([of(shard, slice_) for shard in (0, 2) for slice_ in range(SLICES)])
    alone = train(already_forgotten=others)
    assert same(shard_of(alone, 1), shard_of(before, 1))


def test_the_ensemble_before_a_request_is_left_as_it_was(train, before, after):
    assert after is not None
    assert sisa.digest(before) == sisa.digest(train())


def test_each_slice_is_a_run_of_the_recipe_with_fresh_momentum(before, recipe, data):
    # The last slice of a shard, step by step: all of its schedule, and nothing but its examples.
    union, epochs = PLAN.union(0, 2), sisa.epochs_by_slice(EPOCHS, SLICES)[2]
    assert len(union) == SIZE // SHARDS
    one = retrain(recipe.model, epochs=epochs, batch_size=8, learning_rate=0.1)
    start = jax.tree.map(lambda leaf: leaf[0, 1], before.checkpoints)
    _, slices_key = jax.random.split(jax.random.fold_in(KEY, 0))
    key = jax.random.fold_in(jax.random.fold_in(slices_key, 2), 0)  # of the first step of a run
    task = Task(subset([]), subset(union))
    state = Sgd.init(one, key, start, data, task)
    epoch = jax.jit(one.epoch)
    for _ in range(epochs):
        state, _ = epoch(state, data, task)
    for found, wanted in zip(
        jax.tree.leaves(shard_of(before, 0)), jax.tree.leaves(state.variables), strict=True
    ):
        np.testing.assert_allclose(found[2], wanted, rtol=1e-5, atol=1e-6)


def test_every_slice_goes_through_the_whole_schedule(model):
    steps = retrain(model, epochs=10, schedule="steps", milestones=(4, 8), decay=0.5)
    fields = {field.name: getattr(steps, field.name) for field in dataclasses.fields(steps)}
    five = Slice(**fields | {"epochs": 5, "planned": 10})
    found = [float(five.rate(jnp.float32(progress))) for progress in (0, 1.9, 2, 3.9, 4)]
    assert found == [1, 1, 0.5, 0.5, 0.25]


def test_later_requests_compile_nothing(monkeypatch, forget, before, after):
    assert after is not None
    traced, passes = [], Slice.passes
    monkeypatch.setattr(Slice, "passes", lambda *args: traced.append(args) or passes(*args))
    forget(forget(before, SECOND).ensemble, of(0, 1)[:5])
    assert not traced


# Cost


def test_the_price_is_known_beforehand_and_counted(after, before):
    expected = sisa.cost(PLAN, EPOCHS, FIRST)
    assert after.cost == expected
    # By hand: two epochs a slice; shard 1 lost one example, shard 2 one of slice 1 and one of 2.
    assert [len(of(1, s)) for s in range(SLICES)] == [7, 7, 6]
    assert expected.gradients == 2 * (20 - 1) + 2 * (14 - 1) + 2 * (20 - 2)
    assert expected.retraining == EPOCHS * (SIZE - 3)
    assert sisa.cost(PLAN, EPOCHS, SECOND, FIRST).gradients == 2 * (7 - 1) + 2 * (14 - 2) + 2 * (
        20 - 3
    )


def test_training_all_shards_costs_what_the_recipe_does():
    plan = sisa.plan(600, shards=5, slices=3)
    everyone = np.array([np.flatnonzero(plan.shard_of == shard)[0] for shard in range(5)])
    unions = [sum(len(plan.union(shard, last)) for shard in range(5)) for last in range(3)]
    assert sum(np.multiply(sisa.epochs_by_slice(10, 3), unions)) == 10 * 600
    assert sisa.cost(plan, 10, everyone).gradients < 10 * 600


@pytest.mark.parametrize(("epochs", "slices"), [(1, 1), (10, 1), (15, 21), (30, 21), (5, 3)])
def test_epochs_add_up_and_none_is_lost_to_rounding(epochs, slices):
    counts = sisa.epochs_by_slice(epochs, slices)
    mean = 2 * epochs / (slices + 1)
    assert sum(counts) == 2 * epochs * slices // (slices + 1)
    assert {int(mean), -int(-mean // 1)} >= set(counts)
    assert min(counts) >= 1


@pytest.mark.parametrize(("shards", "count"), [(10, 1), (10, 10), (10, 30), (5, 4), (1, 3)])
def test_as_many_shards_are_touched_as_expected(shards, count):
    random = np.random.default_rng(0)
    plan = sisa.plan(4000, shards=shards, slices=2)
    touched = [len(plan.touched(random.choice(4000, count, False))) for _ in range(400)]
    expected = sisa.expected_shards(shards, count)
    error = np.std(touched) / np.sqrt(len(touched))
    assert abs(np.mean(touched) - expected) <= 4 * error + 0.01


# The plan


@few
@hypothesis.given(st.data(), st.integers(1, 80), st.integers(1, 8), st.integers(0, 2**40))
def test_a_plan_is_a_partition_that_a_seed_makes(draw, size, slices, seed):
    shards = draw.draw(st.integers(1, size))
    plan = sisa.plan(size, shards=shards, slices=slices, seed=seed)
    again = sisa.plan(size, shards=shards, slices=slices, seed=seed)
    assert same(plan, again)
    # Everyone is somewhere once, and shards and slices are as even as they can be.
    whole = np.concatenate([plan.union(shard, slices - 1) for shard in range(shards)])
    assert sorted(whole) == list(range(size))
    places = np.zeros((shards, slices), int)
    np.add.at(places, (plan.shard_of, plan.slice_of), 1)
    assert np.ptp(places.sum(axis=1)) <= 1
    assert all(np.ptp(row) <= 1 for row in places)


@few
@hypothesis.given(st.data(), st.integers(2, 60), st.integers(1, 5), st.integers(1, 6))
def test_what_is_forgotten_is_in_no_later_union(draw, size, shards, slices):
    plan = sisa.plan(size, shards=min(shards, size), slices=slices)
    forgotten = draw.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=size - 1))
    gone = sorted(forgotten)
    touched = plan.touched(gone)
    for shard in range(plan.shards):
        last = np.array([], int)
        for position in range(slices):
            union = plan.union(shard, position, gone)
            assert not forgotten & set(union.tolist())
            assert set(last) <= set(union)
            # A model before the touched slice has seen none of them.
            if position < touched.get(shard, slices):
                assert np.array_equal(union, plan.union(shard, position))
            last = union
    cost = sisa.cost(plan, 12, forgotten)
    assert cost.retrained == touched
    assert cost.share >= 0


# Shards and slices of which little is left


def test_an_empty_shard_has_no_vote_and_empty_slices_change_nothing(train, forget, before, model):
    gone = np.concatenate([of(0, slice_) for slice_ in range(SLICES)] + [of(1, 0)])
    left = forget(before, gone)
    assert sisa.digest(left.ensemble) == sisa.digest(train(already_forgotten=gone))
    assert left.cost == sisa.cost(PLAN, EPOCHS, gone)
    # The first slice of shard 1 is empty: its model is a fresh one.
    init_key = jax.random.split(jax.random.fold_in(KEY, 1))[0]
    fresh = model.init(init_key, np.zeros((1, 4, 4, 1), np.uint8))
    assert same(jax.tree.map(lambda leaf: leaf[1, 0], left.ensemble.checkpoints), fresh)
    voting = sisa.models(left.ensemble)
    for found, kept in zip(
        jax.tree.leaves(voting), jax.tree.leaves(left.ensemble.checkpoints), strict=True
    ):
        np.testing.assert_array_equal(found, kept[1:, -1])


def test_slices_may_be_empty_from_the_beginning(train, forget):
    # All of shard 0 is in its last slice, all of shard 1 in its first.
    slices = np.choose(PLAN.shard_of, [2, 0, PLAN.slice_of]).astype(np.int32)
    plan = PLAN._replace(slice_of=slices)
    gone = [PLAN.union(shard, 2)[0] for shard in range(SHARDS)]
    after = forget(train(plan=plan), gone)
    assert after.cost.retrained == {0: 2, 1: 0, 2: int(slices[gone[2]])}
    assert after.cost == sisa.cost(plan, EPOCHS, gone)
    scratch = train(plan=plan, already_forgotten=gone)
    assert sisa.digest(after.ensemble) == sisa.digest(scratch)


# Prediction


def test_votes_are_means_and_majorities_of_what_each_model_says(before, model, data):
    images, voting = data.images[:9], sisa.models(before)
    say = jax.jit(predict, static_argnums=0)
    each = [
        np.asarray(say(model, jax.tree.map(lambda leaf, m=m: leaf[m], voting), images).logits)
        for m in range(SHARDS)
    ]
    shares = np.exp(each) / np.exp(each).sum(axis=-1, keepdims=True)
    votes = np.eye(3)[np.argmax(each, axis=-1)]
    together = jax.jit(sisa.predict, static_argnums=0, static_argnames="vote")
    np.testing.assert_allclose(together(model, voting, images), shares.mean(axis=0), atol=1e-6)
    majority = together(model, voting, images, vote="majority")
    np.testing.assert_allclose(majority, votes.mean(axis=0), atol=1e-6)
    assert sisa.predict(model, voting, images[:0]).shape == (0, 3)
    with pytest.raises(InvalidInputError, match="did you mean 'mean'"):
        sisa.predict(model, voting, images, vote="means")


# Keeping


def test_what_is_saved_is_loaded_and_goes_on(tmp_path, forget, before, after, model, data):
    path = tmp_path / "new" / "sisa.npz"
    sisa.save(path, before)
    loaded = sisa.load(path, model, data.images)
    assert sisa.digest(loaded) == sisa.digest(before)
    assert sisa.digest(forget(loaded, FIRST).ensemble) == sisa.digest(after.ensemble)
    sisa.save(path, after.ensemble)
    assert sisa.digest(sisa.load(path, model, data.images)) == sisa.digest(after.ensemble)
    assert [each.name for each in path.parent.iterdir()] == ["sisa.npz"]


def test_a_file_that_cannot_be_written_is_absent_and_the_old_one_whole(
    tmp_path, monkeypatch, before, after
):
    path = tmp_path / "sisa.npz"
    sisa.save(path, before)
    content = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        sisa.save(path, after.ensemble)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["sisa.npz"]


def test_other_files_and_other_models_are_refused(tmp_path, before, model, plain_model, data):
    path = tmp_path / "sisa.npz"
    sisa.save(path, before)
    with pytest.raises(InvalidInputError, match="batch_stats"):
        sisa.from_arrays(
            {name: a for name, a in sisa.to_arrays(before).items() if "batch_stats" not in name},
            model,
            data.images,
        )
    with pytest.raises(InvalidInputError, match="wants float32"):
        sisa.load(path, model, np.zeros((1, 5, 5, 1), np.uint8))
    for name, other in {
        "counts": np.array([2, 3]),
        "key_kind": np.array("lock"),
        "forgotten": np.array([SIZE]),
        "slice_of": np.zeros(3, np.int32),
    }.items():
        with pytest.raises(InvalidInputError, match=r"not the arrays of sisa\.to_arrays"):
            sisa.from_arrays(sisa.to_arrays(before) | {name: other}, model, data.images)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InvalidInputError, match="cannot be read"):
        sisa.load(path, model, data.images)


def test_the_digest_is_of_every_array(before):
    digests = {sisa.digest(before)}
    arrays = sisa.to_arrays(before)
    for name, array in arrays.items():
        if name.startswith("checkpoints/"):
            path = name.split("/")[1:]
            changed = jax.tree.map(np.copy, before.checkpoints)
            leaf = getattr(changed, path[0])
            for part in path[1:]:
                leaf = leaf[part]
            leaf[-1, -1].flat[0] += 1
            assert leaf.shape == array.shape
            digests.add(sisa.digest(before._replace(checkpoints=changed)))
    digests.add(sisa.digest(before._replace(forgotten=np.array([1], np.int32))))
    digests.add(sisa.digest(before._replace(key=jax.random.key(4))))
    models = sum(name.startswith("checkpoints/") for name in arrays)
    assert len(digests) == models + 3


# What is refused


@pytest.mark.parametrize(
    ("examples", "match"),
    [
        ([], "no indices"),
        ([3, 3], "duplicated"),
        ([SIZE], "outside"),
        ([-1], "outside"),
        ([FIRST[0]], "already forgotten"),
        (np.setdiff1d(np.arange(SIZE), FIRST), "all 60 examples are forgotten"),
        (np.zeros(SIZE, bool), "flatnonzero"),
    ],
)
def test_requests_that_cannot_be_granted_are_refused(forget, after, examples, match):
    with pytest.raises(InvalidInputError, match=match):
        forget(after.ensemble, examples)
    with pytest.raises(InvalidInputError, match=match):
        sisa.cost(PLAN, EPOCHS, examples, FIRST)


def test_another_recipe_history_or_data_is_refused(forget, train, before, after, model, data):
    other = retrain(model, epochs=EPOCHS, batch_size=8, learning_rate=0.2)
    with pytest.raises(InvalidInputError, match=r"which has learning_rate 0\.1"):
        forget(before, FIRST, recipe=other)
    with pytest.raises(InvalidInputError, match="take the ensemble that the last request left"):
        forget(before, SECOND, already_forgotten=FIRST)
    with pytest.raises(InvalidInputError, match="the first is"):
        forget(after.ensemble, SECOND, already_forgotten=[])
    with pytest.raises(InvalidInputError, match="leave forgotten examples in their places"):
        forget(before, FIRST, data=Dataset(data.images[1:], data.labels[1:]))
    with pytest.raises(InvalidInputError, match=r"rumjax\.retrain"):
        train(recipe=finetune(model))
    with pytest.raises(InvalidInputError, match=r"sisa\.plan"):
        train(plan=SIZE)
    with pytest.raises(InvalidInputError, match=r"sisa\.train"):
        forget(before.checkpoints, FIRST)
    with pytest.raises(InvalidInputError, match="all 60 examples"):
        train(already_forgotten=np.arange(SIZE))
    with pytest.raises(InvalidInputError, match="too few for 3 slices; take at least 2"):
        train(recipe=retrain(model, epochs=1))


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"size": 0}, "size"),
        ({"shards": 0}, "shards"),
        ({"slices": 0}, "slices"),
        ({"seed": -1}, "seed"),
        ({"shards": 11}, "at most as many shards as examples"),
    ],
)
def test_impossible_plans_are_refused(numbers, match):
    with pytest.raises(InvalidInputError, match=match):
        sisa.plan(**({"size": 10} | numbers))


def test_a_model_that_diverges_is_named(model, train):
    wild = retrain(model, epochs=EPOCHS, batch_size=8, learning_rate=1e30)
    with pytest.raises(DivergenceError, match=r"slice 0, shard \d"):
        train(recipe=wild)


def test_epochs_are_told(train):
    told = []
    train(on_epoch=lambda done: told.append((done.step.name, *done.names, done.epoch)))
    assert len(told) == SHARDS * sum(sisa.epochs_by_slice(EPOCHS, SLICES))
    assert told[0] == ("slice 0", "shard 0", 0)


def test_the_recipe_is_remembered_in_words(before):
    numbers = json.loads(before.recipe)
    assert numbers["epochs"] == EPOCHS
    assert numbers["augmentation"] == "Augmentation(pad=0, flip=False)"


def test_an_ensemble_that_does_not_name_later_options_was_trained_without_them(before, recipe):
    numbers = json.loads(before.recipe)
    later = [numbers.pop(name) for name in ("optimizer", "warm_up", "label_smoothing")]
    assert later == ["sgd", 0, 0]
    earlier = before._replace(recipe=json.dumps(numbers))
    check_recipe(earlier, recipe)
    with pytest.raises(InvalidInputError, match=r"label_smoothing 0\.0"):
        check_recipe(earlier, dataclasses.replace(recipe, label_smoothing=0.1))


def test_the_example_of_its_page_runs(model, recipe, data):
    page = pathlib.Path(__file__).parent.parent / "docs" / "requests.md"
    (block,) = re.findall(
        r"```python\n(from rumjax import sisa\n.*?)```", page.read_text(), re.DOTALL
    )
    names = {"jax": jax, "model": model, "recipe": recipe, "data": data, "images": data.images}
    with on_devices(1):
        exec(compile(block, str(page), "exec"), names)
    assert names["shares"].shape == (SIZE, 3)
    assert names["ensemble"].forgotten.tolist() == [17]
