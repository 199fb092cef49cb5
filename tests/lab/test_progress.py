"""Durations and progress as they are shown."""

import io

import pytest
from rich.console import Console

from rumjax.lab import progress


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (9000, "2.5 h")],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert progress.duration(seconds) == said


def test_a_stage_without_work_draws_nothing():
    console = Console(record=True, file=io.StringIO())
    with progress.stage(console, "Nothing", 0, "epochs") as advance:
        advance("next")
    assert console.export_text() == ""
