"""Lets docstrings, which are plain sentences with `code` in backticks, be read by Sphinx.

Sphinx reads docstrings as reStructuredText, where |S| is a substitution, *θ an emphasis that has no
end, and a table of Markdown a line of text. Nobody who reads the code should be bothered by that.
"""

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

_SPECIAL = re.compile(r"(?P<code>`[^`]*`)|[|*]|(?<=\w)_(?!\w)")
_ARRAY_LIKE = re.compile(
    r"[~\w.]*Array \| [~\w.]*ndarray \| [~\w.]*bool \| [~\w.]*number "
    r"\| bool \| int \| float \| complex( \| [~\w.]*TypedNdArray)?"
)

_DOCSTRINGS: dict[str, list[str]] = {}
"""what was rewritten, by name"""


def _escaped(line: str) -> str:
    """Returns a line in which what is special outside of code has a backslash before it.

    Code may touch other signs, as in ±`clip`: an escaped space, which is not shown, parts them.
    """

    def escape(found: re.Match[str]) -> str:
        if not found["code"]:
            return f"\\{found[0]}"
        before, after = line[: found.start()][-1:], line[found.end() :][:1]
        opening = "" if before in ("", " ", "(", "[", "{", "'", '"') else "\\ "
        return opening + found["code"] + ("\\ " if after.isalnum() else "")

    return _SPECIAL.sub(escape, line)


def _as_table(rows: list[str], indent: str) -> list[str]:
    """Returns a table of Markdown as one of reStructuredText."""
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    lines = ["", f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
    for row in (cells[0], *cells[2:]):
        for number, cell in enumerate(row):
            mark = "  -" if number else "* -"
            lines.append(f"{indent}   {mark} {_escaped(cell)}")
    return [*lines, ""]


def _text(lines: list[str]) -> list[str]:
    """Returns lines outside of examples and code: escaped, with tables and lists of their own."""
    result: list[str] = []
    table: list[str] = []
    for line in [*lines, ""]:
        words = line.lstrip()
        indent = line[: len(line) - len(words)]
        if words.startswith("|") and words.endswith("|"):
            table.append(line)
            continue
        if table:
            result.extend(_as_table(table, indent))
            table = []
        if words.startswith("- ") and result and not result[-1].lstrip().startswith(("- ", "  ")):
            result.append("")  # a list begins after an empty line
        result.append(_escaped(line))
    return result[:-1]


def _parts(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Returns the parts of a docstring: "text", "example" of doctest, or "code" between fences."""
    kind, part = "text", []
    for line in lines:
        words = line.strip()
        fence = words.startswith("```")
        following = kind
        if fence:
            following = "code" if kind == "text" else "text"
        elif kind == "text" and words.startswith(">>>"):
            following = "example"
        elif kind == "example" and not words:
            following = "text"
        if following != kind:
            yield kind, part
            kind, part = following, []
        if not fence:
            part.append(line)
    yield kind, part


def read(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrites a docstring in place, but for its examples."""
    result: list[str] = []
    for kind, part in _parts(list(lines)):
        if kind == "text":
            result.extend(_text(part))
        elif kind == "example":
            result.extend(part)
        else:
            result.extend([".. code-block:: python", "", *(f"   {line}" for line in part), ""])
    lines[:] = result
    _DOCSTRINGS[name] = result


def restore(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Restores docstrings of data, where Napoleon takes words before a colon for a type."""
    if what in ("attribute", "data", "property"):
        lines[:] = _DOCSTRINGS[name]


def shorten(app: Sphinx, *described: Any) -> tuple[str | None, str | None]:
    """Writes `ArrayLike` in a signature where Python spells out all that it stands for."""
    signature, returns = described[-2:]
    short = (_ARRAY_LIKE.sub("~jax.typing.ArrayLike", text or "") for text in (signature, returns))
    signature, returns = (text or None for text in short)
    return signature, returns


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrites docstrings before `sphinx.ext.napoleon` reads their sections."""
    app.connect("autodoc-process-docstring", read, priority=100)
    app.connect("autodoc-process-docstring", restore, priority=900)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
