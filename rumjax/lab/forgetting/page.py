"""The page of a certificate: what its document says, to be read and printed."""

import functools
import unicodedata
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting.certificate import OUTCOMES, problems
from rumjax.lab.report import wording

SEEN_AS_CODES = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
"""Categories of signs that cannot be seen, or turn around what stands beside them."""


def page(document: Mapping[str, Any]) -> str:
    """Returns the page of a certificate as HTML that needs nothing else.

    Args:
      document: from `rumjax.lab.forgetting.certificate`.

    Raises:
      InvalidInputError: the document does not hold, so that no page may say what it says.
    """
    if wrong := problems(document):
        raise InvalidInputError(f"certificate: no page is made of it: {'; '.join(wrong)}")
    template = _engine().get_template("certificate.html.jinja")
    gate = document["gate"] or {"bounds": []}
    return template.render(
        name=f"batch {document['batch']}",
        it=document,
        outcome=OUTCOMES[document["outcome"]],
        failed=[bound for bound in gate["bounds"] if bound["passed"] is False],
        count=sum(request["count"] for request in document["requests"]),
    )


@functools.cache
def _engine() -> jinja2.Environment:
    """Returns what turns the template into a page."""
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.PackageLoader("rumjax.lab.forgetting", "."),
                jinja2.PackageLoader("rumjax.lab.report", "."),
            ]
        ),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, exact=exact, count=_count, verdict=_verdict)
    return environment


def visible(value: Any) -> Any:
    r"""Returns what a cell shows: of a text every sign that it has, of nothing a dash.

    Examples:
      >>> visible("a\u202egnp.b"), visible(None)
      ('a\\u202egnp.b', '–')
    """
    if value is None:
        return wording.NOTHING
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(
        f"\\u{ord(sign):04x}" if unicodedata.category(sign) in SEEN_AS_CODES else sign
        for sign in value
    )


def number(value: Any) -> str:
    """Writes a number as tables show it; anything else as it is.

    Examples:
      >>> number(0.25), number(3), number(1e-5), number(None), number(True)
      ('0.250', '3', '1e-05', '–', 'True')
    """
    if isinstance(value, float):
        return wording.compact(value)
    return wording.NOTHING if value is None else str(value)


def exact(value: Any) -> str:
    """Writes a number with all its digits, and a list by its members.

    Examples:
      >>> exact(0.00123456), exact([1, 0.5, "a"]), exact(None)
      ('0.00123456', '1, 0.5, a', '–')
    """
    if isinstance(value, list):
        return ", ".join(map(exact, value))
    return wording.NOTHING if value is None else str(value)


def _count(number: int, noun: str) -> str:
    """Writes how many of something there are."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _verdict(passed: bool | None) -> str:
    """Writes whether a number keeps its bound."""
    if passed is None:
        return "not measured"
    return "kept" if passed else "missed"
