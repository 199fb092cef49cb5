"""Two batches of requests to a model that was trained elsewhere: what is written, and verified."""

import json
import re

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rumjax.data import hashes, load
from rumjax.lab.forgetting import certificate, ledger
from rumjax.lab.workdir import digest
from rumjax.types import Variables
from tests.lab.forgetting import offices


@pytest.fixture(scope="module")
def batches(foreign, tmp_path_factory):
    """A directory with two batches, the second by a rum of several algorithms."""
    folder = tmp_path_factory.mktemp("batches")
    work = folder / "work"
    first = offices.asked(folder / "first.csv", r1=[5, 3], r2=[10])
    both = offices.write_requests(
        folder / "both.csv",
        *(("r1", "2026-11-26", "", row) for row in (5, 3)),
        ("r2", "2026-11-26", "", 10),
        *(("r3", "2026-11-26T10:00:00", "2026-11-27", row) for row in (20, 30)),
        columns="request,received,deadline,index",
    )
    assert offices.start(foreign / "foreign.py", first, work) == 0
    assert offices.start(foreign / "foreign.py", both, work) == 0
    return folder


def test_the_log_tells_what_became_of_each(batches):
    work = batches / "work"
    states = ("received", "unlearned", "verified")
    assert offices.states(work) == [(state, batch) for batch in (1, 2) for state in states]
    lines = offices.log(work)
    assert lines[0]["requests"] == ["r1", "r2"]
    assert lines[3]["requests"] == ["r3"]
    assert not ledger.check_chain((work / "requests/log.jsonl").read_text())
    pointer = json.loads((work / "requests/delivered.json").read_text())
    assert pointer["batch"] == 2
    assert pointer["sha256"] == lines[-1]["details"]["model"]


def test_who_became_more_exposed_is_listed(batches):
    lines = (batches / "work/requests/batch_0002/exposed.csv").read_text().splitlines()
    assert lines[0] == "set,part,row,margin_before,margin_after"
    rows = {row["name"]: row for row in offices.certificate(batches / "work", 2)["evidence"]}
    for name in ("R", "V"):
        listed = [line for line in lines if line.startswith(f"{name},")]
        row = rows[f"more exposed in {name}"]
        assert len(listed) == round(row["value"] * row["count"])


def test_the_second_batch_goes_on_from_the_first(batches):
    one, two = (offices.certificate(batches / "work", number) for number in (1, 2))
    for document in (one, two):
        assert certificate.problems(document) == []
        assert document["level"] == "C"
        assert document["outcome"] == "within_bounds"
    assert two["original"]["digest"] == one["delivered"]["digest"]
    assert two["data_before"] == one["data_after"] | {"name": "D"}
    sizes = [document["data_after"]["examples"] for document in (one, two)]
    assert sizes == [offices.SIZE - 3, offices.SIZE - 5]


def test_what_is_forgotten_is_listed_by_its_hashes(batches, foreign):
    listed = (batches / "work/requests/forgotten.csv").read_text().split()
    images = hashes(load("npz", data_dir=foreign / "data.npz").train)
    assert listed == ["sha256", *images[[3, 5, 10]], *images[[20, 30]]]


def test_a_script_of_flax_loads_what_comes_out(batches, foreign):
    folder = batches / "work/requests/batch_0002"
    like = offices.Network().init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    params = flax.serialization.from_bytes(like, (folder / "model.msgpack").read_bytes())
    delivered = offices.certificate(batches / "work", 2)["delivered"]["digest"]
    assert (
        digest(Variables({"module": params}, {})) == delivered
        or digest(Variables(params, {})) == delivered
    )
    before = flax.serialization.from_bytes(like, (foreign / "model.msgpack").read_bytes())
    changed = jax.tree.map(lambda one, other: not np.array_equal(one, other), params, before)
    assert all(jax.tree.leaves(changed))


def test_both_certificates_hold(batches, capsys):
    for number in (1, 2):
        assert offices.verify(batches / "work", number) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 13
        assert all(line.endswith(": holds") for line in lines)


@pytest.mark.usefixtures("no_training")
def test_the_same_command_does_nothing_more(batches, foreign, capsys):
    before = (batches / "work/requests/log.jsonl").read_bytes()
    arguments = foreign / "foreign.py", batches / "both.csv", batches / "work"
    assert offices.start(*arguments) == 0
    assert "all requests are fulfilled already" in capsys.readouterr().out
    assert (batches / "work/requests/log.jsonl").read_bytes() == before


@pytest.mark.usefixtures("no_training")
def test_an_identifier_is_of_one_request(batches, foreign, tmp_path, capsys):
    other = offices.asked(tmp_path / "other.csv", r1=[5])
    assert offices.start(foreign / "foreign.py", other, batches / "work") == 1
    assert "r1 were fulfilled before, and name other examples now" in capsys.readouterr().err


@pytest.mark.usefixtures("no_training")
def test_what_is_forgotten_is_not_forgotten_again(batches, foreign, tmp_path, capsys):
    again = offices.asked(tmp_path / "again.csv", r4=[10, 40])
    assert offices.start(foreign / "foreign.py", again, batches / "work") == 1
    error = capsys.readouterr().err
    assert "forgotten already, by an earlier batch: 10 of request 'r4'" in error


def test_deadlines_and_copies_are_pointed_out(foreign, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rumjax.lab.forgetting.fulfilling.finish", lambda *_: 0)
    columns = "request,received,deadline,index"
    late = ("late", "2026-01-01", "2026-01-31", 5)
    requests = offices.write_requests(tmp_path / "late.csv", late, columns=columns)
    assert offices.start(foreign / "foreign.py", requests, tmp_path / "work") == 0
    said = capsys.readouterr().out
    assert "the deadline of 1 requests has passed: late" in said
    assert re.search(r"row 5 is to be forgotten, and its image stays in D in rows 7:", said)


def test_copies_are_in_the_certificate(batches):
    copies = offices.certificate(batches / "work", 1)["copies"]
    assert copies["identical"] == 1
    assert isinstance(copies["similar"], int) or copies["similar"] is None
