"""`examples/one_file.py` makes the models of rumjax, and its numbers, in 90 lines without it."""

import ast
import contextlib
import io
import pathlib
import runpy
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rumjax
from rumjax import metrics, scores
from rumjax.models import Model, from_functions
from rumjax.types import Variables

SCRIPT = pathlib.Path(__file__).parent.parent / "examples" / "one_file.py"
COUNT, EPOCHS, MODELS = 320, 2, 16
"""so small that it takes seconds, and that training hardly amplifies how numbers were rounded"""


@pytest.fixture(scope="module")
def script():
    """Everything that the script defines and computes, and what it prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, (COUNT, EPOCHS, MODELS))])
        names = runpy.run_path(str(SCRIPT))
    return types.SimpleNamespace(**names, printed=out.getvalue())


class SameStart(Model):
    """Draws parameters by its key as the script does; Linen would fold a hash into it first."""

    def init(self, key, images):
        return Variables(initial(key, images), {})


def initial(key, images):
    hidden = jax.nn.initializers.he_normal()(key, (64, 256))
    return {"hidden": hidden, "output": jnp.zeros((256, 10))}


@pytest.fixture(scope="module")
def model(script):
    def apply(params, images):
        return script.apply(params, images.reshape(len(images), -1))

    return SameStart(from_functions(initial, apply))


@pytest.fixture(scope="module")
def data(script):
    images = jnp.asarray(script.images, jnp.float32).reshape(-1, 8, 8, 1)
    return rumjax.Dataset(images[:COUNT], jnp.asarray(script.labels[:COUNT], jnp.int32))


@pytest.fixture(scope="module")
def recipe(model):
    return rumjax.retrain(
        model,
        epochs=EPOCHS,
        learning_rate=0.1,
        schedule="steps",
        milestones=(EPOCHS / 2,),
        decay=0.1,
        batch_size=64,
    )


@pytest.fixture(scope="module")
def algorithms(model):
    options = {"epochs": 3, "learning_rate": 0.1, "batch_size": 64}
    return {
        "low": rumjax.original(model),
        "medium": rumjax.finetune(model, **options),
        "high": rumjax.random_label(model, num_classes=10, **options),
    }


def assert_same(params, variables):
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5),
        params,
        variables.params,
    )


def trained(key, recipe, data, chosen):
    """A model of some examples; all have the same capacities, so they share a compilation."""
    left_out = np.setdiff1d(np.arange(COUNT), chosen)
    task = rumjax.task([], COUNT, already_forgotten=left_out)
    return rumjax.run(key, rumjax.chain(task, recipe), None, data)


def test_training(script, recipe, data):
    everything = np.arange(COUNT)
    assert_same(script.original, trained(jax.random.key(0), recipe, data, everything))
    assert_same(script.oracle, trained(jax.random.key(3), recipe, data, script.retain))


def test_bank(script, recipe, data):
    for m, (member, correct) in enumerate(zip(script.member, script.correct, strict=True)):
        chosen = scores.random_subset(0, m, COUNT, 0.5)
        np.testing.assert_array_equal(np.flatnonzero(member), chosen)
        model = trained(jax.random.fold_in(jax.random.key(1), m), recipe, data, chosen)
        outputs = rumjax.models.predict(recipe.model, model, data.images)
        np.testing.assert_array_equal(correct, outputs.logits.argmax(axis=1) == data.labels)
    assert_same(script.model, model)


def test_scores_and_parts(script):
    memorized = scores.memorization(script.member, script.correct)
    np.testing.assert_allclose(script.scores, memorized.values, rtol=1e-5, atol=1e-5)
    assert len(np.unique(memorized.values)) < COUNT / 2  # so that ties are broken
    drawn = rumjax.forget_sets.at_random(COUNT, COUNT // 10, seed=0)["random"]
    np.testing.assert_array_equal(script.forget, drawn)
    parts = rumjax.by_score(memorized)(script.forget)
    for name, part in parts.items():
        np.testing.assert_array_equal(getattr(script, name), part)


def test_finetuning(script, algorithms, data):
    task, key = rumjax.task(script.forget, COUNT), jax.random.key(5)
    start = Variables(script.original, {})
    tuned = rumjax.run(key, rumjax.chain(task, algorithms["medium"]), start, data)
    first = jax.random.fold_in(key, 0)
    assert_same(script.descend(first, script.original, script.retain, script.UNLEARNING), tuned)


def test_random_labels(script, algorithms, data):
    steps = rumjax.chain(rumjax.task(script.forget, COUNT), algorithms["high"])
    start = Variables(script.original, {})
    assert_same(script.relabelled, rumjax.run(jax.random.key(2), steps, start, data))


def test_rum(script, algorithms, data):
    steps = rumjax.rum(
        script.forget,
        script.retain,
        refine=rumjax.by_score(rumjax.Scores(script.scores)),
        select=algorithms,
        order=("high", "medium", "low"),
    )
    start = Variables(script.original, {})
    assert_same(script.rum, rumjax.run(jax.random.key(2), steps, start, data))


def test_tug_of_war(script):
    rows = [metrics.Accuracies(*row) for row in script.accuracies.tolist()]
    lines = script.printed.splitlines()
    assert [line.split("  ")[0] for line in lines] == list(script.models)
    for row, line in zip(rows, lines, strict=True):
        assert line.endswith(f"ToW {metrics.tug_of_war(row, rows[0]):.3f}")
    np.testing.assert_allclose(script.tow, metrics.tug_of_war(rows[-1], rows[0]), rtol=1e-5)


def test_it_is_short_and_does_without_rumjax():
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 90
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert imported == {"sys", "jax", "numpy", "optax"}
