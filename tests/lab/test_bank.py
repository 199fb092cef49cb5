"""A bank's rows are whole or absent, and the same however, wherever and whenever they are made."""

import jax
import numpy as np
import pytest

from rumjax import scores
from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.lab import bank
from rumjax.lab.answers import Answers
from rumjax.lab.bank import ModelBank
from rumjax.lab.workdir import WorkDirectory
from rumjax.unlearn import retrain

SIZE, EXAMPLES = 40, 60
HEADER = {"seed": 3, "fraction": 0.5, "size": SIZE, "examples": EXAMPLES, "recipe": {"rate": 0.1}}
KEY = jax.random.key(5)


@pytest.fixture
def work(tmp_path):
    with WorkDirectory(tmp_path / "run") as work:
        yield work


def random_row(model, examples=EXAMPLES):
    random = np.random.default_rng(model)
    margins = random.normal(size=examples).astype(np.float32)
    return Answers(margins, random.random(examples) < 0.6)


def filled(work, models, **changes):
    """A bank of made-up rows."""
    found = ModelBank(work, HEADER | changes)
    for model in models:
        found.write(model, random_row(model, found.header["examples"]), seconds=2.0)
    return found


@pytest.fixture(scope="module")
def recipe(plain_model):
    return retrain(plain_model, epochs=2, batch_size=16, learning_rate=0.1)


def train(path, recipe, data, models, **options):
    with WorkDirectory(path) as work:
        found = ModelBank(work, HEADER)
        missing = bank.lacking(found, models, checkpoints=options.get("checkpoints", False))
        bank.train(found, recipe, data, KEY, missing, **options)
        return found


def same_rows(one, other, models):
    for model in models:
        ours, theirs = one.read(model), other.read(model)
        assert np.array_equal(ours.margins, theirs.margins)
        assert np.array_equal(ours.correct, theirs.correct)
        assert np.array_equal(ours.member, theirs.member)


# Rows


def test_a_row_is_read_as_it_was_written(work):
    found = filled(work, [0, 7])
    assert found.done() == [0, 7]
    margins, correct = random_row(7)
    row = found.read(7)
    assert np.array_equal(row.margins, margins)
    assert row.margins.dtype == np.float32
    assert np.array_equal(row.correct, correct)
    assert row.seconds == 2.0
    assert np.flatnonzero(row.member).tolist() == scores.random_subset(3, 7, SIZE, 0.5).tolist()


def test_rows_can_be_read_together_or_one_by_one_and_while_the_bank_grows(work):
    found = filled(work, [0, 2])
    assert found.stack().margins.shape == (2, EXAMPLES)
    filled(work, [1])
    together = found.stack()
    assert together.seconds == 6.0
    for model, row in enumerate(found.rows()):
        assert np.array_equal(together.member[model], row.member)
        assert np.array_equal(together.correct[model], random_row(model)[1])
    assert np.array_equal(found.stack([2]).margins[0], random_row(2)[0])


def test_a_bank_of_another_recipe_is_refused_and_says_what_differs(work):
    filled(work, [0])
    with pytest.raises(WorkDirectoryError, match=r"recipe\.rate: 0\.1, now 0\.2"):
        ModelBank(work, HEADER | {"recipe": {"rate": 0.2}})
    assert ModelBank.open(work).header == HEADER


def test_there_may_be_no_bank_to_open(work):
    with pytest.raises(WorkDirectoryError, match="there is no bank in"):
        ModelBank.open(work)


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty", "another size"])
def test_a_damaged_row_is_an_error_until_it_is_discarded(work, harm):
    found = filled(work, [0, 1, 2])
    path = work.path / "bank" / "00001.npz"
    content = bytearray(path.read_bytes())
    if harm == "another size":
        found.write(1, random_row(1, EXAMPLES + 8), seconds=1.0)
    else:
        middle = len(content) // 2
        content[middle] ^= 255
        path.write_bytes({"truncated": content[:middle], "flipped": content, "empty": b""}[harm])
    with pytest.raises(WorkDirectoryError, match=r"00001\.npz"):
        found.read(1)
    with pytest.raises(WorkDirectoryError):
        found.memorization()
    assert found.discard_damaged() == [1]
    assert found.done() == [0, 2]
    assert found.discard_damaged() == []


def test_banks_of_one_recipe_are_merged(tmp_path):
    with WorkDirectory(tmp_path / "a") as a, WorkDirectory(tmp_path / "b") as b:
        one, other = filled(a, [0, 1, 4]), filled(b, [1, 2])
        assert one.merge(other) == [2]
        assert one.done() == [0, 1, 2, 4]
        same_rows(one, other, [1, 2])
        assert one.merge(other) == []


def test_banks_of_two_recipes_are_not(tmp_path):
    with WorkDirectory(tmp_path / "a") as a, WorkDirectory(tmp_path / "b") as b:
        one, other = filled(a, [0]), filled(b, [1], seed=4)
        with pytest.raises(InvalidInputError, match="seed: 3, now 4"):
            one.merge(other)
        assert one.done() == [0]


