"""The tree of what a configuration may say agrees with the functions that take it."""

import copy
import dataclasses
import inspect
import shlex
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from rumjax import data, forget_sets, models, refine
from rumjax.descent import SgdOptions
from rumjax.errors import InvalidInputError
from rumjax.lab import methods, schema
from rumjax.lab.config import FORGET, Config, read
from rumjax.lab.explaining import describe_sections, entries, explain
from rumjax.lab.options import types_of
from rumjax.lab.overrides import override
from rumjax.lab.sections import STUDIES
from rumjax.lab.values import is_array_like
from rumjax.launch import configuration, known_configurations
from rumjax.relearn import relearn_times
from rumjax.scores import EXTRA_PROXIES, PROXIES
from rumjax.training import recipe
from rumjax.unlearn import ALGORITHMS


def kind_of(annotation):
    """A type as configurations have it: numbers for arrays of them, names for augmentations."""
    if is_array_like(annotation):
        return {float}
    kinds = set(get_args(annotation) or (annotation,)) - {type(None), ...}
    texts = ("Augmentation", "PathLike")
    return {str if getattr(kind, "__name__", "") in texts else kind for kind in kinds}


@pytest.mark.parametrize(
    ("record", "function", "given_by_the_run"),
    [
        (schema.Data, data.load, ("keep",)),
        (schema.Network, models.build, ("num_classes",)),
        (schema.Training, recipe, ("model",)),
    ],
)
def test_sections_of_arguments_are_those_of_their_functions(record, function, given_by_the_run):
    fields = {field.name: field for field in dataclasses.fields(record)}
    arguments = {
        name: kind for name, kind in types_of(function).items() if name not in given_by_the_run
    }
    assert fields.keys() == arguments.keys()
    for name, parameter in inspect.signature(function).parameters.items():
        if name in fields and parameter.default is not inspect.Parameter.empty:
            assert fields[name].default == parameter.default, name
        elif name in fields:
            assert fields[name].default is dataclasses.MISSING, name
    for name, kind in arguments.items():
        if name not in ("milestones", "options"):
            assert kind_of(kind) == kind_of(fields[name].type), name


def test_options_of_unlearning_are_those_of_all_algorithms():
    options = {field.name: field.type for field in dataclasses.fields(schema.Unlearning)}
    known = {}
    for factory in ALGORITHMS.values():
        known |= types_of(factory)
    given = {"model", "num_classes", "initial"}
    arrays = {"held_out_probabilities", "oracle_logits", "datamodel_margins"}
    assert options.keys() == known.keys() - given - arrays
    single = {name: known[name] for name in options if name != "milestones"}
    numbers = {name for name, kind in single.items() if kind_of(kind) in ({int}, {float})}
    assert {name for name in single if kind_of(options[name]) in ({int}, {float})} == numbers
    assert get_type_hints(SgdOptions).keys() <= options.keys()


def test_ways_to_choose_a_forget_set_have_their_options():
    needs = {"scores", "embeddings", "labels", "count", "data", "class_names"}
    choice = {field.name for field in dataclasses.fields(schema.Choice)}
    for by, names in schema.FORGET_OPTIONS.items():
        assert set(names) == set(types_of(FORGET[by])) - needs, by
        assert set(names) < choice
    others = {by for by, function in FORGET.items() if function is forget_sets.by_score}
    assert others | schema.FORGET_OPTIONS.keys() == FORGET.keys()


def test_the_names_that_configurations_use_are_those_of_the_library():
    assert methods.LEVELS == refine.LEVELS
    assert ("memorization", *PROXIES, *EXTRA_PROXIES) == methods.SCORES
    study = {field.name for field in dataclasses.fields(schema.StudyForm)}
    assert study == {"kind", "command"}.union(*STUDIES.values())
    sections = [field.name for field in dataclasses.fields(Config) if field.name != "written"]
    assert sections == list(schema.SECTIONS)


