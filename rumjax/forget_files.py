"""Forget sets by what the source calls its examples: in a list, or in a file."""

import os
from collections.abc import Sequence

import numpy as np

from rumjax.data.origins import ANY, Example, Register, locate, whole_number
from rumjax.errors import InvalidInputError, check_choice, check_count, check_indices
from rumjax.listings import CLASS, Listed, read_listed
from rumjax.refine import Parts
from rumjax.types import Splits


def from_examples(data: Splits, examples: Sequence[Example]) -> Parts:
    """Chooses the examples that their source calls so, as the part "examples".

    Args:
      data: from `rumjax.data.load`.
      examples: rows of the source's training images, files or SHA-256, see `rumjax.data.locate`.

    Raises:
      InvalidInputError: an example that is unknown, named twice, or not in D.

    Examples:
      >>> from rumjax.data import load
      >>> from_examples(load("fashion_mnist_mini"), [50, 3])
      {'examples': array([ 3, 50], dtype=int32)}
    """
    return {"examples": locate(data, examples, what="forget set")}


def from_file(path: str | os.PathLike[str], data: Splits) -> Parts:
    """Reads which examples to forget from a file, in the words of their source.

    Args:
      path: text with an example a line; CSV with a column row, name or sha256, and perhaps part;
        .npy; .npz with an array a part; or a run's `forget_sets.npz` or `forget_sets.csv`. An
        example is a row of the source's training images, counted from 0, a file or a SHA-256, see
        `rumjax.data.locate`; in text it may also be the name of a class, which means all of it.
      data: from `rumjax.data.load`, which knows where each example comes from.

    Returns:
      Parts by name; the one part "file" where the file names none.

    Raises:
      InvalidInputError: the file cannot be read; it lists nothing, an example twice, one that is
        not in D, or a row that holds another image than its name or SHA-256 say.

    Examples:
      >>> import tempfile
      >>> from rumjax.data import load
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.save(f"{folder}/mine.npy", [3, 1])
      ...     from_file(f"{folder}/mine.npy", load("fashion_mnist_mini"))
      {'file': array([1, 3], dtype=int32)}
    """
    if not isinstance(data, Splits):
        raise InvalidInputError(
            "forget set: wanted the data set of rumjax.data.load, since a file speaks of rows of "
            f"its source, which are no positions in D; got {data!r:.80}"
        )
    parts = {}
    for name, listed in read_listed(path).items():
        where = f"forget set: {path}, {name}"
        parts[name] = _positions(where, listed, data)
        check_indices(where, parts[name], len(data.train.labels))
    check_indices(
        f"{path}, all parts together",
        np.concatenate([np.empty(0, np.int32), *parts.values()]),
        len(data.train.labels),
    )
    return parts


def _positions(where: str, listed: Listed, data: Splits) -> np.ndarray:
    """Returns the positions in D of the examples that a part of a file lists.

    Raises:
      InvalidInputError: an example that is not in D or listed twice, or a row that holds another
        image than its name, its SHA-256 or its class say.
    """
    size = data.origin("train").size
    if listed.mask_size not in (None, size):
        raise InvalidInputError(
            f"{where}: a mask of {listed.mask_size} examples, but the source has {size} training "
            "images"
        )
    by_kind: dict[str, np.ndarray] = {}
    if CLASS in listed.examples:
        words = listed.examples[CLASS]
        labels = {_label(where, str(word), data) for word in words}
        return np.flatnonzero(np.isin(data.train.labels, list(labels))).astype(np.int32)
    for kind, examples in listed.examples.items():
        named = _without_classes(where, examples, data) if kind == ANY else examples
        by_kind[kind] = locate(data, named, what=where, kind=kind)

    # Whatever else the file says of an example must agree with its row.
    (first, places), *others = by_kind.items()
    for kind, same in others:
        if not np.isin(places, same).all():
            row = data.origin("train").rows[np.setdiff1d(places, same)[0]]
            raise InvalidInputError(
                f"{where}: row {row} is another image than its {kind} says; the file was made for "
                f"other data, or in another order; leave out the column {first} or {kind}"
            )
    if listed.classes:
        _check_classes(where, listed, data)
    return places


def _check_classes(where: str, listed: Listed, data: Splits) -> None:
    """Checks that examples have the classes that a file says, by label or name."""
    kind, examples = next(iter(listed.examples.items()))
    register = Register(data.train, data.origin("train"))
    for example, word in zip(examples, listed.classes, strict=True):
        label = int(data.train.labels[register.find(example, kind)[0]])
        if word not in (str(label), data.class_names[label], ""):
            raise InvalidInputError(
                f"{where}: {example!r} is of class {label} ({data.class_names[label]}), and not "
                f"{word!r}; the file was made for other data, or in another order"
            )


def _label(where: str, word: str, data: Splits) -> int:
    """Returns the label of a class that a file calls by its name, or by its label.

    Raises:
      InvalidInputError: there is no such class, or a number that means two.
    """
    try:
        label = label_of(int(word) if word.isdecimal() else word, data.class_names)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from error
    if label >= data.num_classes:
        raise InvalidInputError(f"{where}: class {word} is outside 0…{data.num_classes - 1}")
    return label


def _without_classes(where: str, examples: Sequence[Example], data: Splits) -> list[Example]:
    """Returns examples with the rows of a class in place of its name.

    Raises:
      InvalidInputError: a word that is the name of a class and of an example, or of two classes.
    """
    origin, labels = data.origin("train"), np.asarray(data.train.labels)
    names = set() if origin.names is None else set(origin.names.tolist())
    rows: list[Example] = []
    for example in examples:
        is_word = isinstance(example, str) and whole_number(example) is None
        if not is_word or example not in data.class_names:
            rows.append(example)
            continue
        if example in names or list(data.class_names).count(str(example)) > 1:
            raise InvalidInputError(
                f"{where}: {example!r} is the name of a class, and of another class or an example; "
                "give rows"
            )
        rows += origin.rows[labels == data.class_names.index(str(example))].tolist()
    return rows


def label_of(given: int | str, class_names: Sequence[str] = ()) -> int:
    """Returns the label of a class that is given by its label or its name.

    Raises:
      InvalidInputError: an unknown name, or a number that is the label of one class and the name of
        another.

    Examples:
      >>> label_of("dog", ["ant", "dog"]), label_of(1, ["ant", "dog"])
      (1, 1)
    """
    names = list(class_names)
    if isinstance(given, str):
        if given not in names and given.isdecimal():
            return int(given)
        if names.count(given) > 1:
            raise InvalidInputError(f"classes: several classes are called {given!r}; give labels")
        return names.index(check_choice("class", given, names))
    if isinstance(given, bool | np.bool_):
        raise InvalidInputError(f"classes: wanted labels or names, got {given}")
    label = check_count("classes", given, least=0)
    named = names.index(str(label)) if str(label) in names else label
    if named != label:
        raise InvalidInputError(
            f"classes: {label} may be the class called {label}, whose label is {named}, or label "
            f"{label}, which is called {names[label] if label < len(names) else 'nothing'}; give "
            "its name in quotation marks"
        )
    return label
