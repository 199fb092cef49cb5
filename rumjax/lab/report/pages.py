"""Pages on a research question: what they hold, and how they become HTML and Markdown.

A page reads on its own: question, setting, answers computed from the numbers, tables, figures. It
is written with every table and figure beside it, in the forms that papers want.
"""

import base64
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jinja2
from markupsafe import Markup, escape

from rumjax.lab import files
from rumjax.lab.report import exports
from rumjax.lab.report.drawing import Picture
from rumjax.lab.report.exports import Table
from rumjax.lab.workdir import WorkDirectory


class About(NamedTuple):
    """The frame of a page, whatever the page says."""

    kind: str
    """of page, and the name of its files: "study" or "audit" """
    name: str
    """of the run"""
    facts: Mapping[str, str]
    """data, model, training and so on, in words"""
    command: str | None = None
    """that makes the same run again"""


class Page(NamedTuple):
    """The contents of the page of a study or an audit."""

    title: str
    question: str
    answers: Sequence[str]
    """sentences computed from the numbers, the most important first"""
    tables: Sequence[Table]
    pictures: Sequence[Picture] = ()
    answer: Table | None = None
    """the answers as a table, which is shown right below them"""


def publish(work: WorkDirectory, about: About, page: Page) -> None:
    """Writes a page as HTML and Markdown, with its `tables/*` and `figures/*`."""
    for table in page.tables if page.answer is None else (page.answer, *page.tables):
        exports.write(work, table)
    for picture in page.pictures:
        picture.write(work)
    work.write_text(files.page(about.kind, "html"), to_html(about, page))
    work.write_text(files.page(about.kind, "md"), to_markdown(about, page))


def to_html(about: About, page: Page) -> str:
    """Returns the page as HTML that needs nothing else."""
    template = engine().get_template("research.html.jinja")
    return template.render(
        name=about.name,
        about=about,
        page=page,
        texts=exports.texts,
        pictures=[(picture, encode(picture)) for picture in page.pictures],
    )


def to_markdown(about: About, page: Page) -> str:
    """Returns the page as Markdown, with figures by relative links."""
    # The question and its answers come first, then what they rest on.
    literal = exports.literal
    lines = [f"# {page.title}", "", f"*{literal(about.name)}*", "", page.question, ""]
    lines += [f"- {literal(sentence)}" for sentence in page.answers]
    if page.answer is not None:
        lines += ["", exports.markdown(page.answer), page.answer.note]
    facts = (f"- {key}: {literal(value)}" for key, value in about.facts.items())
    lines += ["", "## Setting", "", *facts]

    # Figures, tables, and how to run it again.
    for picture in page.pictures:
        lines += ["", f"## {picture.title}", ""]
        if picture.drawn is not None:
            lines += [f"![{picture.title}]({files.figure(picture.name, 'png')})", ""]
        lines.append(picture.caption)
    for table in page.tables:
        lines += ["", f"## {table.title}", "", exports.markdown(table), table.note]
    if about.command:
        lines += ["", "## To run it again", "", f"    {about.command}"]
    return "\n".join(lines) + "\n"


@functools.cache
def engine() -> jinja2.Environment:
    """Returns what turns the templates of this folder into pages."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rumjax.lab.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["superscript"] = superscript
    return environment


def encode(picture: Picture) -> str:
    """Encodes a figure's PNG, to be put into a page; "" where it could not be drawn."""
    if picture.drawn is None:
        return ""
    return base64.b64encode(picture.drawn.png).decode()


def superscript(text: str) -> Markup:
    """Escapes text, and raises the F of RUM^F."""
    return Markup(str(escape(text)).replace("RUM^F", "RUM<sup>F</sup>"))
