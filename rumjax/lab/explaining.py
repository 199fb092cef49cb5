"""What a configuration says and may say, a line for each option, for `--help`."""

import dataclasses
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin

from rumjax.lab.schema import FORGET_OPTIONS, Choice, Sections, StudyForm, without_none
from rumjax.lab.sections import STUDIES
from rumjax.lab.values import fits

WIDTH = 52
"""Characters for the name and value of an option."""


COMMON = {"forget": ("by", "requests", "until"), "study": ("kind", "command")}
"""The options that do not depend on another, of sections that have such."""


class Entry(NamedTuple):
    """A line of the explanation of a configuration."""

    key: str
    value: Any
    about: str


def entries(config: Mapping[str, Any]) -> Iterator[Entry]:
    """Yields every value of a configuration with its dotted key and what it is about."""

    def walk(prefix: str, value: Any, kind: Any, about: str) -> Iterator[Entry]:
        if not isinstance(value, Mapping) or not value:
            yield Entry(prefix, value, about)
            return
        kind = without_none(kind)
        for name, item in value.items():
            inner: Any = Any
            inner_about = about
            if dataclasses.is_dataclass(kind):
                field = {field.name: field for field in dataclasses.fields(kind)}.get(name)
                if field is not None:
                    inner, inner_about = field.type, field.metadata["about"]
            elif get_origin(kind) is Mapping:
                inner = get_args(kind)[1]
            yield from walk(f"{prefix}.{name}" if prefix else name, item, inner, inner_about)

    yield from walk("", config, Sections, "")


def absent(config: Mapping[str, Any]) -> Iterator[Entry]:
    """Yields the options that a configuration does not give, with their defaults."""
    for field in dataclasses.fields(Sections):
        record = without_none(field.type)
        given = config.get(field.name)
        if not dataclasses.is_dataclass(record):
            if given is None:
                yield Entry(field.name, default_of(field), field.metadata["about"])
            continue
        for inner in dataclasses.fields(record):
            if not (isinstance(given, Mapping) and inner.name in given):
                default = default_of(inner)
                yield Entry(f"{field.name}.{inner.name}", default, inner.metadata["about"])


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """Returns the default of an option; MISSING where it has none that may be written."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default if fits(field.type, field.default) else dataclasses.MISSING


def explain(config: Mapping[str, Any]) -> str:
    """Lists what a configuration says, and what it might say besides, a line each."""
    said = [
        (shlex.quote(f"--config.{entry.key}={entry.value}"), entry.about)
        for entry in entries(config)
    ]
    more = [
        (f"--config.{entry.key}", f"{entry.about} (no default)")
        if entry.value is dataclasses.MISSING
        else (shlex.quote(f"--config.{entry.key}={entry.value}"), entry.about)
        for entry in absent(config)
    ]
    return "\n".join(
        [
            "values, each of which can be overridden as it stands here:",
            listing(said, WIDTH),
            "",
            "further options, with their defaults:",
            listing(more, WIDTH),
        ]
    )


def describe_sections() -> str:
    """Lists every section and its options, for `--help`."""
    lines = []
    for field in dataclasses.fields(Sections):
        lines.append(listing([(field.name, field.metadata["about"])]))
        record = without_none(field.type)
        if not dataclasses.is_dataclass(record):
            continue

        # Some options depend on another, and are listed by it.
        common = COMMON.get(field.name)
        lines += [
            listing([(f"  {one.name}", one.metadata["about"])])
            for one in dataclasses.fields(record)
            if common is None or one.name in common
        ]
        if record is Choice:
            lines += [f"    by {by}: {', '.join(names)}" for by, names in FORGET_OPTIONS.items()]
        if record is StudyForm:
            kinds = {kind: ", ".join(names) for kind, names in STUDIES.items() if names}
            lines += [f"    kind {kind}: {names}" for kind, names in kinds.items()]
    return "\n".join(lines)


def listing(entries: Iterable[tuple[str, str]], width: int = 22) -> str:
    """Lists names and what they mean, a line each."""
    return "\n".join(f"  {name:<{width}} {meaning}" for name, meaning in entries)