# What is read from it


def test_memorization_and_influence_are_those_of_all_rows_together(work):
    found = filled(work, range(24))
    rows = found.stack()
    wanted = scores.memorization(rows.member, rows.correct[:, :SIZE])
    ours = found.memorization()
    assert np.array_equal(ours.values, wanted.values)
    assert np.array_equal(ours.standard_error, wanted.standard_error)
    of, on = np.array([3, 30, 7]), np.arange(SIZE, EXAMPLES)
    influence = scores.influence(rows.member, rows.correct[:, on])[of]
    np.testing.assert_allclose(found.influence(of, on), influence, atol=1e-6)


def test_scores_of_some_models_are_scores_of_those_alone(work):
    found = filled(work, range(30))
    rows = found.stack(range(5, 25))
    wanted = scores.memorization(rows.member, rows.correct[:, :SIZE])
    assert np.array_equal(found.memorization(range(5, 25)).values, wanted.values)


def write_memorizing(found, models, probability, sharpness):
    """Rows in which example i is classified correctly by a model that has not seen it, too, with
    a probability that falls with i: memorization rises from 0 to `sharpness`."""
    unseen = 1 - sharpness * np.linspace(0, 1, SIZE)
    for model in models:
        random = np.random.default_rng((9, model))
        lucky = random.random(SIZE) < unseen ** (1 / probability)
        correct = np.concatenate([found.member(model) | lucky, np.ones(EXAMPLES - SIZE, bool)])
        found.write(model, Answers(np.zeros(EXAMPLES, np.float32), correct), seconds=1.0)


def test_stability_grows_with_models_where_examples_differ(work):
    found = ModelBank(work, HEADER)
    write_memorizing(found, range(256), 1.0, 1.0)
    table = found.stability(part=5)
    assert [row["models"] for row in table] == [8, 16, 32, 64, 128][-len(table) :]
    assert len(table) >= 3
    assert table[-1]["spearman"] > 0.95
    assert table[-1]["spearman"] > table[0]["spearman"]
    for row in table:
        assert all(0 <= row[name] <= 1 for name in ("low", "medium", "high"))


def test_stability_is_nothing_where_correctness_is_chance(work):
    found = filled(work, range(128))
    row = found.stability(part=5)[-1]
    assert row["models"] == 64
    assert abs(row["spearman"]) < 4 / np.sqrt(SIZE)


# Training


@pytest.fixture(scope="module")
def whole(tmp_path_factory, recipe, data):
    """A bank of 12 models made by one process at once."""
    return train(tmp_path_factory.mktemp("bank") / "run", recipe, data, 12)


def test_extending_a_bank_equals_building_it_at_once(tmp_path, whole, recipe, data):
    found = train(tmp_path / "run", recipe, data, 5)
    stamps = {model: (found.work.path / f"bank/{model:05d}.npz").stat() for model in range(5)}
    found = train(tmp_path / "run", recipe, data, 12)
    assert found.done() == list(range(12))
    same_rows(found, whole, range(12))
    for model, stamp in stamps.items():
        now = (found.work.path / f"bank/{model:05d}.npz").stat()
        assert (now.st_ino, now.st_mtime_ns) == (stamp.st_ino, stamp.st_mtime_ns)


def test_only_what_is_missing_is_trained(tmp_path, whole, recipe, data):
    train(tmp_path / "run", recipe, data, 12)
    for model in (2, 9):
        (tmp_path / "run" / "bank" / f"{model:05d}.npz").unlink()
    made = []
    found = train(tmp_path / "run", recipe, data, 12, on_made=lambda each: made.extend(each.names))
    assert made == ["model 2", "model 9"]
    same_rows(found, whole, range(12))


def test_kept_models_are_those_that_made_the_rows(tmp_path, plain_model, recipe, data):
    found = train(tmp_path / "run", recipe, data, 3, checkpoints=True)
    like = jax.eval_shape(plain_model.init, jax.random.key(0), data.images)
    variables = found.work.load_model("bank_00002", like)
    logits = plain_model.apply(variables, data.images, train=False)[0].logits
    right = np.asarray(logits.argmax(axis=1)) == np.asarray(data.labels)
    assert np.array_equal(right, found.read(2).correct)
    probability = np.asarray(jax.nn.softmax(logits))[np.arange(60), np.asarray(data.labels)]
    margins = np.log(probability) - np.log1p(-probability)
    np.testing.assert_allclose(found.read(2).margins, margins, rtol=1e-3, atol=1e-3)


def test_models_that_are_not_kept_are_lacking_where_they_ought_to_be(tmp_path):
    with WorkDirectory(tmp_path) as work:
        found = ModelBank(work, {"seed": 0, "fraction": 0.5, "size": 4, "examples": 4})
        for model in (0, 2):
            found.write(model, Answers(np.zeros(4), np.zeros(4, bool)), seconds=1.0)
        assert bank.lacking(found, 4) == [1, 3]
        assert bank.lacking(found, 4, checkpoints=True) == [0, 1, 2, 3]
        assert bank.lacking(found, 1) == []
