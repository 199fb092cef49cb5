"""Odd values anywhere in a configuration are refused by name, or taken for what they are."""

import contextlib
import copy
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from rumjax.errors import InvalidInputError, RumjaxError
from rumjax.lab.checking import check
from rumjax.lab.dependencies import configurations
from rumjax.lab.experiment import build
from rumjax.lab.methods import rum, rum_f, vanilla
from rumjax.lab.overrides import override
from rumjax.lab.values import converted, plain
from tests.lab.odd_values import FINETUNE, ODD, OWN, places, replaced, whole_configuration
from tests.tiny import write_data


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "data.npz"
    write_data(path)
    return str(path)


@pytest.fixture(scope="module")
def whole(data_file):
    """A configuration with every section, which passes all checks."""
    config = whole_configuration(data_file)
    check(build(config))
    return config


def refusal(config):
    """The message by which a configuration is refused; None where it is taken."""
    try:
        check(build(config))
    except RumjaxError as error:
        return str(error)
    return None


@settings(max_examples=120, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_odd_value_anywhere_ends_in_a_refusal_or_a_run(whole, data):
    path = data.draw(st.sampled_from(list(places(whole))))
    value = data.draw(st.sampled_from(ODD))
    message = refusal(replaced(whole, path, value))
    # Anything but an error of rumjax fails the test by itself.
    assert message is None or 10 < len(message) < 1000


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    data=st.data(),
    text=st.text(max_size=12)
    | st.sampled_from(["None", "1", "(1,)", "{'a': 1}", "nan", "[[", "1e400"]),
)
def test_any_text_on_the_command_line_is_refused_or_has_the_type_of_its_option(whole, data, text):
    path = data.draw(st.sampled_from(list(places(whole))))
    config = copy.deepcopy(plain(whole))
    with contextlib.suppress(InvalidInputError):
        override(config, [f"--config.{'.'.join(path)}={text}"])
    json.dumps(config, allow_nan=False)
    *sections, last = path
    place, before = config, plain(whole)
    for section in sections:
        place, before = place[section], before[section]
    # An option keeps its type, but for those that may be None, and those of the network's own.
    if (
        path[:2] != ("model", "options")
        and isinstance(before[last], bool | int | float)
        and place[last] is not None
    ):
        assert isinstance(place[last], type(before[last])) or "select" in path


def numpy_twin(config):
    """The same configuration as NumPy, paths, ranges, sets and lists would write it."""
    changes = {
        "seed": np.int64(0),
        "seeds": np.array(3),
        "data/data_dir": pathlib.Path(config["data"]["data_dir"]),
        "data/limit": 60.0,
        "training/epochs": np.int32(2),
        "training/batch_size": 32.0,
        "training/milestones": range(1, 2),
        "training/learning_rate": np.float64(0.1),
        "bank/models": 24.0,
        "bank/per_device": np.uint8(1),
        "model/options/widths": np.array([4]),
        "tuning/seeds": {100},
        "tuning/grids/plain/learning_rate": np.array([0.1, 0.2]),
        "audit/models": np.float32(8),
        "cases/first/forget/size": np.int16(4),
        "methods/plain/select/all/epochs": 2.0,
    }
    twin = config
    for path, value in changes.items():
        twin = replaced(twin, path.split("/"), value)
    return ConfigDict(twin)


