"""Progress bars with time left, for every long stage."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[str], None]
"""Is called when one more unit is done, with a word on what is being done."""


@contextlib.contextmanager
def stage(console: Console, name: str, total: int, unit: str) -> Iterator[Advance]:
    """Shows a bar for one stage of a run; without a terminal, one line when the stage ends.

    Args:
      console: where the bar is drawn.
      name: the name of the stage.
      total: how many units there are; nothing is drawn where it is 0.
      unit: what is counted, for example "epochs".
    """
    with stages(console, {name: total}, unit) as advance:
        yield lambda note: advance(name, note)


@contextlib.contextmanager
def stages(
    console: Console, totals: Mapping[str, int], unit: str
) -> Iterator[Callable[[str, str], None]]:
    """Shows bars for stages that are under way at the same time; see `stage`.

    Args:
      console: where the bars are drawn.
      totals: how many units each stage has, by name.
      unit: what is counted.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit + " in"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    bars = Progress(*columns, console=console)
    tasks = {
        name: bars.add_task(name.ljust(16), total=total, note="compiling")
        for name, total in totals.items()
        if total
    }
    if not tasks:
        yield lambda *_: None
        return

    # A bar is a comfort: where it cannot be drawn, the work goes on without.
    def advance(name: str, note: str) -> None:
        with contextlib.suppress(Exception):
            bars.update(tasks[name], advance=1, note=escape(note))

    with contextlib.suppress(Exception):
        bars.start()
    try:
        yield advance
    finally:
        with contextlib.suppress(Exception):
            for task in tasks.values():
                bars.update(task, note="")
            bars.stop()


def duration(seconds: float) -> str:
    """Writes a time in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
