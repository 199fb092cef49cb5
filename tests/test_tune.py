"""The grid of settings, and what a search keeps."""

import types

import pytest

from rumjax.tune import fingerprint, grid_of, settings, table


def method(name="finetune_rum_f", algorithm="finetune", order=("low", "high")):
    return types.SimpleNamespace(name=name, algorithm=algorithm, order=order)


def test_a_plain_grid_holds_for_all_parts_alike():
    found = list(settings({"learning_rate": (0.1, 0.2), "epochs": (3,)}, method()))
    assert found == [
        {part: {"learning_rate": rate, "epochs": 3} for part in ("low", "high")}
        for rate in (0.1, 0.2)
    ]


def test_a_grid_by_part_is_searched_jointly():
    grid = {"low": {"epochs": (1, 2)}, "high": {"epochs": (3, 4)}}
    found = list(settings(grid, method()))
    assert len(found) == 4
    assert {"low": {"epochs": 2}, "high": {"epochs": 3}} in found


def test_a_method_has_its_own_grid_before_that_of_its_algorithm():
    grids = {"finetune": {"epochs": (1,)}, "finetune_rum_f": {"epochs": (2,)}}
    assert grid_of(grids, method()) == {"epochs": (2,)}
    assert grid_of(grids, method(name="other")) == {"epochs": (1,)}
    assert grid_of(grids, method(name="other", algorithm="salun")) == {}


def test_fingerprints_tell_settings_apart_whatever_the_order_of_keys():
    first = {"all": {"learning_rate": 0.1, "epochs": 3}}
    assert fingerprint(first) == fingerprint({"all": {"epochs": 3, "learning_rate": 0.1}})
    assert fingerprint(first) != fingerprint({"all": {"epochs": 3, "learning_rate": 0.2}})


def test_the_table_has_a_line_for_every_setting():
    row = {"method": "m", "mean_tow": 0.5, "tow": [0.4, 0.6], "epochs": 3, "setting": {"all": {}}}
    lines = table([row, row]).splitlines()
    assert lines[0] == "method,mean_tow,tow,epochs,setting"
    assert lines[1:] == ['m,0.5,0.4000 0.6000,3,{""all"": {}}'.replace('{""', '"{""') + '"'] * 2


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_a_grid_has_as_many_settings_as_its_product(values):
    assert len(list(settings({"epochs": values, "batch_size": (8, 16)}, method()))) == 2 * len(
        values
    )