def test_numbers_of_numpy_are_the_same_run(whole):
    plainly, oddly = build(whole), build(numpy_twin(whole))
    check(oddly)
    recorded = [json.loads(json.dumps(configurations(run))) for run in (plainly, oddly)]
    for stage, depends in recorded[0].items():
        assert recorded[1][stage] == depends, stage
    json.dumps(oddly.config.written, allow_nan=False)
    options = [{method.name: method.options for method in run.methods} for run in (plainly, oddly)]
    assert options[0] == options[1]
    assert type(oddly.config.bank.models) is type(oddly.config.seeds) is int
    assert type(options[1]["plain"]["select"]["all"]["epochs"]) is int


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("scores/memorization", {"path": "/nowhere.npz", "key": "m"}, "/nowhere.npz"),
        ("scores/memorization", {"published": "nothing"}, "unknown published scores 'nothing'"),
        (
            "scores/own",
            {"file": f"{OWN}:too_short"},
            "scores.own.file: choose another name; file is rumjax's own name",
        ),
        (
            "scores/own",
            {"mine": f"{OWN}:halves"},
            "scores.own.mine: missing a required argument",
        ),
        ("scores/own", {"mine": f"{OWN}:none"}, "has no attribute 'none'"),
        (
            "measures/mine",
            f"{OWN}:uncertainty",
            "measures.mine: missing a required argument",
        ),
        ("measures/mine", "nowhere:measure", "No module named 'nowhere'"),
        ("tuning/grids/plain/learning_rte", (1,), "unknown option in tuning.grids, for plain"),
        ("tuning/grids/plain/epochs", (1, 0), "epochs: wanted a whole number of at least 1, got 0"),
        ("tuning/grids/plain/epochs", (2, 2), "plain.epochs: 2 is given twice"),
        ("tuning/grids/plain/batch_size", (2**30,), "all.batch_size: wanted at most 16384"),
        ("tuning/grids/l1_sparse", {"epochs": (1,)}, "method or algorithm in tuning.grids"),
        ("tuning/select/mixed/candidates", ("plain", "mixed"), "mixed is no candidate for itself"),
        ("tuning/select/mixed/candidates", ("plain", "plain"), "'plain' is given twice"),
        ("tuning/like", {"plain": "levels"}, "plain has a grid of its own in tuning.grids"),
        ("audit/methods", ("plain", "plain"), "audit.methods: 'plain' is given twice"),
        ("model/options", {"num_classes": 4}, "model.options.num_classes: this is that of the"),
        ("model/options/widths", 4, "model.options.widths: wanted several whole numbers"),
        ("model/options/widths", (4, 0), "model.options.widths: wanted a whole number"),
        ("model/options/hidden", "x", "model.options.hidden: wanted a whole number"),
        ("training/milestones", (2,), "milestones: wanted different epochs between 0 and 2"),
        ("training/milestones", (1, 1), "milestones: wanted different epochs between 0 and 2"),
        ("training/decay", 0, "decay: wanted a number above 0"),
        ("tuning/grids/plain/epochs", 3, "plain.epochs: wanted values to try, like (1, 2), got 3"),
        ("tuning/grids/plain/momentum", ("log", 0, 1), "with low below high, both above 0"),
        ("tuning/grids/levels", {"all": {"epochs": (1,)}}, "unknown part in tuning.grids"),
        ("tuning/grids/levels", {"low": {"epochs": (1,)}, "epochs": (1,)}, "unknown part"),
        ("tuning/select/mixed/candidates", ("plain", "plane"), "did you mean 'plain'"),
        ("tuning/select/mixed/search", "exhaustive", "162 selections exceed the budget of 3"),
        ("tuning/like", {"mixed": "mixed"}, "unknown method that mixed is like"),
        ("tuning/grids/plain/epochs", {1, "a"}, "epochs: wanted a whole number, got 'a'"),
        ("tuning/grids/plain", (), "tuning.grids.plain: wanted values by option, got ()"),
        ("tuning/settings", 2**40, "tuning.settings: wanted at most 1000"),
        ("bank/models", 10**9, "bank.models: wanted at most 1000000, got 1000000000"),
        ("tuning/seeds", (100, 2), "tuning.seeds: 2 is among the seeds that the run reports"),
        ("tuning/seeds", (7, 7), "tuning.seeds: wanted one or more, all different"),
        ("cases/all", {"forget": {"by": "random", "size": 60}}, "60 of 60 examples leave nothing"),
        ("cases/all", {"forget": {"by": "random", "size": 2}}, "methods.levels: refine: part"),
        ("cases/first/forget/size", 30, "three levels of 30 leave nothing of 60 examples"),
        ("forget/requests", 13, "requests: 3 of 13 wanted, of parts of 12 examples"),
        ("forget/until", 4, "requests: 4 of 3 wanted"),
        ("forget", {"by": "random", "size": 5, "until": 1}, "forget.until: say with requests"),
        ("attack/samples", 61, "attack.samples: 61 are more than the 60 test examples"),
        ("audit/models", 25, "audit.models: 25 are more than bank.models, 24"),
        (
            "study",
            {"kind": "requests", "pairs": {"plain": "plane"}},
            "method in study.pairs 'plane'",
        ),
        ("study", {"kind": "proxies", "size": 3}, "study: one of kind proxies needs 'driven'"),
        ("methods/original", vanilla(FINETUNE), "methods.original: choose another name"),
        ("methods/ORACLE", vanilla(FINETUNE), "oracle is rumjax's own name"),
        ("methods/Plain", vanilla(FINETUNE), "on some systems it and plain would be one file"),
        ("methods/" + "é" * 51, vanilla(FINETUNE), "at most 100 bytes; this has 102"),
        ("methods/a_seed1", vanilla(FINETUNE), "without _seed"),
        ("cases/" + "x" * 101, {}, "choose a shorter name"),
        ("cases/FIRST", {}, "cases.FIRST: choose another name; on some systems"),
        ("name", "x" * 300, "name: choose a shorter name"),
        ("scores/own/Entropy", f"{OWN}:uncertainty", "entropy is rumjax's own name"),
        ("measures/ ", f"{OWN}:agreement", "of letters, digits"),
        ("measures/RTE", f"{OWN}:agreement", "measures.RTE: choose another name; those of"),
        ("methods/plain", rum_f(FINETUNE, parts=("a", "a")), "a name occurs twice"),
        (
            "methods/plain",
            vanilla({"algorithm": f"{OWN}:every"}),
            "missing a required argument",
        ),
        ("methods/plain", vanilla({"algorithm": "builtins:dict"}), "its arguments cannot be told"),
        (
            "methods/levels",
            rum({"a": FINETUNE}, refine="class", parts=("a",)),
            "order: names a, but",
        ),
        ("training/batch_size", 2**30, "training.batch_size: wanted at most 16384 for 60"),
        ("audit/methods", (), "audit.methods: there is none"),
        ("seeds", True, "seeds: wanted a whole number, got True"),
        ("seed", 2**40, "seed: wanted a seed of at most"),
        ("training/momentum", float("nan"), "training.momentum: wanted a finite number, got nan"),
        ("bank/models", None, "bank.models: wanted a whole number, got None"),
        ("name", "a/b", "name: wanted some text without /"),
    ],
)
def test_what_would_fail_after_hours_fails_at_once(whole, path, value, message):
    found = refusal(replaced_or_added(whole, path.split("/"), value))
    assert found is not None
    assert message in found


