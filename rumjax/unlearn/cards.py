"""What a table of algorithms says of each: what it minimizes, its source, what it needs."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

Factory = TypeVar("Factory", bound=Callable[..., Any])

Need: TypeAlias = Literal["S", "R", "V", "bank", "oracles"]
"""What an algorithm may look at: the sets, held-out images, other models."""
Forgets: TypeAlias = Literal["examples", "classes", "both"]


class Card(NamedTuple):
    """What is said of an algorithm wherever algorithms are listed.

    Examples:
      >>> Card("CE on R", "Golatkar et al., CVPR 2020", ("R",), "examples").needs
      ('R',)
    """

    minimizes: str
    """from θo, in a few words or a formula"""
    source: str
    """authors, venue and year"""
    needs: tuple[Need, ...]
    """it looks at nothing else"""
    forgets: Forgets
    """what its authors made it for"""


CARDS: dict[Callable[..., Any], Card] = {}
"""By factory."""


def card(
    minimizes: str, source: str, needs: tuple[Need, ...], forgets: Forgets = "examples"
) -> Callable[[Factory], Factory]:
    """Gives a factory its card, which `CARDS` holds.

    Examples:
      >>> @card("CE on R", "mine", ("R",))
      ... def factory(model): ...
      >>> CARDS[factory].source
      'mine'
    """

    def give(factory: Factory) -> Factory:
        CARDS[factory] = Card(minimizes, source, needs, forgets)
        return factory

    return give


def table(algorithms: Mapping[str, Callable[..., Any]]) -> str:
    """Returns the table of algorithms, in Markdown; names link a heading of the same page.

    Examples:
      >>> from rumjax.unlearn.nothing import original
      >>> print(table({"original": original}).splitlines()[-1])
      | [original](#original) | nothing | nothing | – |
    """
    lines = [
        "| algorithm | what it minimizes, from θo | needs | made for |",
        "|---|---|---|---|",
    ]
    for name, factory in algorithms.items():
        minimizes, _, needs, forgets = CARDS[factory]
        cells = (f"[{name}](#{name})", minimizes, ", ".join(needs) or "nothing")
        lines.append(f"| {' | '.join(cells)} | {forgets if needs else '–'} |")
    return "\n".join(lines)
