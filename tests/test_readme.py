"""What the README shows runs as shown."""

import pathlib
import re

import jax
import numpy as np
import pytest

from rumjax.types import Unlearner, task
from rumjax.unlearn import chain, run

README = pathlib.Path(__file__).parent.parent / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_example_on_arrays_of_ones_own_unlearns():
    names = {}
    exec(compile(blocks("python")[0], str(README), "exec"), names)
    before, after = names["original"].params, names["unlearned"].params
    assert jax.tree.structure(before) == jax.tree.structure(after)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert any(jax.tree.leaves(moved))


def test_the_example_of_a_new_algorithm_is_an_unlearner(model, original, data):
    names = {}
    exec(compile(blocks("python")[1], str(README), "exec"), names)
    unlearner: Unlearner = names["ascent_then_descent"](model, batch_size=16)
    found = run(jax.random.key(0), chain(task(np.arange(9), 60), unlearner), original, data)
    assert jax.tree.structure(found) == jax.tree.structure(original)


@pytest.mark.parametrize("name", re.findall(r"--config=(\w+\.py)", README.read_text()))
def test_every_configuration_it_names_is_there(name):
    assert (README.parent / "configs" / name).is_file()


def test_its_test_command_is_the_one_that_is_checked():
    command = re.search(r"\.venv/bin/python (-m pytest.*)", README.read_text()).group(1)
    assert f"python {command}\n" in (README.parent / ".ci" / "run").read_text()
