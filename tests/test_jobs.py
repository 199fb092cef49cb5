"""A model for every job, in groups that suit the devices or that the caller forms."""

import chex
import jax
import numpy as np
import pytest

from rumjax import ensemble, unlearn
from rumjax.errors import InvalidInputError
from rumjax.scores import random_subset
from rumjax.types import Subset, Task, task
from rumjax.unlearn import chain, retrain

MODELS, SEEN = 5, 42
KEYS = jax.random.split(jax.random.key(3), MODELS)
SUBSETS = np.stack([random_subset(0, model, 60, SEEN / 60) for model in range(MODELS)])


@pytest.fixture(scope="module")
def recipe(plain_model):
    return retrain(plain_model, epochs=2, batch_size=16, learning_rate=0.1)


def jobs_of(recipe, count):
    """Training of the first models, as jobs, by keys and subsets of their own."""
    nothing = Subset(np.zeros(0, np.int32), np.int32(0))
    return [
        ensemble.Job(
            f"model {model}",
            KEYS[model],
            chain(Task(nothing, Subset(SUBSETS[model], np.int32(SEEN))), recipe),
            about=model,
        )
        for model in range(count)
    ]


def test_jobs_are_made_in_groups_that_suit_the_devices_and_come_one_by_one(
    monkeypatch, recipe, data
):
    # The same models, one after another on one device.
    devices = jax.local_devices()[:1]
    subsets = SUBSETS[:MODELS]
    works = (
        ensemble.training(recipe, [f"model {m}"], KEYS[m : m + 1], subsets[m : m + 1])
        for m in range(MODELS)
    )
    wanted = [made.read for made in ensemble.run(works, data, read=ensemble.whole, devices=devices)]
    chex.assert_tree_all_finite(wanted)
    # Two devices for five models: two groups of two, and one of one.
    monkeypatch.setattr(ensemble, "fitting", lambda count, most: (jax.local_devices()[:2], 1))
    told = []
    made = list(
        ensemble.make(
            jobs_of(recipe, MODELS), data, on_epoch=lambda done: told.append(tuple(done.names))
        )
    )
    assert [job.about for job, _ in made] == list(range(MODELS))
    assert told[::2] == [("model 0", "model 1"), ("model 2", "model 3"), ("model 4",)]
    for (job, result), model in zip(made, range(MODELS), strict=True):
        chex.assert_trees_all_equal(
            jax.tree.map(lambda leaf: leaf[None], result.read), wanted[model]
        )
        assert job.name == f"model {model}"
        assert [done["epoch"] for done in result.curve] == [1, 2]
        assert result.diverged is None
        assert result.seconds > 0
        assert result.compile_seconds == made[0][1].compile_seconds > 0


def test_variables_are_read_when_their_group_has_its_turn(plain_model, plain_original, data):
    read = []
    jobs = [
        ensemble.Job(
            f"seed {seed}",
            jax.random.key(seed),
            chain(task([1, 2], 60), unlearn.original(plain_model)),
            lambda seed=seed: read.append(seed) or plain_original,
        )
        for seed in range(3)
    ]
    groups = (jobs[:2], jobs[2:])
    models = ensemble.make_groups(groups, data, devices=jax.local_devices()[:2])
    assert read == []
    for seed, (_, result) in enumerate(models):
        assert read == ([0, 1] if seed < 2 else [0, 1, 2])
        chex.assert_trees_all_equal(result.read, jax.tree.map(np.asarray, plain_original))


def test_no_jobs_make_no_models(data):
    assert list(ensemble.make([], data)) == []


def test_jobs_that_a_device_cannot_hold_are_refused(recipe, data):
    with pytest.raises(InvalidInputError, match="most_per_device"):
        next(ensemble.make(jobs_of(recipe, 1), data, most_per_device=0))
    devices = jax.local_devices()[:1]
    with pytest.raises(InvalidInputError, match="work of 2 models"):
        next(ensemble.make_groups([jobs_of(recipe, 2)], data, devices=devices))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda jobs: jobs[0], "wanted a list of jobs, got Job"),
        (lambda jobs: 3, "wanted a list of jobs, got int"),
        (lambda jobs: [jobs[0].steps], "wanted jobs"),
        (lambda jobs: [jobs[0]._replace(steps=jobs[0].steps[0].unlearner)], "wanted jobs"),
        (lambda jobs: [jobs[0]._replace(steps=["retrain"])], "wanted steps"),
        (lambda jobs: [jobs[0], jobs[1]._replace(steps=())], "not as many"),
        (lambda jobs: [jobs[0], jobs[1]._replace(variables={"params": {}})], "one network"),
        (lambda jobs: [jobs[0]._replace(variables=[1, 2])], "wanted rumjax.Variables"),
    ],
)
def test_what_are_no_jobs_is_refused(change, message, recipe, data, monkeypatch):
    monkeypatch.setattr(ensemble, "fitting", lambda count, most: (jax.local_devices()[:2], 1))
    with pytest.raises(InvalidInputError, match=message):
        list(ensemble.make(change(jobs_of(recipe, 2)), data))


@pytest.mark.parametrize("name", ["read", "watch", "on_epoch"])
def test_what_is_called_later_can_be_called(name, recipe, data):
    with pytest.raises(InvalidInputError, match=f"{name}: wanted a function, got 3"):
        list(ensemble.make(jobs_of(recipe, 1), data, **{name: 3}))


def test_jobs_may_come_from_a_generator_with_numbers_for_names(plain_model, plain_original, data):
    steps = chain(task([1, 2], 60), unlearn.original(plain_model))
    jobs = (ensemble.Job(seed, KEYS[seed], steps, plain_original) for seed in range(2))
    assert [job.name for job, _ in ensemble.make(jobs, data)] == [0, 1]
