"""One way to write a JSON value, so that equal values have equal hashes.

Keys are sorted, there are no spaces, all signs are ASCII, and there are no NaN: what Python's
`json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)` returns.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from rumjax.errors import InvalidInputError, shown


def plain(value: Any, where: str = "value") -> Any:
    """Returns a value as JSON has it: dict, list, str, int, float, bool or None.

    Args:
      value: also records, tuples, paths, NumPy's numbers and arrays; numbers that are not finite
        become None.
      where: the name used in messages.

    Raises:
      InvalidInputError: it holds something else.

    Examples:
      >>> plain({"rate": float("nan"), "sizes": (1, 2)})
      {'rate': None, 'sizes': [1, 2]}
    """
    # NumPy has numbers that are Python's too, and are to become these.
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)

    # Records and arrays are what they hold.
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "tolist"):
        return plain(value.tolist(), where)
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise InvalidInputError(f"{where}: wanted names as keys, got {shown(strange[0])}")
        return {key: plain(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, f"{where}[{place}]") for place, one in enumerate(value)]
    raise InvalidInputError(f"{where}: wanted what JSON can say, got {shown(value)}")


def written(value: Any) -> str:
    r"""Returns the one way to write a JSON-like value.

    Raises:
      InvalidInputError: it is none, see `plain`.

    Examples:
      >>> written({"b": 1, "a": "ü"})
      '{"a":"\\u00fc","b":1}'
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(value: Any) -> str:
    """Returns the SHA-256 of a JSON-like value as it is `written`.

    Examples:
      >>> sha256({"a": 1, "b": 2}) == sha256({"b": 2, "a": 1})
      True
    """
    return hashlib.sha256(written(value).encode()).hexdigest()


def parsed(text: str) -> Any:
    """Returns the value of a JSON text that means the same to every reader.

    Raises:
      ValueError: no JSON, a key that is given twice, a NaN, or too many levels.

    Examples:
      >>> parsed('{"a": 1, "a": 2}')
      Traceback (most recent call last):
      ValueError: it gives 'a' twice
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refused)
    except RecursionError as error:
        raise ValueError("it has too many levels") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object whose keys are given once each."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it gives {twice!r} twice")
    return value


def _refused(constant: str) -> Any:
    """Refuses NaN and Infinity, which are no JSON."""
    raise ValueError(f"it has {constant}, which is no JSON")
