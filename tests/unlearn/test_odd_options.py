"""Every option of every algorithm: an odd value is taken, or refused by the name of the option."""

import inspect
import math

import numpy as np
import pytest

from rumjax.descent import SgdOptions
from rumjax.errors import InvalidInputError
from rumjax.models import Cnn, Model
from rumjax.unlearn import ALGORITHMS
from tests.references import small

MODEL = Model(Cnn(3, widths=(2,), hidden=4))
ODD = (
    *(None, "abc", "", math.nan, math.inf, -1, -0.5, 0, 0.5, 10**9, 1e40, True),
    *(np.arange(3.0), np.float64(0.3), np.array("x"), 1j, {}, [1], object()),
)
ANYTHING = ("initial",)
"""What is looked at once the network is known."""
NEEDED = {"retrain": {"epochs": 2}}
OTHER_NAMES = {"batch_norm": "batch-norm policy"}


def options_of(factory):
    taken = inspect.signature(factory).parameters.values()
    names = [one.name for one in taken if one.kind is inspect.Parameter.KEYWORD_ONLY]
    shared = SgdOptions.__annotations__ if any(one.name == "options" for one in taken) else ()
    return dict.fromkeys([*names, *shared])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_odd_value_is_taken_or_refused_by_name(name):
    factory, own = ALGORITHMS[name], {**NEEDED.get(name, {}), **small.OWN[name]}
    for option in options_of(factory):
        said = []
        for value in ODD:
            try:
                factory(MODEL, **own | {option: value})
            except InvalidInputError as error:
                said.append(str(error))
        assert said or option in ANYTHING, option
        assert all(OTHER_NAMES.get(option, option) in message for message in said)


@pytest.mark.parametrize(
    "option",
    [{"sharpness_radius": 0.1}, {"sharpness_strength": -1.0}],
    ids=lambda one: next(iter(one)),
)
def test_how_sharp_needs_a_kind_of_sharpness(option):
    with pytest.raises(InvalidInputError, match="it needs sharpness='sam' or 'asam'"):
        ALGORITHMS["finetune"](MODEL, **option)
    ALGORITHMS["finetune"](MODEL, sharpness="sam", **option)
