"""What requests ask for, as positions in D; see `tables` for how they are read."""

import collections
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from rumjax.data.origins import HASH, Absence, Example, Register, hashed_images
from rumjax.errors import InvalidInputError, check_indices
from rumjax.lab.forgetting.tables import Request, read_requests
from rumjax.types import Splits

__all__ = ["Request", "copies_left", "locate", "read_requests", "requested_examples"]

MOST_LISTED = 100
"""Examples that a message names for each reason, at most."""


def requested_examples(requests: Iterable[Request]) -> list[tuple[str, Example]]:
    """Returns what all examples of some requests are named by, and the names, each once.

    Examples:
      >>> requested_examples([Request("r1", "2026-11-26", None, (("row", 3), ("name", "a.png")))])
      [('row', 3), ('name', 'a.png')]
    """
    return list(dict.fromkeys(pair for request in requests for pair in request.examples))


def locate(
    requests: Sequence[Request], splits: Splits, forgotten: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Finds the examples of every request in D.

    Args:
      requests: of one batch.
      splits: from `rumjax.data.load`, which must have kept what is requested, see its `keep`.
      forgotten: SHA-256 of the examples that earlier batches have forgotten, see
        `rumjax.data.hashes`; as often as there were copies of the same image and label. Where D
        holds more copies than were forgotten, one of them may still be requested.

    Returns:
      For each id int32[n], the positions in D, ascending.

    Raises:
      InvalidInputError: examples that are unknown, not in D because they are test images or held
        out for validation, several by one name, of two requests, or forgotten already; names of one
        example that mean different ones; or nothing of D would be left. All of them are listed.

    Examples:
      >>> from rumjax.data import load
      >>> request = Request("r1", "2026-11-26", None, (("row", 7), ("row", 3)))
      >>> locate([request], load("fashion_mnist_mini"))
      {'r1': array([3, 7], dtype=int32)}
    """
    ids = collections.Counter(request.id for request in requests)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise InvalidInputError(f"requests: {twice[0]!r} is the id of several requests")
    register = Register(splits.train, splits.origin("train"))
    absence = Absence(splits, register)
    gone = _forgotten_positions(register, forgotten)

    # The one position of every example, or why it has none.
    problems: dict[str, list[str]] = collections.defaultdict(list)
    positions: dict[str, set[int]] = {}
    by_position: dict[int, list[str]] = collections.defaultdict(list)
    for request in requests:
        own: set[int] = set()
        positions[request.id] = own
        for names in request.named():
            shown = f"{' = '.join(repr(name) for _, name in names)} of request {request.id!r}"
            try:
                position = _position(register, absence, names)
            except InvalidInputError as error:
                problems[str(error)].append(shown)
                continue
            if position in gone:
                problems["forgotten already, by an earlier batch"].append(shown)
            if position not in own:
                own.add(position)
                by_position[position].append(shown)

    # Each in one request, and something must be left.
    for shown_names in by_position.values():
        if len(shown_names) > 1:
            problems["the same example in several requests; leave it in one"].append(
                " and ".join(shown_names)
            )
    size = len(splits.train.labels)
    if not problems and size and len(gone | set(by_position)) == size:
        raise InvalidInputError(
            f"requests: with them all {size} examples of D are forgotten, so that nothing is left "
            "to learn from; take the model out of use instead"
        )
    if problems:
        count = sum(map(len, problems.values()))
        listed = "".join(f"\n  {why}: {_listing(names)}" for why, names in problems.items())
        raise InvalidInputError(
            f"requests: {count} examples cannot be forgotten as they are named, and nothing was "
            f"started:{listed}"
        )
    return {name: np.array(sorted(own), np.int32) for name, own in positions.items()}


def copies_left(splits: Splits, chosen: np.ndarray) -> dict[int, list[int]]:
    """Finds images in D that equal a forgotten one, pixel by pixel, and stay.

    Args:
      splits: from `rumjax.data.load`.
      chosen: positions in D of all that is forgotten, integers [n].

    Returns:
      For each forgotten position that has such copies, of any label, their positions, ascending.

    Raises:
      InvalidInputError: no such positions.

    Examples:
      >>> from rumjax.types import Dataset
      >>> data = Dataset(np.zeros((3, 4, 4, 1), np.uint8), np.array([0, 1, 1]))
      >>> copies_left(Splits("mine", 2, ("a", "b"), data, data, data), np.array([1]))
      {1: [0, 2]}
    """
    chosen = check_indices("forgotten examples", chosen, len(splits.train.labels), allow_empty=True)
    digests = [digest.digest() for digest in hashed_images(splits.train.images)]
    alike: dict[bytes, list[int]] = {digests[position]: [] for position in chosen.tolist()}
    taken = set(chosen.tolist())
    for position, digest in enumerate(digests):
        if digest in alike and position not in taken:
            alike[digest].append(position)
    return {
        position: alike[digests[position]]
        for position in chosen.tolist()
        if alike[digests[position]]
    }


def _forgotten_positions(register: Register, forgotten: Collection[str]) -> set[int]:
    """Returns the positions of what was forgotten, where no copy of it is left."""
    gone: set[int] = set()
    for value, count in collections.Counter(forgotten).items():
        alike = register.find(value, HASH)
        if count >= len(alike):
            gone.update(alike)
    return gone


def _position(register: Register, absence: Absence, names: Sequence[tuple[str, Example]]) -> int:
    """Returns the position in D of the example that all names mean.

    Raises:
      InvalidInputError: one of them means none, they mean different ones, or several.
    """
    meant: list[set[int]] = []
    for kind, name in names:
        positions = register.find(name, kind)
        if not positions:
            raise InvalidInputError(absence.of(name, kind))
        meant.append(set(positions))
    common = sorted(set.intersection(*meant))
    if not common:
        raise InvalidInputError("names of different examples on one line")
    if len(common) > 1:
        rows = _listing([str(row) for row in register.origin.rows[common].tolist()])
        raise InvalidInputError(
            f"several copies of one image and label; name them by their rows, {rows}"
        )
    return common[0]


def _listing(names: Sequence[str]) -> str:
    """Lists the first names, and says how many there are besides."""
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return f"{', '.join(names[:MOST_LISTED])}{more}"
