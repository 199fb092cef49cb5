"""What a certificate consists of, as records, and how a document is checked against them.

`Certificate` is the schema: a document is JSON that has these fields, of these types, and no other.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from rumjax.errors import shown

KIND = "rumjax certificate of unlearning"
VERSION = 1


@dataclasses.dataclass(frozen=True)
class RequestRecord:
    """A request that was carried out."""

    id: str
    received: str
    deadline: str | None
    examples: tuple[str, ...]
    """salted SHA-256 of each, see `salted`"""
    count: int


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """The training data before or after a batch."""

    name: str
    examples: int
    manifest: str
    """see `manifest`"""


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """A model."""

    digest: str
    """SHA-256 of its arrays, see `rumjax.lab.workdir.digest`"""
    about: str = ""
    """where it comes from, or what it is for"""
    path: str = ""
    format: str = ""
    exported: str = ""
    """where it lies in the format that the original came in"""
    exported_sha256: str = ""
    """over the bytes of that file, or over the files of that folder and their names"""


@dataclasses.dataclass(frozen=True)
class StepRecord:
    """A step of unlearning: an algorithm on a part of the examples to forget."""

    name: str
    algorithm: str
    options: dict[str, Any]
    """all hyper-parameters"""
    examples: int
    """that it forgets"""
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class CostRecord:
    """What a batch cost."""

    seconds: float | None
    share_of_retraining: float | None
    budget: float | None = None
    """the share that was allowed"""
    note: str = ""
    """what the share counts, gradients for example"""


@dataclasses.dataclass(frozen=True)
class CopiesRecord:
    """Images like forgotten ones that stay in D."""

    identical: int = 0
    similar: int | None = None
    """None where nobody looked"""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class EvidenceRecord:
    """A measured number."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    """ends of the 95 % interval"""
    null: float | None
    """what a model that never saw the examples would give"""
    of_original: float | None
    """what the model before unlearning gave"""
    count: int | None
    """the sample's size"""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class BoundRecord:
    """A bound that was set before anything was measured."""

    name: str
    rule: Literal["at most", "at least"]
    bound: float
    value: float | None
    """None where it could not be measured"""
    passed: bool | None
    missed_by: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class GateRecord:
    """All bounds, of which a delivered model must keep each."""

    passed: bool
    bounds: tuple[BoundRecord, ...]


@dataclasses.dataclass(frozen=True)
class CalibrationRecord:
    """How a measure did on examples that no model has seen."""

    name: str
    statistic: float | None
    p_value: float | None
    count: int | None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class DerivedRecord:
    """Something else that was made from the examples."""

    path: str
    what: str
    purged: bool = False


