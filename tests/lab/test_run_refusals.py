"""What a run refuses, and when; training that diverges; a model of one's own."""

import shutil

import numpy as np
import pytest

from rumjax.lab.workdir import WorkDirectory
from rumjax.scores import PROXIES
from tests.runs import arrays, same_results, start, table
from tests.tiny import SIZE, TESTS, write_config, write_data

# What goes wrong


@pytest.mark.usefixtures("no_figures")
def test_training_that_diverges_leaves_nothing_and_may_be_mended(place, finished, tmp_path, capsys):
    work = tmp_path / "run"
    assert start(place / "tiny.py", work, "--config.training.learning_rate=1e30") == 1
    error = capsys.readouterr().err
    assert "DivergenceError" in error
    assert "Try learning_rate below" in error
    assert not list(work.glob("rows/*")) + list(work.glob("checkpoints/*"))
    assert start(place / "tiny.py", work) == 0
    same_results(work, finished)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": np.full(TESTS, 3)}, "60 labels are outside 0…2, the first is 3"),
        ({"train_labels": np.full(SIZE, -1)}, "labels are outside"),
        (
            {
                "train_labels": np.zeros(SIZE, int),
                "validation_labels": np.zeros(9, int),
                "test_labels": np.zeros(TESTS, int),
            },
            "num_classes: wanted a whole number of at least 2, got 1",
        ),
        ({"train_labels": np.full(SIZE, 0.5)}, "wanted integer labels"),
        ({"train_images": np.zeros((SIZE, 8, 8, 1))}, "wanted images of uint8, got float64"),
        ({"test_images": np.zeros((TESTS, 9, 9, 1), np.uint8)}, "9"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, no_training, capsys, changes, message):
    write_data(tmp_path / "data.npz", **changes)
    write_config(tmp_path)
    assert start(tmp_path / "tiny.py", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "InvalidInputError" in error
    assert message in error


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("3\n120\n", "'120' (outside 0…119, the rows of the source"),
        ("-1\n", "'-1' (outside 0…119"),
        ("3\n4\n3\n", "named more than once, the first are rows [3]"),
        ("\n".join(map(str, range(SIZE))), "covers all 120 examples"),
        ("3.5\n", "3.5' (no row"),
        ("three\n", "three' (no row"),
        (None, "cannot be read"),
    ],
)
def test_a_forget_file_that_cannot_be_used_is_refused_before_training(
    place, tmp_path, no_training, capsys, lines, message
):
    path = tmp_path / "forget.txt"
    if lines is not None:
        path.write_text(lines)
    write_config(place, "file.py", f'config.forget = {{"by": "file", "path": {str(path)!r}}}')
    assert start(place / "file.py", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "InvalidInputError" in error
    assert message in error


def test_an_empty_forget_file_is_refused_before_training(place, tmp_path, no_training, capsys):
    np.save(tmp_path / "empty.npy", np.empty(0, np.int64))
    path = str(tmp_path / "empty.npy")
    write_config(place, "file.py", f'config.forget = {{"by": "file", "path": {path!r}}}')
    assert start(place / "file.py", tmp_path / "run") == 1
    assert "no indices; at least one is needed" in capsys.readouterr().err


def one_method(algorithm, **options):
    return f'config.methods["one"] = vanilla({dict(algorithm=algorithm, **options)})'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("config.bank.models = 3", "were seen by all 3 models or by none"),
        ("config.bank.fraction = 0.0", "fraction: wanted a number between 0 and 1"),
        ("config.forget.size = 40", "three levels of 40 leave nothing"),
        ('config.model = {"name": "vgg16"}', "it needs 32×32"),
        ("config.attack.samples = -1", "attack.samples"),
        (one_method("unsir"), "Unsir forgets whole classes, and forget.by='memorization' chooses"),
        (
            one_method("datamodel_matching")
            + """; config.forget = {"by": "random", "size": 9}; config.bank.models = 3"""
            + """; del config.methods["finetune_rum_f"], config.methods["mixed"]""",
            "bank.models: a datamodel needs 4 or more, got 3",
        ),
        (one_method("cf_k", k=9), "methods.one, all: k, last layers"),
        (one_method("fisher_noise", forgotten_class=3), "forgotten_class: 3 of 3 classes"),
    ],
)
def test_what_would_fail_after_training_fails_before(
    place, tmp_path, no_training, capsys, more, message
):
    write_config(place, "late.py", more)
    assert start(place / "late.py", tmp_path / "run") == 1
    assert message in capsys.readouterr().err


def test_a_method_that_does_not_suit_the_forget_set_is_found_before_oracles(
    place, run, no_training, capsys
):
    shutil.rmtree(run / "checkpoints" / "oracle_second_seed0")
    more = 'config.methods["fine"] = rum_f(finetune, parts=[f"p{i}" for i in range(31)])'
    write_config(place, "parts.py", more)
    assert start(place / "parts.py", run) == 1
    assert "part 'p30' is empty" in capsys.readouterr().err


def test_a_work_directory_in_use_is_refused(place, run, capsys):
    with WorkDirectory(run):
        assert start(place / "tiny.py", run) == 1
    assert "in use by another process" in capsys.readouterr().err


# Your own model


MODULE = """
import flax.linen as nn


class Linear(nn.Module):
    num_classes: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(self.scale * images.reshape(len(images), -1))
"""


@pytest.mark.usefixtures("no_figures")
def test_a_model_of_your_own_without_embeddings_or_bank_runs(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_linear_model.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    more = """config.model = {"name": "own_linear_model:Linear", "options": {"scale": 0.5}}
    config.forget = {"by": "random", "size": 12}
    config.methods = {"mine": shuffle(finetune, parts=("one", "two"))}"""
    write_config(place, "own.py", more)
    assert start(place / "own.py", tmp_path / "run") == 0
    found = arrays(tmp_path / "run" / "scores.npz")
    assert set(found) == {*PROXIES, "source", "source_rows"}
    assert len(arrays(tmp_path / "run" / "forget_sets.npz")["random"]) == 12
    assert len(table(tmp_path / "run" / "results.csv")) == 4
    capsys.readouterr()
    write_config(place, "own.py", more.replace('"random", "size": 12', '"entanglement", "size": 3'))
    assert start(place / "own.py", tmp_path / "other") == 1
    assert "its embeddings are needed" in capsys.readouterr().err
