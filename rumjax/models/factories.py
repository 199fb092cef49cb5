"""Factories of networks with their options, as values that can be compared."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Factory:
    """A class or function that makes a network, and its options: equal by value.

    Modules that hold one are equal if class or function and options are, so that JAX compiles for
    them once however often they are made.

    Examples:
      >>> Factory.of(dict, {"width": 3}) == Factory.of(functools.partial(dict, width=3), {})
      True
      >>> Factory.of(dict, {"width": 3})(depth=2)
      {'width': 3, 'depth': 2}
    """

    function: Callable[..., Any]
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, function: Callable[..., Any], options: Mapping[str, Any]) -> "Factory":
        """Makes a factory of a function, or of a partial one, with further options."""
        options = dict(options)
        inner: Any = function
        while isinstance(inner, functools.partial) and not inner.args:
            inner, options = inner.func, inner.keywords | options
        return cls(inner, tuple(sorted(options.items())))

    def __call__(self, **more: Any) -> Any:
        """Calls the function with the options and more of them."""
        return self.function(**dict(self.options), **more)

    @property
    def name(self) -> str:
        """The name of the class or function, for messages."""
        return getattr(self.function, "__name__", type(self.function).__name__)