@pytest.mark.parametrize(
    "name", ["fashion_mnist_rum", "requests.py:cifar10", "audit", "refinement"]
)
def test_the_explanation_of_a_configuration_can_be_pasted_as_overrides(name):
    config = configuration(name)
    text = explain(config)
    shown = list(entries(config))
    assert all(entry.about for entry in shown)
    for entry in shown:
        assert f"--config.{entry.key}=" in text
    overrides = [f"--config.{entry.key}={entry.value}" for entry in shown]
    assert configuration(name, overrides) == config
    # Options that are not given are there too.
    for key in ("bank.checkpoints", "data.limit", "audit.share"):
        assert f"--config.{key}=" in text


def test_help_lists_every_option_of_every_section():
    text = describe_sections()
    for record in (schema.Data, schema.Network, schema.Training, schema.Unlearning, schema.Choice):
        assert all(field.name in text for field in dataclasses.fields(record))


REFUSED = """
import contextlib, io, sys
from rumjax import launch, publish, tune, __main__
from rumjax.errors import RumjaxError

def status(command, *argv):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return command.main(list(argv))
        except SystemExit as left:
            return left.code

for command in (launch, tune, publish, __main__):
    assert status(command, "--help") == 0
assert status(launch, "--config=fashion_mnist_rum.py", "--help") == 0
assert status(launch, "--config=requests.py:cifar10", "--help") == 0
assert status(launch) == status(launch, "--process=x") == 2
for wrong in (
    ["--config=nowhere.py"],
    ["--config=fashion_mnist_rum.py", "stray"],
    ["--config=fashion_mnist_rum.py", "--config.training.lr=1"],
    ["--config=refinement.py", "--config.seeds=many"],
    ["--config=audit.py", "--process=3", "--processes=2"],
):
    assert status(launch, *wrong) == 1, wrong
for name in ("jax", "sklearn", "scipy", "optax", "flax", "orbax", "matplotlib"):
    assert name not in sys.modules, name
import rumjax
assert rumjax.rum and rumjax.models.build and rumjax.Model
"""


def test_help_and_refusals_import_neither_jax_nor_what_comes_with_it():
    subprocess.run([sys.executable, "-c", REFUSED], check=True, timeout=60)


def first_word(line):
    """The first word of a line, as a shell reads it."""
    words = shlex.shlex(line, posix=True)
    words.whitespace_split = True
    return words.get_token()


def test_further_options_are_shown_as_they_can_be_overridden_or_without_a_default():
    config = {"forget": {"by": "random"}, "seed": 0}
    _, further = explain(config).split("further options, with their defaults:\n")
    shown = [line.strip() for line in further.splitlines()]
    written = [first_word(line) for line in shown if not line.endswith("(no default)")]
    for argument in written:
        override(copy.deepcopy(config), [argument])
    assert "--config.tuning.select={}" in written
    assert "--config.bank.checkpoints=False" in written
    without = {line.split()[0] for line in shown if line.endswith("(no default)")}
    assert without >= {"--config.study.size", "--config.audit.models", "--config.bank.models"}
    assert not [name for name in without if "=" in name]


def test_models_on_a_device_are_a_number_or_as_many_as_are_useful():
    name = "fashion_mnist_rum"
    given = configuration(name)
    assert "per_device" not in given["bank"]
    assert read(given).bank.per_device == "auto"
    assert inspect.signature(relearn_times).parameters["per_device"].default == "auto"
    for text, value in (("2", 2), ("auto", "auto")):
        written = configuration(name, [f"--config.bank.per_device={text}"])
        assert read(written).bank.per_device == value
    for text in ("0", "all", "1.5", "None"):
        with pytest.raises(InvalidInputError, match=r"bank\.per_device: wanted a whole number"):
            read(configuration(name, [f"--config.bank.per_device={text}"]))
    with pytest.raises(InvalidInputError, match="\"auto\", got 'all'"):
        read({**given, "bank": {**given["bank"], "per_device": "all"}})


def test_the_examples_of_sections_make_a_configuration():
    known = {"vanilla": methods.vanilla}
    written = {name: eval(text, known) for name, text in schema.EXAMPLES.items()}
    assert set(written) == set(schema.REQUIRED)
    assert read(written).bank.models == 64


def test_every_shipped_configuration_is_explained_with_a_line_about_each_value():
    for name in known_configurations():
        unexplained = [entry.key for entry in entries(configuration(name)) if not entry.about]
        assert not unexplained
