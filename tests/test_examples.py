"""Every public function and record of the library shows how it is used, in examples that run."""

import importlib
import inspect

ROOMS = (
    "rumjax",
    "rumjax.audits",
    "rumjax.data",
    "rumjax.ensemble",
    "rumjax.errors",
    "rumjax.evidence",
    "rumjax.forget_sets",
    "rumjax.metrics",
    "rumjax.models",
    "rumjax.refine",
    "rumjax.registry",
    "rumjax.relearn",
    "rumjax.scores",
    "rumjax.sisa",
    "rumjax.unlearn",
)
SHOWN_ELSEWHERE = {"Epoch", "Made", "Measured", "OnEpoch", "Result", "Work"}
"""records that functions return, which their examples show, and what is about to change"""


def public(room):
    """Functions and classes that a room exports or defines, by name."""
    module = importlib.import_module(room)
    for name, value in vars(module).items():
        exported = (
            name in getattr(module, "__all__", ()) or getattr(value, "__module__", "") == room
        )
        if (
            exported
            and not name.startswith("_")
            and (inspect.isfunction(value) or inspect.isclass(value))
        ):
            yield name, value


def test_all_that_is_public_has_an_example():
    lacking = sorted(
        f"{room}.{name}"
        for room in ROOMS
        for name, value in public(room)
        if ">>>" not in (value.__doc__ or "")
        and name not in SHOWN_ELSEWHERE
        and not (inspect.isclass(value) and issubclass(value, Exception))
    )
    assert not lacking
