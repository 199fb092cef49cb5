"""Which settings a grid holds, whole or drawn at random."""

import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.lab.grids import fingerprint, settings
from rumjax.lab.sections import Tuning

PARTS = ("low", "high")


def test_a_plain_grid_holds_for_all_parts_alike():
    found = list(settings({"learning_rate": (0.1, 0.2), "epochs": (3,)}, PARTS))
    assert found == [
        {part: {"learning_rate": rate, "epochs": 3} for part in PARTS} for rate in (0.1, 0.2)
    ]


def test_a_grid_by_part_is_searched_jointly():
    grid = {"low": {"epochs": (1, 2)}, "high": {"epochs": (3, 4)}}
    found = list(settings(grid, PARTS))
    assert len(found) == 4
    assert {"low": {"epochs": 2}, "high": {"epochs": 3}} in found


@pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
def test_a_grid_has_as_many_settings_as_its_product(values):
    assert len(list(settings({"epochs": values, "batch_size": (8, 16)}, PARTS))) == 2 * len(values)


def test_ranges_are_drawn_from_without_repetition_and_the_same_each_time():
    grid = {"learning_rate": ("log", 1e-3, 1e-1), "beta": ("uniform", 0.5, 0.9), "epochs": (1, 2)}
    found, again = (list(settings(grid, PARTS, draw=50)) for _ in range(2))
    assert found == again
    assert len({fingerprint(each) for each in found}) == len(found) == 50
    rates = np.array([each["low"]["learning_rate"] for each in found])
    assert ((rates >= 1e-3) & (rates <= 1e-1)).all()
    assert 0.2 < (rates < 1e-2).mean() < 0.8  # half of a logarithmic range lies below its middle
    assert all(0.5 <= each["low"]["beta"] <= 0.9 for each in found)
    assert {each["low"]["epochs"] for each in found} == {1, 2}


def test_more_draws_than_a_grid_has_are_the_whole_grid():
    grid = {"epochs": (1, 2, 3), "batch_size": (8, 16)}
    drawn = {fingerprint(each) for each in settings(grid, PARTS, draw=100)}
    assert drawn == {fingerprint(each) for each in settings(grid, PARTS)}


def test_a_range_with_fewer_values_than_are_wanted_ends():
    found = list(settings({"beta": ("uniform", 0.5, 0.502)}, PARTS, draw=50))
    assert {each["low"]["beta"] for each in found} == {0.5, 0.501, 0.502}
    assert len(list(settings({"epochs": (2, 2)}, PARTS, draw=2))) == 1


def test_a_range_has_no_whole_grid():
    with pytest.raises(InvalidInputError, match=r"learning_rate is a range.*tuning\.settings"):
        list(settings({"learning_rate": ("log", 1e-3, 1e-1)}, PARTS))


def test_a_method_has_its_own_grid_before_that_of_its_algorithm():
    grids = {"finetune": {"epochs": (1,)}, "finetune_rum_f": {"epochs": (2,)}}
    tuning = Tuning(seeds=(0,), grids=grids)
    assert tuning.grid("finetune_rum_f", "finetune") == {"epochs": (2,)}
    assert tuning.grid("other", "finetune") == {"epochs": (1,)}
    assert tuning.grid("other", "salun") == {}


def test_fingerprints_tell_settings_apart_whatever_the_order_of_keys():
    first = {"all": {"learning_rate": 0.1, "epochs": 3}}
    assert fingerprint(first) == fingerprint({"all": {"epochs": 3, "learning_rate": 0.1}})
    assert fingerprint(first) != fingerprint({"all": {"epochs": 3, "learning_rate": 0.2}})
