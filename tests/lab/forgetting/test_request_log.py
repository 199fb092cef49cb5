"""The log of requests: what is added is whole, and whatever is changed in it is found."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import DamagedFileError, InvalidInputError, WorkDirectoryError
from rumjax.lab.forgetting import canonical
from rumjax.lab.forgetting.ledger import LOG, Ledger, check_chain
from rumjax.lab.workdir import WorkDirectory


@pytest.fixture
def work(tmp_path):
    with WorkDirectory(tmp_path) as work:
        yield work


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    with WorkDirectory(tmp_path_factory.mktemp("log")) as work:
        ledger = Ledger(work)
        ledger.append("received", 1, ["r1", "r2"], files=("a/ü.png", 'b"\n'), rate=0.25)
        ledger.append("unlearned", 1, ["r1", "r2"], digest="ab", missing=float("nan"))
        ledger.append("verified", 1, ["r1", "r2"])
        ledger.append("received", 2, ["r3"])
        return work.read_bytes(LOG).decode()


def test_a_log_is_read_as_it_was_written(work):
    ledger = Ledger(work)
    assert ledger.entries == []
    assert ledger.head == "0" * 64
    first = ledger.append("received", 1, ["r1", "r2"], count=2, rate=float("nan"))
    second = ledger.append("failed", 1, ["r2"], why="a bound")
    again = Ledger(work)
    assert again.entries == [first, second]
    assert again.of_request("r1") == first
    assert again.of_request("r2") == second
    assert again.of_request("r3") is None
    assert again.of_batch(1) == [first, second]
    assert again.of_batch(2) == []
    assert again.last("failed") == second
    assert again.last("verified") is None
    assert first.details == {"count": 2, "rate": None}
    assert again.head == second.hash == ledger.head


def test_only_what_makes_sense_is_added(work):
    ledger = Ledger(work)
    for state, requests, details, message in (
        ("verifed", ["r1"], {}, "did you mean 'verified'"),
        ("received", [], {}, "wanted the ids"),
        ("received", "r1", {}, "wanted the ids"),
        ("received", [1], {}, "another type"),
        ("unlearned", ["r1"], {}, "never received"),
        ("received", ["r1"], {"model": object()}, "what JSON can say"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            ledger.append(state, 1, requests, **details)
    assert not work.has(LOG)


def test_a_log_that_somebody_else_has_written_is_not_written_over(work):
    one, other = Ledger(work), Ledger(work)
    one.append("received", 1, ["r1"])
    with pytest.raises(WorkDirectoryError, match="changed since it was read"):
        other.append("received", 1, ["r2"])
    assert [entry.requests for entry in Ledger(work).entries] == [("r1",)]


def test_the_first_bad_line_of_a_damaged_log_is_named(work, text):
    work.write_text(LOG, text.replace("unlearned", "verified!"))
    with pytest.raises(DamagedFileError, match="line 2: it was changed"):
        Ledger(work)
    (work.path / LOG).write_bytes(text.encode()[:-3] + b"\xff\n")
    with pytest.raises(DamagedFileError, match="line 4: it is no UTF-8"):
        Ledger(work)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 10**6), to=st.integers(1, 255))
def test_any_changed_byte_is_found(text, place, to):
    changed = bytearray(text.encode())
    changed[place % len(changed)] ^= to
    assert check_chain(bytes(changed))


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.integers(0, 3), max_size=6))
def test_lines_taken_out_put_in_or_moved_are_found(text, lines):
    own = text.split("\n")[:-1]
    other = "".join(f"{own[line]}\n" for line in lines)
    head = json.loads(own[-1])["hash"]
    assert bool(check_chain(other, head)) == (lines != [0, 1, 2, 3])
    assert bool(check_chain(other)) == (lines != list(range(len(lines))))


def test_lines_taken_from_the_end_are_found_by_a_known_hash(text):
    own = text.split("\n")[:-1]
    second, last = (json.loads(own[place])["hash"] for place in (1, 3))
    shorter = "".join(f"{line}\n" for line in own[:3])
    assert check_chain(shorter) == []
    assert check_chain(shorter, second) == []
    assert "taken out" in check_chain(shorter, last)[0]


def test_a_line_is_told_from_one_that_means_the_same(text):
    own = text.split("\n")[:-1]
    for line in (own[0] + " ", own[0].replace("0.25", "0.250"), own[0].replace("\\u00fc", "ü")):
        assert line != own[0]
        assert check_chain("\n".join([line, *own[1:], ""]))[0].startswith("line 1: ")


def test_a_line_that_was_sealed_anew_breaks_the_next(text):
    own = text.split("\n")[:-1]
    forged = json.loads(own[1]) | {"state": "failed"}
    del forged["hash"]
    line = canonical.written(forged | {"hash": canonical.sha256(forged)})
    assert check_chain("\n".join([own[0], line, *own[2:], ""])) == [
        "line 3: it does not follow the line before: lines were taken out, put in or moved"
    ]


@pytest.mark.parametrize(
    "line",
    ["", "[]", "3", "{}", '{"a": NaN}', "[" * 5000, "\x00", '{"number": 1e999}', "\ud800"],
)
def test_whatever_the_text_is_problems_are_listed(line):
    assert check_chain(f"{line}\n")


def test_a_killed_append_leaves_the_log_as_it_was(work, monkeypatch):
    ledger = Ledger(work)
    ledger.append("received", 1, ["r1"])
    before = work.read_bytes(LOG)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        ledger.append("unlearned", 1, ["r1"])
    monkeypatch.undo()
    assert work.read_bytes(LOG) == before
    assert ledger.head == Ledger(work).head
