"""Coins before training: who is in, who is out, and what they say of a model afterwards."""

import numpy as np
import pytest

from rumjax import launch
from rumjax.data import load
from rumjax.errors import InvalidInputError
from rumjax.lab import experiment
from rumjax.lab.reserve import toss
from tests.lab.forgetting import offices
from tests.runs import arrays

RESERVE = """
    del config.original
    config.data.data_dir = "DATA"
    config.reserve = 48
    config.training = {"epochs": 40, "batch_size": 32, "learning_rate": 0.1}
    config.forgetting.budget = 1.0
"""


@pytest.fixture(scope="module")
def splits(foreign):
    return load("npz", data_dir=foreign / "data.npz")


def test_coins_are_fair_and_fall_alike_for_a_seed(splits):
    insides = []
    for seed in range(200):
        data, reserve = toss(splits, 40, seed)
        inside = set(reserve.inside_rows.tolist())
        assert not inside & set(reserve.outside_rows.tolist())
        assert reserve.size == 40
        kept = data.origin("train").rows
        assert set(kept) == set(range(offices.SIZE)) - set(reserve.outside_rows.tolist())
        np.testing.assert_array_equal(kept[reserve.inside(data)], reserve.inside_rows)
        np.testing.assert_array_equal(
            reserve.outside.images, splits.train.images[reserve.outside_rows]
        )
        insides.append(len(inside))
    # 8000 coins: five standard deviations.
    assert abs(np.sum(insides) - 4000) < 5 * np.sqrt(2000)
    again = toss(splits, 40, 7)[1]
    np.testing.assert_array_equal(again.inside_rows, toss(splits, 40, 7)[1].inside_rows)
    with pytest.raises(InvalidInputError, match="at most half of the 96"):
        toss(splits, 49, 0)


@pytest.fixture(scope="module")
def fulfilled(foreign, tmp_path_factory):
    """A network that memorizes labels at random, with a reserve, and one request."""
    folder = tmp_path_factory.mktemp("reserve")
    labels = np.random.default_rng(1).integers(0, offices.CLASSES, offices.SIZE)
    offices.write_data(folder / "data.npz", train_labels=labels)
    more = RESERVE.replace("DATA", str(folder / "data.npz"))
    config = offices.write_config(folder, "reserve.py", more, data=foreign)
    run = experiment.build({**offices.forget.UNUSED, **launch.configuration(str(config), [])})
    row = int(np.setdiff1d(np.arange(offices.SIZE), recorded(run))[0])
    requests = offices.asked(folder / "requests.csv", r1=[row])
    assert offices.start(config, requests, folder / "work") == 0
    return folder, run


def recorded(run):
    return np.concatenate([run.reserve.inside_rows, run.reserve.outside_rows])


def test_the_coins_are_recorded(fulfilled):
    folder, run = fulfilled
    written = arrays(folder / "work/reserve.npz")
    np.testing.assert_array_equal(written["inside_rows"], run.reserve.inside_rows)
    np.testing.assert_array_equal(written["outside_rows"], run.reserve.outside_rows)


def test_what_was_put_in_goes_with_the_first_batch(fulfilled):
    folder, run = fulfilled
    document = offices.certificate(folder / "work", 1)
    own, reserve = document["requests"]
    assert (own["id"], own["count"]) == ("r1", 1)
    assert (reserve["id"], reserve["count"]) == ("audit reserve", len(run.reserve.inside_rows))
    assert document["data_before"]["examples"] == offices.SIZE - len(run.reserve.outside_rows)


def test_epsilon_is_larger_before(fulfilled):
    rows = {row["name"]: row for row in offices.certificate(fulfilled[0] / "work", 1)["evidence"]}
    row = rows["ε, at least"]
    assert 0 <= row["value"] <= row["of_original"]
    assert row["of_original"] > 0.2


def test_what_was_left_out_cannot_be_forgotten(fulfilled, tmp_path, capsys):
    folder, run = fulfilled
    requests = offices.asked(tmp_path / "out.csv", r9=[int(run.reserve.outside_rows[0])])
    assert offices.start(folder / "reserve.py", requests, tmp_path / "work") == 1
    assert "reserve" in capsys.readouterr().err


def test_other_coins_are_not_taken(fulfilled, tmp_path, capsys):
    folder, _ = fulfilled
    work = offices.copied(folder / "work", tmp_path / "work")
    config = f"--config={folder / 'reserve.py'}"
    assert launch.main([config, f"--workdir={work}", "--config.reserve=30"]) == 1
    capsys.readouterr()
