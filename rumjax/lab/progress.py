"""Progress bars with time left, for every long stage."""

import contextlib
from collections.abc import Callable, Iterator

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
    if total == 0:
        yield lambda _: None
        return
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

    # A bar is a comfort: where it cannot be drawn, the work goes on without.
    bar = Progress(*columns, console=console)
    task = bar.add_task(name.ljust(16), total=total, note="compiling")

    def advance(note: str) -> None:
        with contextlib.suppress(Exception):
            bar.update(task, advance=1, note=escape(note))

    with contextlib.suppress(Exception):
        bar.start()
    try:
        yield advance
    finally:
        with contextlib.suppress(Exception):
            bar.update(task, note="")
            bar.stop()


def duration(seconds: float) -> str:
    """Writes a time in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
