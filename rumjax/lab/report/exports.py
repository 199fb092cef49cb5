"""Tables in every form in which people want them: CSV, Markdown, LaTeX."""

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from rumjax.lab import files
from rumjax.lab.report import columns, wording
from rumjax.lab.report.tables import Results, to_csv
from rumjax.lab.workdir import WorkDirectory
from rumjax.metrics import Interval

Cell: TypeAlias = str | int | float | Interval | None
"""None where there is nothing."""

LATEX = {
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "→": r"$\to$",
    "–": "--",
    "²": r"$^2$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
    "ε": r"$\varepsilon$",
    "×": r"$\times$",
}


class Table(NamedTuple):
    """A table to be read, and the numbers to be computed with."""

    name: str
    """of its files, without the ending"""
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    best: frozenset[tuple[int, int]] = frozenset()
    """row and column of cells in bold"""
    bounded: frozenset[str] = frozenset()
    """columns whose intervals are shown by both ends, as a bootstrap's are; those of all others
    are Student's and shown by their half-width"""


def summary(results: Results) -> Table:
    """Makes the table that sums up a run."""
    # The same columns as on the page.
    shown = columns.shown_columns(results)
    best = [columns.best_lines(results, column) for column in shown]
    return Table(
        "summary",
        "Results",
        ("Method", "What it runs", *(column.title for column in shown)),
        [
            (
                line.name,
                wording.runs(line),
                *(measures.get(column.measure) for column in shown),
            )
            for line, _, measures in results.summaries
        ],
        best=frozenset(
            (row, position)
            for row, summary in enumerate(results.summaries)
            for position, names in enumerate(best, start=2)
            if summary.line.name in names
        ),
    )


def texts(table: Table) -> list[list[str]]:
    """Returns every cell as it is read."""
    bounded = [title in table.bounded for title in table.columns]
    return [
        [text(cell, bounds=bounds) for cell, bounds in zip(row, bounded, strict=True)]
        for row in table.rows
    ]


def text(cell: Cell, *, bounds: bool = False) -> str:
    """Returns a cell as it is read; `bounds` says how an interval is, see `wording.interval`."""
    if cell is None or isinstance(cell, Interval):
        return wording.interval(cell, bounds=bounds)
    return wording.compact(cell) if isinstance(cell, float) else str(cell)


def csv(table: Table) -> str:
    """Writes every number in full, and intervals in columns of their own.

    Next to a column "X" is "X half-width", or "X low" and "X high" if it is a bounded one.
    """
    # A column that holds no interval stays a single one.
    endings = []
    for position, title in enumerate(table.columns):
        has_intervals = any(isinstance(row[position], Interval) for row in table.rows)
        if not has_intervals:
            endings.append([""])
        elif title in table.bounded:
            endings.append(["", " low", " high"])
        else:
            endings.append(["", " half-width"])

    # Where a cell has no interval, its columns are left empty.
    rows = []
    for row in table.rows:
        cells = zip(table.columns, endings, row, strict=True)
        rows.append(
            {
                title + ending: number
                for title, own, cell in cells
                for ending, number in _numbers(cell).items()
                if ending in own
            }
        )
    names = zip(table.columns, endings, strict=True)
    return to_csv([title + ending for title, own in names for ending in own], rows)


def _numbers(cell: Cell) -> dict[str, str | int | float]:
    """Returns all numbers of a cell, by what they add to the name of its column."""
    if isinstance(cell, Interval):
        value, low, high = cell
        return {"": value, " half-width": cell.half_width, " low": low, " high": high}
    return {"": "" if cell is None else cell}


def markdown(table: Table) -> str:
    """Writes a pipe table."""
    lines = [table.columns, ["---"] * len(table.columns)]

    # What would end a cell or mean something else is escaped, and the best cells are bold.
    for number, row in enumerate(texts(table)):
        cells = list(map(literal, row))
        lines.append(
            [
                f"**{cell}**" if (number, position) in table.best else cell
                for position, cell in enumerate(cells)
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def literal(text: str) -> str:
    r"""Returns text that Markdown takes literally; underscores within words already are.

    Examples:
      >>> print(literal("a_b|*c*"))
      a_b\|\*c\*
    """
    signs = r"[\\`*<|]|(?<![^\W_])_|_(?![^\W_])"
    return re.sub(signs, lambda match: "\\" + match[0], " ".join(text.split("\n")))


def latex(table: Table) -> str:
    """Writes a tabular with the rules of booktabs; it needs no other package."""

    def escape(cells: Sequence[str]) -> list[str]:
        return [re.sub(".", lambda m: LATEX.get(m[0], m[0]), cell) for cell in cells]

    # The first column is to the left, numbers are to the right.
    alignment = "l" + "r" * (len(table.columns) - 1)
    lines = [
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(escape(table.columns)) + r" \\",
        r"\midrule",
    ]
    for number, row in enumerate(texts(table)):
        cells = [
            rf"\textbf{{{cell}}}" if (number, position) in table.best else cell
            for position, cell in enumerate(escape(row))
        ]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def write(work: WorkDirectory, table: Table) -> None:
    """Writes `tables/NAME.csv`, `.md` and `.tex`."""
    for ending, form in {"csv": csv, "md": markdown, "tex": latex}.items():
        work.write_text(files.table(table.name, ending), form(table))
