"""Certificates: what they must say, what they may not, and that every change is found."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting import canonical
from rumjax.lab.forgetting.certificate import (
    DOES_NOT_PROVE,
    FORBIDDEN,
    LEVELS,
    OUTCOMES,
    committed,
    manifest,
    new_salt,
    opening,
    problems,
    read,
    salted,
)
from rumjax.lab.forgetting.records import EvidenceRecord, ModelRecord, filled
from tests.lab.forgetting.made_up_certificates import HASHES, bound, made, refused

DOCUMENT = made()


def places(value, path=()):
    """Paths to all values in a JSON-like value."""
    yield path
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))


def changed(path, value):
    document = copy.deepcopy(DOCUMENT)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if value is ABSENT:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return document


ABSENT = object()
PATHS = [path for path in places(DOCUMENT) if path]


def resealed(document):
    """A document with the hash of its contents, as a forger would write it."""
    content = {key: value for key, value in document.items() if key != "content_sha256"}
    content.pop("signature", None)
    return document | {"content_sha256": canonical.sha256(content)}


def test_a_certificate_holds_after_being_written_and_read():
    assert problems(DOCUMENT) == []
    assert problems(read(json.dumps(DOCUMENT, indent=2))) == []
    assert DOCUMENT["outcome"] == "within_bounds"
    assert DOCUMENT["claim"] == LEVELS["C"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PATHS), st.sampled_from([ABSENT, "other", 17, -0.5, None, [], {}, True]))
def test_any_changed_field_is_found(path, value):
    document = changed(path, value)
    assert bool(problems(document)) == (canonical.written(document) != canonical.written(DOCUMENT))


def test_every_field_is_required():
    for name in DOCUMENT.keys() - {"signature"}:
        assert f"{name} is absent" in problems(changed((name,), ABSENT))
    assert "more is unknown" in problems(DOCUMENT | {"more": 1})


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("outcome",), "retrained", "outcome 'retrained' is not that of its level and gate"),
        (("claim",), LEVELS["A"], "claim is not that of level C"),
        (("level",), "A", "claim is not that of level A"),
        (("does_not_prove",), list(DOES_NOT_PROVE[1:]), "does_not_prove leaves out"),
        (("gate",), None, "level C needs a gate"),
        (("gate", "passed"), False, "the gate says something else than its bounds"),
        (("gate", "bounds", 0, "value"), 0.8, "says something else than its numbers"),
        (("gate", "bounds", 0, "value"), None, "says something else than its numbers"),
        (("requests",), [], "about no request"),
        (("requests", 0, "count"), 3, "does not have as many examples"),
        (("evidence", 0, "low"), 0.06, "ends before it begins"),
        (("evidence", 0, "note"), "The images are deleted.", "it says 'deleted'"),
        (("not_tested", 0), "Certified ε", "it says 'certified'"),
        (("derived", 0, "what"), "a Compliant copy", "it says 'compliant'"),
        (("touched", "R"), "erased", "it says 'erased'"),
        (("candidate",), dataclasses.asdict(ModelRecord("a")), "candidate must"),
    ],
)
def test_a_certificate_that_was_sealed_anew_must_still_agree_with_itself(path, value, problem):
    assert any(problem in one for one in problems(resealed(changed(path, value))))


@pytest.mark.parametrize("value", [None, 3, [], "text", {}, {"kind": []}, {"requests": {"a": 1}}])
def test_whatever_the_document_is_problems_are_listed(value):
    assert problems(value)


def test_documents_that_can_be_read_in_two_ways_are_refused():
    for text, message in (
        ('{"level": "A", "level": "B"}', "'level' twice"),
        ('{"level": NaN}', "NaN"),
        ("[]", "list, not an object"),
        ("{", "cannot be read"),
        ("[" * 100_000, "too many levels"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            read(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "E"}, "unknown claim level"),
        ({"steps": [{"name": "a"}]}, r"steps\[0\].algorithm is absent"),
        ({"cost": {"seconds": 1.0, "share": 0.3}}, "cost.share_of_retraining is absent"),
        ({"requests": [3]}, r"requests\[0\]: wanted an object, got 3"),
        ({"data_before": None}, "data_before: wanted an object, got None"),
        ({"seeds": {"run": object()}}, "certificate.seeds.run: wanted what JSON can say"),
        ({"not_tested": ["That it is GDPR compliant."]}, "it says 'compliant'"),
        ({"batch": True}, "batch: wanted int, got True"),
        ({"gate": None}, "needs a gate"),
    ],
)
def test_what_is_no_certificate_is_not_made(changes, message):
    with pytest.raises(InvalidInputError, match=message):
        made(**changes)


def test_each_level_and_gate_has_its_outcome():
    unmeasured = {"passed": True, "bounds": [bound(), bound(value=None, passed=None)]}
    outcomes = [
        made()["outcome"],
        made(level="B")["outcome"],
        made(gate=unmeasured)["outcome"],
        made(level="A", gate=None)["outcome"],
        made(level="D", gate=None, evidence=[])["outcome"],
        refused()["outcome"],
    ]
    expected = ["within_bounds", "within_bounds", "inconclusive", "retrained", "applied", "refused"]
    assert outcomes == expected
    assert set(expected) == set(OUTCOMES)


def test_a_refused_model_is_not_the_delivered_one():
    document = refused() | {"delivered": refused()["candidate"]}
    assert "the model that the gate refused is delivered" in problems(resealed(document))


def test_records_and_numbers_of_numpy_are_taken():
    row = EvidenceRecord("M4", np.float32(0.5), np.nan, np.nan, np.float64(0.5), None, np.int64(3))
    evidence = made(evidence=[row], seeds={"all": np.arange(2)})
    assert evidence["evidence"][0] == filled(
        EvidenceRecord,
        {"name": "M4", "value": 0.5, "low": None, "high": None, "null": 0.5}
        | {"of_original": None, "count": 3},
    )
    assert evidence["seeds"] == {"all": [0, 1]}


def test_our_own_sentences_claim_no_more_than_can_be_known():
    for text in (*LEVELS.values(), *OUTCOMES.values(), *DOES_NOT_PROVE):
        assert not FORBIDDEN.search(text)
    assert FORBIDDEN.search("It is Certified.")
    assert not FORBIDDEN.search("certificate of what was undeleted_x")
    for name in ("/data/deleted/x.png", "deleted.npz", "'deleted'", "a-deleted", "C:\\erased"):
        assert not FORBIDDEN.search(f"The file {name} was not read.")


def test_names_that_people_gave_may_be_any():
    request = made()["requests"][0] | {"id": "deleted user's compliance case"}
    assert problems(made(requests=[request])) == []


def test_salted_hashes_tell_nothing_without_their_own_opening():
    salt = new_salt()
    commitments = [salted(value, salt) for value in HASHES]
    assert len({salt, new_salt(), *commitments, *HASHES}) == 2 * len(HASHES) + 2
    shown = opening(HASHES[0], salt)
    pairs = zip(HASHES, commitments, strict=True)
    is_shown = [committed(value, shown) == commitment for value, commitment in pairs]
    assert is_shown == [True, False, False, False, False]


@given(st.lists(st.sampled_from(HASHES)), st.lists(st.sampled_from(HASHES)))
def test_manifests_are_equal_as_the_data_are(some, others):
    assert (manifest(some) == manifest(others)) == (sorted(some) == sorted(others))
    assert manifest(some, "salt") != manifest(some)
