"""Short names and import paths lead to the same kind of thing, or are explained."""

import sys
import types

import pytest

from rumjax.errors import InvalidInputError
from rumjax.registry import is_import_path, resolve

TABLE = {"sum": sum, "max": max}


@pytest.fixture(autouse=True)
def own(monkeypatch):
    package = types.ModuleType("own_functions")
    package.median, package.number = min, 3
    monkeypatch.setitem(sys.modules, "own_functions", package)
    return package


def test_names_are_looked_up_and_paths_imported():
    assert resolve("summary", "max", TABLE) is max
    assert resolve("summary", "own_functions:median", TABLE) is min


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sun", r"unknown summary 'sun'; did you mean 'sum'\? There are: sum, max, or 'package"),
        ("own_functions:medain", "own_functions has no attribute 'medain'; did you mean 'median'"),
        ("own_functions:else_", "has no attribute 'else_'; name one that it defines"),
        ("own_functions:number", "wanted a function or a class, got int"),
        ("nowhere.at_all:sum", "No module named 'nowhere'.*PYTHONPATH"),
        (":sum", "wanted 'package.module:attribute'"),
        ("own_functions:", "wanted 'package.module:attribute'"),
        (".own_functions:median", "wanted 'package.module:attribute'"),
        ("own functions:median", "wanted 'package.module:attribute'"),
    ],
)
def test_what_leads_nowhere_is_explained(name, message):
    with pytest.raises(InvalidInputError, match=message):
        resolve("summary", name, TABLE)


def test_an_error_inside_a_module_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "broken_functions.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError):
        resolve("summary", "broken_functions:median", TABLE)


@pytest.mark.parametrize("name", ["mnist:3.0.1", "mnist:1.*.*", "cifar10", "a/b:c", "a:b:c"])
def test_versions_of_tfds_are_no_import_paths(name):
    assert not is_import_path(name)
