"""What the README shows runs as shown."""

import pathlib
import re

import jax
import numpy as np
import pytest
from flax import serialization
from rich.console import Console

from rumjax.lab import experiment, pipeline
from rumjax.lab.answers import Answers
from rumjax.lab.bank import ModelBank
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.types import Unlearner, task
from rumjax.unlearn import chain, run
from tests import tiny

README = pathlib.Path(__file__).parent.parent / "README.md"


def text_of(word):
    """The README's example that mentions a word."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (block,) = (block for block in blocks if word in block)
    return block


def example(word):
    """The names that the README's example that mentions a word leaves behind."""
    names = {}
    exec(compile(text_of(word), str(README), "exec"), names)
    return names


def test_the_example_on_arrays_of_ones_own_unlearns():
    names = example("by_score")
    before, after = names["original"].params, names["unlearned"].params
    assert jax.tree.structure(before) == jax.tree.structure(after)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert any(jax.tree.leaves(moved))


@pytest.mark.thorough
def test_the_grid_of_the_readme_is_what_each_of_its_settings_gives():
    names = {}
    for word in ("by_score", "rumjax.grid"):
        exec(compile(text_of(word), str(README), "exec"), names)
    one = names["factory"](learning_rate=0.03, beta=0.99)
    alone = run(jax.random.key(1), chain(names["task"], one), names["original"], names["data"])
    for several, single in zip(
        jax.tree.leaves(names["six"].params), jax.tree.leaves(alone.params), strict=True
    ):
        assert several.shape == (6, *single.shape)
        np.testing.assert_allclose(several[3], single, rtol=1e-3, atol=1e-5)


def test_the_example_of_a_checkpoint_writes_one_that_flax_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(text_of("by_score"), str(README), "exec"), names)
    original = {"params": names["original"].params, "batch_stats": {}}
    pathlib.Path("model.msgpack").write_bytes(serialization.to_bytes(original))
    exec(compile(text_of("load_variables"), str(README), "exec"), names)
    written = pathlib.Path("unlearned.msgpack").read_bytes()
    back = serialization.from_bytes(original, written)
    for one, other in zip(
        jax.tree.leaves(back["params"]), jax.tree.leaves(names["unlearned"].params), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.thorough
def test_the_example_of_a_comparison_has_a_row_of_its_own(capsys):
    exec(compile("import rumjax\n" + text_of("benchmarks.compare"), str(README), "exec"), {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("mine ")


def test_a_second_request_neither_forgets_nor_retains_the_first():
    assert "rumjax.task(second, 600, already_forgotten=first)" in README.read_text()
    first, second = np.arange(10), np.arange(10, 15)
    later = task(second, 600, already_forgotten=first)
    retained = np.asarray(later.retain.indices)[: int(later.retain.size)]
    np.testing.assert_array_equal(retained, np.arange(15, 600))


def test_the_example_of_a_new_algorithm_is_an_unlearner(model, original, data):
    names = example("AscentThenDescent")
    unlearner: Unlearner = names["ascent_then_descent"](model, batch_size=16)
    found = run(jax.random.key(0), chain(task(np.arange(9), 60), unlearner), original, data)
    assert jax.tree.structure(found) == jax.tree.structure(original)


def test_the_example_of_a_bank_reads_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with WorkDirectory("runs/fashion_mnist_rum") as work:
        bank = ModelBank(work, {"seed": 0, "fraction": 0.5, "size": 6000, "examples": 6200})
        random = np.random.default_rng(0)
        for model in range(32):
            correct = bank.member(model) | (random.random(6000) < 0.5)
            correct = np.concatenate([correct, random.random(200) < 0.9])
            bank.write(model, Answers(random.normal(size=6200), correct), seconds=1.0)
    names = example("ModelBank.open")
    assert names["scores"].values.shape == (6000,)
    assert names["rows"].margins.shape == (32, 6200)
    assert names["influence"].shape == (2, 100)
    assert [row["models"] for row in names["table"]] == [16]


def test_the_example_of_parts_of_ones_own_runs_to_its_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(text_of("mine:gentle"))
    tiny.write_data(tmp_path / "images.npz")
    small = ("seeds=1", "training.epochs=1", "training.batch_size=32", "attack.samples=20")
    config = configuration("mine.py", [f"--config.{override}" for override in small])
    config["model"] = {"name": "cnn", "options": {"widths": (4,), "hidden": 8}}
    with WorkDirectory(tmp_path / "run") as work:
        rows = pipeline.run_experiment(
            experiment.build(config), work, console=Console(quiet=True), figures=False
        )
    assert {"gentle", "by_uncertainty", "in_halves"} <= {row["name"] for row in rows}
    assert all(0 <= row["agreement"] <= 1 for row in rows)


def test_the_example_of_an_audit_tells_a_shift():
    found = example("audits.audit")["found"]
    divergence = 0.5  # of unit Gaussians that are 1 apart; 64 models overrate it
    assert divergence < found.value("klom_corrected", "forget_mean") < 3 * divergence
    assert found.per_example["epsilon"].shape == (90,)


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"--config=(\w+\.py)", README.read_text())) - {"mine.py"})
)
def test_every_configuration_it_names_is_there(name):
    assert (README.parent / "configs" / name).is_file()


def test_its_test_command_is_the_one_that_is_checked():
    command = re.search(r"\.venv/bin/python (-m pytest.*)", README.read_text()).group(1)
    assert f"python {command}\n" in (README.parent / ".ci" / "run").read_text()
