"""What the README and the pages of docs/ show runs as shown."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax import serialization
from rich.console import Console

from rumjax.forget import UNUSED
from rumjax.lab import experiment, pipeline
from rumjax.lab.workdir import WorkDirectory
from rumjax.launch import configuration
from rumjax.types import Unlearner, task
from rumjax.unlearn import chain, run
from tests import tiny

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))

FIRST = (
    "python3 -m venv .venv && .venv/bin/pip install . && "
    ".venv/bin/python -m rumjax.launch --config=fashion_mnist_rum.py"
)
REQUEST = (
    ".venv/bin/python examples/write_images.py images",
    ".venv/bin/python examples/train_linen.py images linen.msgpack",
    ".venv/bin/python -m rumjax.forget --config=examples/forget_linen.py "
    "--requests=examples/requests_1.csv",
)
IN_CI = (
    ".venv/bin/pip install '.[test]' && .venv/bin/python -m pytest -n 2 --dist loadfile",
    ".venv/bin/pip install '.[docs]' && .venv/bin/sphinx-build -W -n -b html docs site",
)


def blocks(page, language):
    """The blocks of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def text_of(page, word):
    """The example of a page of docs/ that mentions a word."""
    (block,) = (block for block in blocks(ROOT / "docs" / page, "python") if word in block)
    return block


def example(page, *words):
    """The names that examples of a page leave behind, one after another."""
    names = {}
    for word in words:
        exec(compile(text_of(page, word), page, "exec"), names)
    return names


def copied(folder):
    """A copy of what is in the repository, for commands that write into it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/", "benchmarks/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 120


def test_every_command_of_the_readme_is_one_that_is_run():
    lines = [line for block in blocks(README, "bash") for line in block.splitlines()]
    commands = [re.sub(r"\s+#.*", "", line) for line in lines]
    assert sorted(commands) == sorted([FIRST, *REQUEST, *IN_CI])


@pytest.mark.parametrize("command", IN_CI)
def test_commands_that_check_the_project_are_those_of_ci(command):
    steps = (ROOT / ".ci" / "run").read_text()
    program = re.search(r"&& \.venv/bin/(.*)", command).group(1)
    assert f"    {program}\n" in steps


@pytest.mark.lengthy
def test_the_first_command_installs_and_trains(tmp_path):
    copied(tmp_path)
    models = tmp_path / "runs" / "fashion_mnist_rum" / "checkpoints"
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            ["bash", "-c", FIRST], cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while running.poll() is None and not list(models.glob("original_seed0*")):
            time.sleep(1)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    said = (tmp_path / "log").read_text()
    if "NewConnectionError" in said or "Temporary failure in name resolution" in said:
        pytest.skip("pip has no network here")
    assert list(models.glob("original_seed0*")), said


@pytest.mark.thorough
def test_the_commands_of_a_request_deliver_a_model(tmp_path):
    copied(tmp_path)
    for command in REQUEST:
        words = command.replace(".venv/bin/python", sys.executable).split()
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tmp_path)}
        ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "runs" / "linen" / "requests" / "batch_0001" / "certificate.html").exists()


@pytest.mark.thorough
def test_the_lines_of_the_readme_unlearn():
    (block,) = blocks(README, "python")
    names = {}
    exec(compile(block, str(README), "exec"), names)
    before, after = names["original"].params, names["unlearned"].params
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert any(jax.tree.leaves(moved))


def test_the_example_on_arrays_of_ones_own_unlearns():
    names = example("library.md", "by_score")
    before, after = names["original"].params, names["unlearned"].params
    assert jax.tree.structure(before) == jax.tree.structure(after)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    assert any(jax.tree.leaves(moved))


@pytest.mark.thorough
def test_the_grid_is_what_each_of_its_settings_gives():
    names = example("library.md", "by_score", "rumjax.grid")
    one = names["factory"](learning_rate=0.03, beta=0.99)
    alone = run(jax.random.key(1), chain(names["task"], one), names["original"], names["data"])
    for several, single in zip(
        jax.tree.leaves(names["six"].params), jax.tree.leaves(alone.params), strict=True
    ):
        assert several.shape == (6, *single.shape)
        np.testing.assert_allclose(several[3], single, rtol=1e-3, atol=1e-5)


def test_the_example_of_a_checkpoint_writes_one_that_flax_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = example("library.md", "by_score")
    original = {"params": names["original"].params, "batch_stats": {}}
    pathlib.Path("model.msgpack").write_bytes(serialization.to_bytes(original))
    exec(compile(text_of("library.md", "load_variables"), "library.md", "exec"), names)
    written = pathlib.Path("unlearned.msgpack").read_bytes()
    back = serialization.from_bytes(original, written)
    for one, other in zip(
        jax.tree.leaves(back["params"]), jax.tree.leaves(names["unlearned"].params), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.thorough
def test_the_example_of_a_comparison_has_a_row_of_its_own(capsys):
    exec("import rumjax\n" + text_of("library.md", "benchmarks.compare"), {})
    assert capsys.readouterr().out.splitlines()[-1].startswith("mine ")


def test_a_second_request_neither_forgets_nor_retains_the_first():
    page = (ROOT / "docs" / "library.md").read_text()
    assert "rumjax.task(second, 600, already_forgotten=first)" in page
    first, second = np.arange(10), np.arange(10, 15)
    later = task(second, 600, already_forgotten=first)
    retained = np.asarray(later.retain.indices)[: int(later.retain.size)]
    np.testing.assert_array_equal(retained, np.arange(15, 600))


def test_the_example_of_a_new_algorithm_is_an_unlearner(model, original, data):
    names = example("own_parts.md", "AscentThenDescent")
    unlearner: Unlearner = names["ascent_then_descent"](model, batch_size=16)
    found = run(jax.random.key(0), chain(task(np.arange(9), 60), unlearner), original, data)
    assert jax.tree.structure(found) == jax.tree.structure(original)


def test_the_example_of_parts_of_ones_own_runs_to_its_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text(text_of("own_parts.md", "mine:gentle"))
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
    names = example("audits.md", "audits.audit(unlearned", "audits.audit(after")
    found = names["found"]
    divergence = 0.5  # of unit Gaussians that are 1 apart; 64 models overrate it
    assert divergence < found.value("klom_corrected", "forget_mean") < 3 * divergence
    assert found.per_example["epsilon"].shape == (90,)
    assert "u_lira" in {finding.audit for finding in names["leaks"].findings}


def test_the_configuration_for_a_class_is_one(tmp_path):
    path = tmp_path / "class_request.py"
    path.write_text(text_of("which_algorithm.md", "validation_drop"))
    run = experiment.build({**UNUSED, **configuration(str(path))})
    assert run.config.forgetting.validation_drop == 0.12


@pytest.mark.thorough
@pytest.mark.parametrize("page", ["design.md", "measures.md", "methods.md"])
def test_the_examples_of_a_page_run_one_after_another(page):
    names, shown = {}, blocks(ROOT / "docs" / page, "python")
    for block in shown:
        exec(compile(block, page, "exec"), names)
    assert shown


@pytest.mark.parametrize(
    "name",
    sorted(
        {name for page in PAGES for name in re.findall(r"--config=(\w+\.py)", page.read_text())}
    ),
)
def test_every_configuration_that_is_named_is_there(name):
    theirs = name in ("mine.py", "class_request.py")
    assert theirs or (ROOT / "configs" / name).is_file()
