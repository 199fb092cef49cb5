"""Batches of requests: what is asked for, and whether it was asked for before."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rumjax.data.origins import Register
from rumjax.errors import InvalidInputError
from rumjax.lab import files
from rumjax.lab.experiment import Run
from rumjax.lab.forgetting import canonical
from rumjax.lab.forgetting.candidates import check_budget
from rumjax.lab.forgetting.carrying import Unlearning, carrier
from rumjax.lab.forgetting.deletion import REQUESTED, Deletion, received
from rumjax.lab.forgetting.describing import MODEL
from rumjax.lab.forgetting.ledger import Entry
from rumjax.lab.forgetting.office import Office, earlier_positions, say, start_of, verified
from rumjax.lab.forgetting.requests import Request, copies_left


class Batch(NamedTuple):
    """A batch of requests, as it was received."""

    deletion: Deletion
    received: Mapping[str, Any]
    """What its file says; see `receive`."""


def unfulfilled(office: Office, requests: Sequence[Request]) -> list[Request]:
    """Returns the requests that no batch has fulfilled.

    Raises:
      InvalidInputError: one that was fulfilled names other examples now.
    """
    done: dict[str, Any] = {}
    for number in verified(office.log):
        done |= received(office.place, number)["named"]
    changed = [
        request.id
        for request in requests
        if request.id in done and done[request.id] != canonical.plain(request.examples)
    ]
    if changed:
        raise InvalidInputError(
            f"requests: {', '.join(changed[:5])} were fulfilled before, and name other examples "
            "now; give what is new an identifier of its own"
        )
    return [request for request in requests if request.id not in done]


def check_coins(run: Run, requests: Iterable[Request]) -> None:
    """Checks that no request names an example that a coin has left out of D.

    Raises:
      InvalidInputError: one does.
    """
    if run.reserve is None:
        return
    origin = run.data.origin("train")._replace(rows=run.reserve.outside_rows)
    outside = Register(run.reserve.outside, origin)
    out = [
        f"{example!r} of request {request.id!r}"
        for request in requests
        for kind, example in request.examples
        if outside.find(example, kind)
    ]
    if out:
        raise InvalidInputError(
            f"requests: the coins of the reserve have left out {', '.join(out[:5])}, so that no "
            "model was trained on it and nothing is to be forgotten; take it out of the table"
        )


def warn(office: Office, requests: Iterable[Request], positions: Mapping[str, np.ndarray]) -> None:
    """Points out deadlines that have passed, and copies of images that stay in D."""
    # Requests that were refused before and are left out now, and deadlines.
    now = datetime.datetime.now(datetime.UTC).isoformat()
    listed, log = {one.id for one in requests}, office.log
    named = dict.fromkeys(name for entry in log.entries for name in entry.requests)
    last = {name: log.of_request(name) for name in named if name not in listed}
    left_out = [name for name, entry in last.items() if entry and entry.state == "failed"]
    if left_out:
        say(
            office,
            f"{len(left_out)} requests were refused before, and are not in this table: "
            f"{', '.join(left_out[:5])}",
        )
    late = [one.id for one in requests if one.deadline is not None and one.deadline < now]
    if late:
        say(office, f"the deadline of {len(late)} requests has passed: {', '.join(late[:5])}")

    # Copies of what is forgotten, by this table or before.
    chosen = np.concatenate([np.empty(0, np.int32), *positions.values()])
    every = np.concatenate([chosen, earlier_positions(office, None)])
    left = copies_left(office.run.data, np.unique(every))
    for position, copies in list(left.items())[:5]:
        rows = office.run.data.origin("train").rows
        others = ", ".join(str(row) for row in rows[copies[:5]])
        say(
            office,
            f"row {rows[position]} is to be forgotten, and its image stays in D in rows {others}: "
            "the model goes on learning from it; name those rows too if they are meant",
        )
    if len(left) > 5:
        say(office, f"so it is with {len(left) - 5} others")


def receive(
    office: Office, requests: Sequence[Request], positions: Mapping[str, np.ndarray]
) -> Batch:
    """Makes a batch of requests, and logs that they were received.

    Raises:
      InvalidInputError: with all that was forgotten before, nothing would be retained; or the
        budget allows for no candidate.
    """
    # What coins put in before training goes with the first batch.
    number = max((entry.batch for entry in office.log.entries), default=0) + 1
    forget = np.unique(np.concatenate(list(positions.values())))
    earlier = earlier_positions(office, None)
    if office.run.reserve is not None:
        inside = office.run.reserve.inside(office.run.data)
        forget = np.union1d(forget, np.setdiff1d(inside, earlier))
    size = len(office.example_hashes)
    if len(forget) + len(earlier) >= size:
        raise InvalidInputError(
            f"requests: with them, all {size} examples of D would be forgotten, and nothing "
            "retained; train a model on other data instead"
        )
    ids = [request.id for request in requests]
    deletion = Deletion(number, tuple(ids), forget.astype(np.int32), earlier, size)
    way = carrier(office.context, office.place, deletion, start_of(office))
    if isinstance(way, Unlearning):
        check_budget(way.chooser)
    rows = office.run.data.origin("train").rows
    asked = {
        "number": number,
        "ids": ids,
        "named": {request.id: request.examples for request in requests},
        "received": {request.id: request.received for request in requests},
        "deadlines": {request.id: request.deadline for request in requests},
        "hashes": {name: office.example_hashes[some].tolist() for name, some in positions.items()},
        "rows": rows[forget].tolist(),
        "sha256": office.example_hashes[forget].tolist(),
        "settings": office.settings(),
    }
    asked = dict(canonical.plain(asked))
    config = canonical.plain(office.run.config.written)
    office.place.write_json(files.of_batch(number, REQUESTED), asked)
    office.place.write_json(files.of_batch(number, "config.json"), config)

    # What was refused before is superseded; the log knows the contents of both files.
    refused: dict[int, list[str]] = {}
    for name in ids:
        last = office.log.of_request(name)
        if last is not None and last.state == "failed":
            refused.setdefault(last.batch, []).append(name)
    for batch, names in refused.items():
        office.log.append("superseded", batch, names, by=number)
    base = office.place.read_json(files.BASE)
    contents = {
        name: canonical.sha256(value)
        for name, value in (("asked", asked), ("config", config), ("base", base))
    }
    office.log.append("received", number, ids, examples=len(forget), **contents)
    return batch_of(office, number)


def batch_of(office: Office, number: int) -> Batch:
    """Returns a batch that was received."""
    asked = received(office.place, number)
    rows = {row: i for i, row in enumerate(office.run.data.origin("train").rows.tolist())}
    forget = np.array([rows.get(row, -1) for row in asked["rows"]], np.int32)
    if (forget < 0).any() or (office.example_hashes[forget] != asked["sha256"]).any():
        raise InvalidInputError(
            f"requests: batch {number} was begun with other images in D; put them back until it "
            "is finished"
        )
    earlier = earlier_positions(office, number)
    size = len(office.example_hashes)
    deletion = Deletion(number, tuple(asked["ids"]), np.sort(forget), earlier, size)
    return Batch(deletion, asked)


def batch_to_finish(office: Office, waiting: Sequence[Request]) -> Batch | None:
    """Returns the batch that was begun and neither finished nor refused, if there is one.

    Where the configuration or the images were changed since, what was made of it is of no use: its
    requests are received again.

    Raises:
      InvalidInputError: they would be, but the table has not got all of them.
    """
    number = office.log.open_batch
    if number is None:
        return None
    asked, settings = received(office.place, number), office.settings()
    if all(asked["settings"][name] == settings[name] for name in ("configuration", "data")):
        return batch_of(office, number)
    lacking = set(asked["ids"]) - {request.id for request in waiting}
    if lacking:
        raise InvalidInputError(
            f"requests: batch {number} was begun with another configuration or other images, and "
            f"{', '.join(sorted(lacking)[:5])} of it are not in this table; put them back, or go "
            "on with what it was begun with"
        )
    say(office, f"batch {number} was begun with another configuration or images: it is begun anew")
    models = files.candidate(number, "*"), files.delivered(number)
    office.place.delete(
        files.of_batch(number, "certificate.*"),  # it speaks of the models
        files.of_batch(number, f"{MODEL}*"),
        *map(files.checkpoint, models),
    )
    office.log.append("superseded", number, asked["ids"], by=number + 1)
    return None


def failed_last(office: Office) -> Entry | None:
    """Returns the line of the last batch, if the gate has refused it."""
    last = max((entry.batch for entry in office.log.entries), default=0)
    entries = office.log.of_batch(last)
    return entries[-1] if entries and entries[-1].state == "failed" else None


def refused_before(office: Office, requests: Sequence[Request]) -> Entry | None:
    """Returns the line of the last batch, if it asked for the same, by the same settings."""
    failed = failed_last(office)
    if failed is None:
        return None
    asked = received(office.place, failed.batch)
    same = set(asked["ids"]) == {request.id for request in requests}
    return failed if same and asked["settings"] == office.settings() else None
