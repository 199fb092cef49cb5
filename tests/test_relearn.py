"""Relearn time is that of fine-tuning on S by hand, and many models are one program."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax import ensemble
from rumjax.descent import Sgd
from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.models import predict
from rumjax.relearn import correct, first_at, relearn_times
from rumjax.types import Subset, Task
from rumjax.unlearn import chain, finetune, run
from tests.references import small

KEYS = jax.random.split(jax.random.key(7), 5)
FORGET = small.FORGET
OPTIONS = {"learning_rate": 0.05, "batch_size": 8, "momentum": 0.8}
EPOCHS, MARGIN = 12, 0.1


said = jax.jit(predict, static_argnums=0)


def accuracy(model, variables, data):
    logits = np.asarray(said(model, variables, data.images).logits)[FORGET]
    return np.mean(logits.argmax(axis=1) == np.asarray(data.labels)[FORGET])


@pytest.fixture(scope="module")
def variables(model, data, original):
    """The original model and one that has never seen a thing."""
    return [original, model.init(jax.random.key(0), data.images[:1])]


@pytest.fixture(scope="module")
def relearned(model, variables, data):
    target = [float(accuracy(model, variables[0], data))] * 2
    return relearn_times(
        ["original", "fresh"],
        KEYS[:2],
        variables,
        FORGET,
        data,
        model=model,
        epochs=EPOCHS,
        target=target,
        margin=MARGIN,
        **OPTIONS,
    )


def test_a_model_that_has_never_lost_it_takes_no_epochs_and_a_fresh_one_some(relearned):
    first, fresh = relearned
    assert first.epochs == 0
    assert fresh.epochs > 0


def test_accuracies_are_those_of_fine_tuning_on_s_epoch_by_epoch(relearned, model, variables, data):
    # As part of all the data, of which S is what is retained.
    nothing = Subset(jnp.zeros(0, jnp.int32), jnp.int32(0))
    task = Task(nothing, Subset(jnp.asarray(FORGET), jnp.int32(len(FORGET))))
    steps = chain(task, finetune(model, epochs=EPOCHS, **OPTIONS))
    for key, start, found in zip(KEYS, variables, relearned, strict=False):
        wanted = [accuracy(model, start, data)]
        run(
            key,
            steps,
            start,
            data,
            on_epoch=lambda done, w=wanted: w.append(accuracy(model, done.variables, data)),
        )
        assert found.accuracies == tuple(wanted)
        assert found.diverged is None
        assert len(found.accuracies) == EPOCHS + 1
    assert len(set(relearned[1].accuracies)) > 2


def test_epochs_are_the_first_at_which_the_accuracy_is_back(relearned):
    target = relearned[0].accuracies[0] - MARGIN
    for found in relearned:
        below = [each < target for each in found.accuracies]
        assert found.epochs == (None if all(below) else below.index(False))


@pytest.mark.parametrize(
    ("least", "wanted"), [(0.0, 0), (0.3, 0), (0.31, 1), (0.6, 1), (0.7, 3), (0.71, None)]
)
def test_a_relapse_does_not_count_once_it_was_back(least, wanted):
    assert first_at((0.3, 0.6, 0.5, 0.7), least) == wanted


def test_a_target_kept_in_float32_is_no_higher():
    target = float(np.float32(6 / 10))
    assert target > 6 / 10
    assert first_at((0.5, 6 / 10), target) == 1
    # An example of a hundred thousand is not made up for.
    assert first_at((0.5,), 0.50001) is None


@pytest.fixture(scope="module")
def fresh(plain_model, data):
    return [plain_model.init(jax.random.key(seed), data.images[:1]) for seed in (0, 1)]


@pytest.fixture(scope="module")
def relearn_plain(plain_model, fresh, data):
    """Relearning of two fresh models, but for what is said to be different."""

    def relearn_plain(**changes):
        given = {
            "names": ["model 0", "model 1"],
            "keys": KEYS[:2],
            "variables": fresh,
            "forget": FORGET,
            "data": data,
            "model": plain_model,
            "epochs": 3,
            "target": [0.5, 0.5],
            **OPTIONS,
        }
        return relearn_times(**{**given, **changes})

    return relearn_plain


def test_a_margin_lowers_all_targets(relearn_plain):
    strict, lenient, lowered = (
        relearn_plain(target=target, margin=margin)
        for target, margin in (([1.0, 1.0], 0), ([1.0, 1.0], 0.25), ([0.75, 0.75], 0))
    )
    assert lenient == lowered
    assert [each.accuracies for each in lenient] == [each.accuracies for each in strict]


def test_each_model_has_its_own_target(relearn_plain):
    found = relearn_plain(target=[0.0, 1.0])
    assert found[0].epochs == 0
    assert found[1].epochs is None or found[1].epochs > 0


def test_the_order_of_the_models_and_of_s_changes_nothing(relearn_plain, fresh):
    one, other = relearn_plain(target=[0.4, 0.8])
    found = relearn_plain(
        keys=KEYS[:2][::-1], variables=fresh[::-1], target=[0.8, 0.4], forget=FORGET[::-1]
    )
    assert found == [other, one]


def test_more_models_than_fit_are_relearned_in_turn(monkeypatch, relearn_plain):
    wanted = relearn_plain()
    monkeypatch.setattr(ensemble, "fitting", lambda count, most: (jax.local_devices()[:1], 1))
    assert relearn_plain() == wanted


def test_the_models_that_are_given_stay_as_they_were(relearn_plain, fresh):
    before = jax.tree.map(np.array, fresh)
    relearn_plain(variables=fresh)
    jax.tree.map(np.testing.assert_array_equal, fresh, before)


def test_a_model_that_diverges_is_said_to_and_the_others_go_on(relearn_plain, fresh):
    huge = jax.tree.map(lambda leaf: leaf * 1e30, fresh[0])
    wanted = relearn_plain(target=[1, 1])
    failed, found = relearn_plain(variables=[huge, fresh[1]], target=[1, 1])
    assert found == wanted[1]
    assert failed.epochs is None
    assert len(failed.accuracies) == 1
    assert isinstance(failed.diverged, DivergenceError)
    assert "model 0" in str(failed.diverged)


def test_other_models_seeds_numbers_targets_and_sets_of_examples_compile_nothing(
    monkeypatch, relearn_plain, plain_model, plain_original
):
    batch_size = 9  # of its own, so that no other test has compiled it
    traced = {"epoch": 0, "predict": 0}
    plain = Sgd.epoch

    def epoch(*args):
        traced["epoch"] += 1
        return plain(*args)

    monkeypatch.setattr(Sgd, "epoch", epoch)
    monkeypatch.setattr(
        "rumjax.relearn.predict",
        lambda *args: traced.update(predict=traced["predict"] + 1) or predict(*args),
    )
    relearn_plain(batch_size=batch_size)
    # An equal model is as good as the same.
    again = dataclasses.replace(plain_model)
    assert correct(again) is correct(plain_model)
    once = dict(traced)
    assert once["epoch"] > 0
    relearn_plain(
        batch_size=batch_size,
        keys=KEYS[3:],
        variables=[plain_original, plain_original],
        target=[0.1, 0.9],
        margin=0.2,
        learning_rate=0.3,
        momentum=0,
        epochs=2,
        forget=FORGET + 1,
        model=again,
    )
    assert traced == once
    # What does compile anew is seen: the count can fail.
    relearn_plain(batch_size=batch_size, forget=FORGET[1:])
    assert traced["epoch"] > once["epoch"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"names": ["a", "a"]}, "1 different names of 2"),
        ({"keys": KEYS[:3]}, "3 keys"),
        ({"variables": []}, "0 models"),
        ({"target": [0.5]}, "1 targets"),
        ({"target": [0.5, 1.5]}, "target"),
        ({"target": [0.5, float("nan")]}, "target"),
        ({"margin": -0.1}, "margin"),
        ({"epochs": 0}, "epochs"),
        ({"per_device": 0}, "per_device"),
        ({"forget": []}, "forget set: no indices"),
        ({"forget": [3, 3]}, "duplicated"),
        ({"forget": [60]}, "outside"),
    ],
)
def test_what_cannot_be_relearned_is_refused(relearn_plain, changes, match):
    with pytest.raises(InvalidInputError, match=match):
        relearn_plain(**changes)


def test_one_model_may_have_one_key_and_one_target(relearn_plain, plain_original):
    one = {"names": ["a"], "variables": [plain_original], "epochs": 1}
    many = relearn_plain(**one, keys=KEYS[:1], target=[0.5])
    assert relearn_plain(**one, keys=KEYS[0], target=0.5) == many


def test_no_models_are_refused(relearn_plain):
    with pytest.raises(InvalidInputError, match="at least 1"):
        relearn_plain(names=[], keys=KEYS[:0], variables=[], target=[])


def test_every_option_of_fine_tuning_can_be_given():
    options = inspect.signature(finetune).parameters.keys() - {"model", "options"}
    assert options <= inspect.signature(relearn_times).parameters.keys()
