"""What a run is given is either the same thing in another form, or refused before any training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

import rumjax
from rumjax import ensemble, gradients
from rumjax.errors import DivergenceError, InvalidInputError
from rumjax.models import Cnn, Model
from rumjax.types import Dataset, Subset, Task, Variables

SIZE = 60


@pytest.fixture(scope="module")
def unlearn(plain_model, plain_original, data):
    """Runs fine-tuning on whatever is changed of its arguments."""
    given = {
        "key": jax.random.key(2),
        "variables": plain_original,
        "images": np.asarray(data.images),
        "labels": np.asarray(data.labels),
        "steps": rumjax.chain(
            rumjax.task([3, 8], SIZE), rumjax.finetune(plain_model, epochs=1, batch_size=16)
        ),
    }

    def call(function=rumjax.run, **changes):
        new = given | {name: change(given[name]) for name, change in changes.items()}
        pair = Dataset(new["images"], new["labels"])
        return function(new["key"], new["steps"], new["variables"], new.get("data", pair))

    return call


@pytest.fixture(scope="module")
def wanted(unlearn):
    return unlearn()


class Trained:
    """A train state of another library."""

    def __init__(self, params):
        self.params = params


SAME = {
    "labels [N, 1]": {"labels": lambda labels: labels[:, None]},
    "labels int64": {"labels": lambda labels: labels.astype(np.int64)},
    "labels uint8": {"labels": lambda labels: labels.astype(np.uint8)},
    "a list of labels": {"labels": lambda labels: labels.tolist()},
    "labels on the device": {"labels": jnp.asarray},
    "images [N, H, W]": {"images": lambda images: images[..., 0]},
    "images on the device": {"images": jnp.asarray},
    "a list of images": {"images": list},
    "images of 0…1": {"images": lambda images: images.astype(np.float32) / 255},
    "images of 0…1 in 64 bits": {"images": lambda images: images / 255.0},
    "a key of the old style": {"key": lambda key: jax.random.key_data(key)},
    "a dictionary of collections": {"variables": lambda variables: variables._asdict()},
    "parameters alone": {"variables": lambda variables: {"params": variables.params}},
    "a frozen dictionary": {"variables": lambda variables: freeze({"params": variables.params})},
    "a train state": {"variables": lambda variables: Trained(variables.params)},
    "parameters in 64 bits": {
        "variables": lambda variables: jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
    },
    "a list of steps": {"steps": list},
    "indices on the host": {
        "steps": lambda steps: [steps[0]._replace(task=jax.tree.map(np.asarray, steps[0].task))]
    },
}


@pytest.mark.parametrize("form", SAME)
def test_another_form_of_the_same_gives_the_same(form, unlearn, wanted):
    result = unlearn(**SAME[form])
    close = {"rtol": 1e-5, "atol": 1e-6} if "0…1" in form else {"rtol": 0}
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, **close), result, wanted)


def broken(position, value):
    """A change of one entry."""

    def change(array):
        array = np.array(array)
        array[position] = value
        return array

    return change


def with_task(task):
    return {"steps": lambda steps: [steps[0]._replace(task=task)]}


def part(*indices):
    return Subset(jnp.array(indices), jnp.int32(len(indices)))


REFUSED = {
    "fewer labels": ({"labels": lambda labels: labels[:50]}, "50 labels for 60"),
    "a label of -1": ({"labels": broken(7, -1)}, "the first is -1 of example 7"),
    "labels from 1": ({"labels": lambda labels: labels + 1}, "outside 0…2"),
    "a label of no class": ({"labels": broken(7, 3)}, "the first is 3 of example 7"),
    "one-hot labels": ({"labels": lambda labels: np.eye(3, dtype=int)[labels]}, "argmax"),
    "labels of floats": ({"labels": lambda labels: labels / 2}, "wanted integers"),
    "labels of strings": ({"labels": lambda labels: labels.astype(str)}, "wanted integers"),
    "masked labels": ({"labels": lambda y: np.ma.array(y, mask=y == 0)}, "some are masked"),
    "no labels": ({"labels": lambda labels: None}, "wanted integers"),
    "images of 0…255": ({"images": lambda images: images.astype(np.float32)}, "uint8"),
    "images of int64": ({"images": lambda images: images.astype(np.int64)}, "uint8"),
    "an image that is not a number": (
        {"images": lambda images: broken((3, 0, 0, 0), np.nan)(images / 255)},
        "finite",
    ),
    "images in rows": ({"images": lambda images: images.reshape(SIZE, -1)}, r"\[N, H, W"),
    "other images": ({"images": lambda images: images[:, :2]}, "has shape"),
    "no images": ({"images": lambda images: images[:0], "labels": lambda y: y[:0]}, "no examples"),
    "ragged images": ({"images": lambda images: [[1], [1, 2]]}, "wanted an array"),
    "a seed": ({"key": lambda key: 3}, "wanted a key"),
    "several keys": ({"key": lambda key: jax.random.split(key, 3)}, "wanted a key"),
    "no variables": ({"variables": lambda variables: None}, "needs variables"),
    "parameters of another network": (
        {"variables": lambda variables: Variables({"Dense_0": variables.params["Dense_1"]}, {})},
        "Dense_1/bias is missing",
    ),
    "parameters of other shapes": (
        {"variables": lambda v: jax.tree.map(lambda leaf: leaf[:2], v)},
        "has shape",
    ),
    "lists in place of parameters": (
        {"variables": lambda v: jax.tree.map(lambda leaf: leaf.tolist(), v)},
        "is missing",
    ),
    "an array in place of variables": ({"variables": lambda v: np.zeros(3)}, "Variables"),
    "no steps": ({"steps": lambda steps: steps[0].unlearner}, "wanted steps"),
    "a task of more examples": (with_task(rumjax.task([3], 80)), "index 60 is outside 0…59"),
    "a negative index": (with_task(Task(part(-1), part(0, 1))), "index -1 is outside"),
    "an example twice": (with_task(Task(part(4), part(5, 5))), "example 5 is in it twice"),
    "sets that overlap": (with_task(Task(part(4), part(4, 5))), "share 1 examples"),
    "nothing to retain": (with_task(Task(part(4), part())), "wanted indices|nothing is retained"),
    "indices in place of a task": (with_task(np.arange(3)), "wanted a task"),
}


@pytest.mark.parametrize("capacity", [None, 3])
@pytest.mark.parametrize("name", ["neggrad", "neggrad_plus", "scrub", "influence", "random_label"])
def test_algorithms_that_work_on_the_forget_set_want_one(name, capacity, unlearn, plain_model):
    options = {"num_classes": 3} if name == "random_label" else {}
    unlearner = rumjax.unlearn.ALGORITHMS[name](plain_model, **options)
    steps = rumjax.chain(rumjax.task([], SIZE, capacity=capacity), unlearner)
    with pytest.raises(InvalidInputError, match="nothing is to be forgotten"):
        unlearn(steps=lambda _: steps)


def test_an_empty_forget_set_has_room_for_one():
    assert rumjax.task([], SIZE).forget.indices.shape == (1,)


def test_steps_of_two_models_are_refused(unlearn):
    other = Model(Cnn(3, widths=(), hidden=5))
    scratch = rumjax.retrain(other, epochs=1, batch_size=16)
    for first, variables in ((True, lambda v: v), (False, lambda _: None)):

        def mixed(steps, first=first):
            steps = (*steps, steps[0]._replace(unlearner=scratch), steps[0]._replace(name="last"))
            return steps if first else steps[1:]

        with pytest.raises(InvalidInputError, match="last: its model has other variables"):
            unlearn(steps=mixed, variables=variables)


def many(key, steps, variables, data):
    return list(ensemble.make([ensemble.Job("a", key, steps, variables)], data))


@pytest.mark.parametrize("function", [rumjax.run, many])
@pytest.mark.parametrize("mapped", ["task", "record", "variables"])
def test_only_run_pure_is_mapped(mapped, function, unlearn):
    def inside(one):
        change = {
            "task": {"steps": lambda steps: [steps[0]._replace(task=one.task)]},
            "record": {"steps": lambda steps: [steps[0]._replace(unlearner=one.unlearner)]},
            "variables": {"variables": lambda _: one},
        }
        return unlearn(function, **change[mapped])

    given = {}
    unlearn(lambda *arguments: given.update(steps=arguments[1][0], variables=arguments[2]))
    one = given["variables" if mapped == "variables" else "steps"]
    if mapped != "variables":
        one = one._replace(name=0)
    with pytest.raises(InvalidInputError, match=r"use rumjax\.run_pure"):
        jax.vmap(inside)(jax.tree.map(lambda leaf: jnp.stack([leaf]), one))


def test_tasks_are_made_outside_of_maps():
    with pytest.raises(InvalidInputError, match="make tasks outside"):
        jax.vmap(lambda one: rumjax.task(one, SIZE))(jnp.array([[1], [2]]))


@pytest.mark.parametrize("fault", REFUSED)
@pytest.mark.parametrize("function", [rumjax.run, rumjax.run_pure])
def test_what_is_wrong_is_refused_before_anything_runs(fault, function, unlearn, monkeypatch):
    changes, message = REFUSED[fault]
    monkeypatch.setattr("rumjax.descent.Sgd.init", None)
    with pytest.raises(InvalidInputError, match=message):
        unlearn(function, **changes)


@pytest.mark.parametrize(
    "fault", ["labels from 1", "images of 0…255", "a task of more examples", "a seed"]
)
def test_models_at_once_are_checked_alike(fault, unlearn, monkeypatch):
    changes, message = REFUSED[fault]

    def make(key, steps, variables, data):
        return list(ensemble.make([ensemble.Job("a", key, steps, variables)], data))

    monkeypatch.setattr("rumjax.descent.Sgd.init", None)
    with pytest.raises(InvalidInputError, match=message):
        unlearn(make, **changes)


def test_a_task_of_fewer_examples_is_refused_where_data_is_all_of_them(unlearn):
    with pytest.raises(InvalidInputError, match="its task is of 40 examples, the data has 60"):
        unlearn(**with_task(rumjax.task([3], 40)))


def test_another_number_of_classes_is_refused(unlearn, plain_model):
    unlearner = rumjax.random_label(plain_model, num_classes=5)
    with pytest.raises(InvalidInputError, match=r"num_classes is 5.*3 classes"):
        unlearn(steps=lambda steps: rumjax.chain(steps[0].task, unlearner))


def test_parameters_of_few_bits_are_taken_as_they_are(unlearn, plain_original):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), plain_original)
    whole = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
    results = [unlearn(variables=lambda _, form=form: form) for form in (half, whole)]
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_only_a_step_is_blamed_on_its_length(data):
    """A loss that is infinite before any step has other reasons, and says so."""
    model = Model(Cnn(3, widths=(), hidden=4))
    variables = model.init(jax.random.key(0), data.images)
    endless = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.inf), variables)
    for start, rate, message in (
        (endless, 0.1, "no step before it"),
        (variables, 1e30, "learning_rate below 1e.30"),
    ):
        unlearner = rumjax.finetune(model, epochs=1, batch_size=16, learning_rate=rate)
        with pytest.raises(DivergenceError, match=message) as caught:
            rumjax.run(
                jax.random.key(0), rumjax.chain(rumjax.task([1], SIZE), unlearner), start, data
            )
        assert ("learning_rate" in str(caught.value)) == (start is variables)


def test_what_was_forgotten_before_is_neither_forgotten_nor_retained():
    second = rumjax.task([0, 7], 9, already_forgotten=[1, 3])
    retained = second.retain.indices[: int(second.retain.size)]
    assert retained.tolist() == [2, 4, 5, 6, 8]
    assert second.forget.indices.tolist() == [0, 7]
    for forget, before, message in (
        ([0, 1], [1, 3], "1 examples are already forgotten, the first is 1"),
        ([0], [9], "outside 0…8"),
        ([0, 1, 2, 3], [4, 5, 6, 7, 8], "nothing is retained"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            rumjax.task(forget, 9, already_forgotten=before)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.full(9, np.nan), "not finite"),
        (np.zeros((9, 1)), "wanted numbers"),
        (np.zeros(5), "knows 5 examples"),
        (np.zeros(12), "knows 12 examples"),
    ],
)
def test_scores_of_other_examples_refine_nothing(scores, message, plain_model):
    with pytest.raises(InvalidInputError, match=message):
        rumjax.rum(
            [2, 5, 7],
            [0, 1, 3, 4, 6, 8],
            refine=rumjax.by_score(rumjax.Scores(scores)),
            select=rumjax.original(plain_model),
        )


LARGE = Dataset(np.full((60, 28, 28, 1), 255, np.uint8), np.zeros(60, np.int32))


@pytest.mark.parametrize("value", [LARGE, LARGE.images, "9" * 1000, [LARGE.images]])
@pytest.mark.parametrize(
    "call",
    [
        lambda value, model: rumjax.task([1], value),
        lambda value, model: rumjax.finetune(model, epochs=value),
        lambda value, model: rumjax.finetune(model, momentum=value),
        lambda value, model: rumjax.finetune(model, batch_norm=value),
        lambda value, model: rumjax.finetune(model, augmentation=value),
        lambda value, model: rumjax.run(value, (), None, LARGE),
        lambda value, model: rumjax.at_random(parts=value),
        lambda value, model: Model(value),
    ],
)
def test_a_message_shows_no_pixels(call, value, plain_model):
    with pytest.raises(InvalidInputError) as caught:
        call(value, plain_model)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("number", [4, 4.0, np.float32(4), np.array(4)])
def test_a_whole_number_may_be_of_any_type(number, plain_model, plain_original, data):
    chosen = rumjax.subset({1, 2})
    for result in (
        rumjax.models.predict(plain_model, plain_original, data.images, batch_size=number),
        gradients.mean_gradient(plain_model, plain_original, data, chosen, batch_size=number),
        gradients.gram_matrix(plain_model, plain_original, data, chosen, micro_batch=number),
    ):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda task, one, model: rumjax.chain(one, task), "task.forget, size. first"),
        (lambda task, one, model: rumjax.chain(task, rumjax.finetune), "got finetune; call it"),
        (lambda task, one, model: rumjax.chain(task, type(one)), "got Finetune; call it"),
        (lambda task, one, model: rumjax.chain(task, model), "got Model"),
        (lambda task, one, model: rumjax.finetune(model, lr=1), "did you mean 'learning_rate'"),
        (lambda task, one, model: rumjax.grid(one, momentum=[0.1]), "grid: wanted a factory"),
        (lambda task, one, model: rumjax.grid(lambda beta: 3, beta=[0.1]), "grid.*got int"),
        (lambda task, one, model: rumjax.grid(lambda beta: 3, lr=[0.1]), "does not take lr"),
    ],
)
def test_what_is_no_unlearner_is_refused_where_it_is_named(call, message, plain_model):
    with pytest.raises(InvalidInputError, match=message):
        call(rumjax.task([1], SIZE), rumjax.finetune(plain_model), plain_model)


def test_a_run_of_no_steps_wants_variables_all_the_same(unlearn, plain_original):
    with pytest.raises(InvalidInputError, match="wanted rumjax"):
        unlearn(steps=lambda _: (), variables=lambda _: 3)
    same = unlearn(steps=lambda _: (), variables=lambda variables: variables._asdict())
    jax.tree.map(np.testing.assert_array_equal, same, plain_original)