def test_a_bank_of_a_million_models_is_checked_by_its_first(whole):
    most = replaced_or_added(whole, ["bank", "models"], 10**6)
    assert refusal(most) is None
    sparse = replaced_or_added(most, ["bank"], {**most["bank"], "models": 8, "fraction": 0.05})
    assert "examples were seen by all 8 models or by none" in (refusal(sparse) or "")


def replaced_or_added(config, path, value):
    first, *rest = path
    inner = replaced_or_added(config.get(first, {}), rest, value) if rest else value
    return {**config, first: inner}


@pytest.mark.parametrize(
    ("change", "needs"),
    [
        ({"tuning": {"seeds": (7,), "grids": {}, "criterion": "validation"}}, "tuning.criterion"),
        ({"methods": {"fine": rum_f(FINETUNE, refine="rescored")}}, "methods.fine"),
        ({"methods": {"fine": rum_f(FINETUNE, refine="holdout_retraining")}}, "methods.fine"),
        ({"forget": {"by": "holdout_retraining", "size": 3}}, "holdout_retraining"),
    ],
)
def test_what_needs_validation_data_is_refused_without(whole, tmp_path, change, needs):
    path = tmp_path / "data.npz"
    write_data(path)
    arrays = {key: array for key, array in np.load(path).items() if "validation" not in key}
    np.savez(path, **arrays)
    sections = {key: whole[key] for key in ("name", "seed", "seeds", "model", "training", "bank")}
    config = {
        **sections,
        "data": {"name": "npz", "data_dir": str(path), "validation_fraction": 0},
        "unlearning": {},
        "attack": {"samples": None},
        "forget": {"by": "random", "size": 9},
        "methods": {"fine": vanilla(FINETUNE)},
    }
    assert refusal(config) is None
    message = refusal(config | change)
    assert message is not None
    assert needs in message
    assert "data.validation_fraction" in message


def test_values_of_configurations_are_plain_and_json():
    value = {
        "a": np.arange(2),
        "b": {3, 1, 2},
        "c": [range(2), pathlib.Path("x"), np.bool_(True), np.str_("s")],
        "d": np.array(2.5),
    }
    assert plain(value) == {"a": (0, 1), "b": (1, 2, 3), "c": ((0, 1), "x", True, "s"), "d": 2.5}
    assert json.loads(json.dumps(plain(value)))["b"] == [1, 2, 3]
    assert type(converted("x", int, 3.0)) is int
    for wrong in (float("nan"), np.inf, 1j, b"x", object(), {1: 2}):
        with pytest.raises(InvalidInputError, match="here: wanted"):
            plain(wrong, "here")