@dataclasses.dataclass(frozen=True)
class SignatureRecord:
    """See `rumjax.lab.forgetting.signing`."""

    algorithm: str
    public_key: str
    value: str


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The whole document."""

    kind: Literal["rumjax certificate of unlearning"]
    version: Literal[1]
    issued: str
    batch: int
    outcome: str
    """of `OUTCOMES`"""
    level: Literal["A", "B", "C", "D"]
    claim: str
    """the sentences of `LEVELS`"""
    requests: tuple[RequestRecord, ...]
    data_before: DataRecord
    data_after: DataRecord
    copies: CopiesRecord
    original: ModelRecord
    delivered: ModelRecord
    candidate: ModelRecord | None
    """the model that the gate refused, if it did"""
    recipe: dict[str, Any] | None
    """None if nobody knows how the original model was trained"""
    steps: tuple[StepRecord, ...]
    seeds: dict[str, Any]
    versions: dict[str, Any]
    hardware: dict[str, Any]
    cost: CostRecord
    touched: dict[str, str]
    """what was used of the other data: "R" and "V", and for what"""
    evidence: tuple[EvidenceRecord, ...]
    gate: GateRecord | None
    calibration: tuple[CalibrationRecord, ...]
    derived: tuple[DerivedRecord, ...]
    not_tested: tuple[str, ...]
    does_not_prove: tuple[str, ...]
    retrained_again: str
    """until when the certificate holds, see `RETRAINED_AGAIN`"""
    log_head: str
    """hash of the last line of the log of requests when this was issued"""
    content_sha256: str
    """of all above, see `rumjax.lab.forgetting.canonical`"""
    signature: SignatureRecord | None = None


def filled(kind: Any, value: Any) -> Any:
    """Returns a JSON-like value with the defaults of what it leaves out.

    Args:
      kind: a record of this module, or another type that its fields have.
      value: of that kind, or not: what is wrong stays as it is.

    Examples:
      >>> filled(CopiesRecord, {"identical": 2})
      {'identical': 2, 'similar': None, 'note': ''}
    """
    kind, _ = _without_none(kind)
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return [filled(typing.get_args(kind)[0], one) for one in value]
    if not dataclasses.is_dataclass(kind) or not isinstance(value, Mapping):
        return value
    hints = typing.get_type_hints(kind)
    return dict(value) | {
        field.name: filled(hints[field.name], value.get(field.name, field.default))
        for field in dataclasses.fields(kind)
        if field.name in value or field.default is not dataclasses.MISSING
    }


def mistakes(kind: Any, value: Any, where: str = "") -> list[str]:
    """Lists where a JSON-like value is not of a kind; never raises.

    Args:
      kind: a record of this module, or another type that its fields have.
      value: to be checked.
      where: the name of the value in messages.

    Examples:
      >>> mistakes(CopiesRecord, {"identical": "two", "note": "", "other": 1})
      ["identical: wanted int, got 'two'", 'similar is absent', 'other is unknown']
    """
    kind, optional = _without_none(kind)
    if value is None and optional:
        return []
    if dataclasses.is_dataclass(kind):
        return _mistakes_of_fields(kind, value, where)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            return [f"{where}: wanted a list, got {shown(value)}"]
        item = typing.get_args(kind)[0]
        return [
            mistake
            for place, one in enumerate(value)
            for mistake in mistakes(item, one, f"{where}[{place}]")
        ]
    if typing.get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            return [f"{where}: wanted an object, got {shown(value)}"]
        item = typing.get_args(kind)[1]
        return [
            mistake
            for key, one in value.items()
            for mistake in mistakes(item, one, f"{where}.{key}")
        ]
    if typing.get_origin(kind) is Literal:
        allowed = typing.get_args(kind)
        is_one = any(type(value) is type(one) and value == one for one in allowed)
        return [] if is_one else [f"{where}: wanted {_either(allowed)}, got {shown(value)}"]
    if kind is Any or type(value) is kind or (kind is float and type(value) is int):
        return []
    return [f"{where}: wanted {kind.__name__}, got {shown(value)}"]


def _mistakes_of_fields(kind: Any, value: Any, where: str) -> list[str]:
    """Lists which fields of a record are absent, unknown, or of another kind."""
    if not isinstance(value, Mapping):
        return [f"{where or 'document'}: wanted an object, got {shown(value)}"]
    prefix = f"{where}." if where else ""
    wrong = []
    for name, hint in typing.get_type_hints(kind).items():
        if name in value:
            wrong += mistakes(hint, value[name], f"{prefix}{name}")
        else:
            wrong.append(f"{prefix}{name} is absent")
    names = {field.name for field in dataclasses.fields(kind)}
    return wrong + [f"{prefix}{name} is unknown" for name in value if name not in names]


def _without_none(kind: Any) -> tuple[Any, bool]:
    """Returns the type of an optional value and True, or another type and False."""
    if isinstance(kind, types.UnionType):
        (inner,) = [one for one in typing.get_args(kind) if one is not types.NoneType]
        return inner, True
    return kind, False


def _either(allowed: tuple[Any, ...]) -> str:
    """Lists values, of which one is wanted."""
    return " or ".join(map(repr, allowed))
