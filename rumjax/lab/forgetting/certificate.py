"""Certificates: one document on what was done for a batch of requests, and what was measured.

A certificate identifies nobody: examples are in it by salted hashes, of which the salt stays in the
work directory. It has a hash of its own contents, and perhaps a signature.
"""

import datetime
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rumjax.errors import InvalidInputError, check_choice
from rumjax.lab.forgetting import canonical, signing
from rumjax.lab.forgetting.records import KIND, VERSION, Certificate, filled, mistakes

LEVELS = {
    "A": (
        "The procedure is exact: the unlearned model was trained without the examples, by the "
        "recipe in this document, and the same program on the same machine makes it again bit for "
        "bit. This says how the model was made. It says nothing of copies of the examples that "
        "were left in the data, nor of other models."
    ),
    "B": (
        "The procedure is approximate, and was measured against models retrained without the "
        "examples: the numbers below say how far the unlearned model differs from them. A "
        "difference that was not measured may be there, and a small one is no proof that nothing "
        "of the examples is left."
    ),
    "C": (
        "The procedure is approximate, and was measured without retrained models: attacks were run "
        "on the unlearned model, and what they gave is compared with examples that it never saw. "
        "This is evidence about these attacks. It is no proof that nothing of the examples is "
        "left, and says nothing of attacks that were not run."
    ),
    "D": (
        "The procedure was applied only: the steps below were carried out, and nothing was "
        "measured of what the unlearned model still holds of the examples."
    ),
}
"""What each level claims, and what it does not."""

OUTCOMES = {
    "retrained": "The delivered model was trained without the examples.",
    "within_bounds": (
        "The delivered model was unlearned, and keeps every bound that was set beforehand."
    ),
    "inconclusive": (
        "The delivered model was unlearned, and misses no bound that was set beforehand, but at "
        "least one of them could not be measured."
    ),
    "applied": "The delivered model was unlearned, and nothing was measured.",
    "refused": (
        "The unlearned model misses a bound and is not delivered: the delivered model is the one "
        "from before, which still holds whatever it held of the examples."
    ),
}
"""What can come of a batch."""

DOES_NOT_PROVE = (
    "That nothing of the examples is left in the delivered model: evidence from attacks can show "
    "that something is left, and never that nothing is.",
    "That the examples are forgotten where a p-value is above 0.05: that test, on so many "
    "examples, found no difference.",
    "Anything about other places than the delivered model: data, copies, logs, earlier models and "
    "what was made from them are outside this document, except what it lists as derived.",
    "That a law is satisfied: that is for others to say.",
)
"""What no certificate proves."""

RETRAINED_AGAIN = (
    "This certificate is about the delivered model of this digest alone, and ends when that model "
    "is trained again, in whole or in part."
)
"""Until when a certificate holds."""

FORBIDDEN = re.compile(
    r"""(?<![\w/\\.'"-])"""
    r"(deleted|erased|compliant|compliance|complies|certified|guaranteed?|guarantees)"
    r"""(?![\w/\\'"-]|\.\w)""",
    re.IGNORECASE,
)
"""Words that claim more than can be known, unless they are quoted or in the path of a file."""
SPOKEN = (
    "claim",
    "copies",
    "cost",
    "touched",
    "evidence",
    "gate",
    "calibration",
    "not_tested",
    "does_not_prove",
    "retrained_again",
)
"""Fields in which these words may not be; in others they may be names that somebody has given."""


def certificate(
    *,
    batch: int,
    requests: Sequence[Any],
    data_before: Any,
    data_after: Any,
    original: Any,
    delivered: Any,
    recipe: Mapping[str, Any] | None,
    steps: Sequence[Any],
    seeds: Mapping[str, Any],
    versions: Mapping[str, Any],
    hardware: Mapping[str, Any],
    cost: Any,
    touched: Mapping[str, str],
    level: str,
    evidence: Sequence[Any],
    gate: Any,
    calibration: Sequence[Any],
    derived: Sequence[Any],
    not_tested: Sequence[str],
    log_head: str,
    retrained_again: str = RETRAINED_AGAIN,
    candidate: Any = None,
    copies: Any = None,
    issued: str | None = None,
) -> dict[str, Any]:
    """Makes a certificate, without a signature.

    Args:
      batch: its number in the log.
      requests: `RequestRecord`s, without `count` too; here and below mappings of the same fields
        will do for records.
      data_before: `DataRecord` of D.
      data_after: `DataRecord` of R.
      original: `ModelRecord` of the model before unlearning.
      delivered: `ModelRecord` of the model that is delivered from now on.
      recipe: how the original model was trained, or None if nobody knows.
      steps: `StepRecord`s in their order.
      seeds: what was drawn at random, and from which seeds.
      versions: of programs.
      hardware: what it ran on.
      cost: `CostRecord`.
      touched: what was used of "R" and "V", and for what.
      level: of the claim, see `LEVELS`.
      evidence: `EvidenceRecord`s.
      gate: `GateRecord`; None only where nothing was to be measured, at levels A and D.
      calibration: `CalibrationRecord`s.
      derived: `DerivedRecord`s of all else that was made from the examples.
      not_tested: sentences.
      log_head: hash of the last line of the log.
      retrained_again: until when the certificate holds.
      candidate: `ModelRecord` of the model that the gate refused.
      copies: `CopiesRecord`.
      issued: when, ISO 8601; by default now.

    Returns:
      The document, JSON-like: what `Certificate` says, and its hash.

    Raises:
      InvalidInputError: fields that are absent, unknown, of another type, or contradict each other,
        or sentences that claim too much.
    """
    check_choice("claim level", level, LEVELS)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    document = {
        "kind": KIND,
        "version": VERSION,
        "issued": issued or now,
        "batch": batch,
        "level": level,
        "claim": LEVELS[level],
        "requests": [_counted(canonical.plain(request)) for request in requests],
        "data_before": data_before,
        "data_after": data_after,
        "copies": copies or {},
        "original": original,
        "delivered": delivered,
        "candidate": candidate,
        "recipe": recipe,
        "steps": steps,
        "seeds": seeds,
        "versions": versions,
        "hardware": hardware,
        "cost": cost,
        "touched": touched,
        "evidence": evidence,
        "gate": gate,
        "calibration": calibration,
        "derived": derived,
        "not_tested": not_tested,
        "does_not_prove": DOES_NOT_PROVE,
        "retrained_again": retrained_again,
        "log_head": log_head,
    }
    document = filled(Certificate, canonical.plain(document, "certificate"))
    document["outcome"] = _outcome(level, document["gate"])
    document["content_sha256"] = canonical.sha256(_content(document))
    if wrong := problems(document):
        raise InvalidInputError(f"certificate: {'; '.join(wrong)}")
    return document


def problems(document: Any, public_key: str | None = None) -> list[str]:
    """Lists what is wrong with a certificate, as far as it shows by itself; never raises.

    Args:
      document: from `certificate`, or `read` from a file.
      public_key: of whom it must be signed by, see `rumjax.lab.forgetting.signing`.

    Returns:
      Sentences; none if all its fields are there, agree with each other and with its hash, and the
      signature holds if it has one.
    """
    # Its form: what follows relies on it.
    try:
        if wrong := mistakes(Certificate, document):
            return wrong
        wrong = _contradictions(document)
        if canonical.sha256(_content(document)) != document["content_sha256"]:
            wrong.append("it was changed: its content_sha256 is of other contents")
        return wrong + signing.verify(document, public_key)
    except RecursionError:
        return ["it has too many levels"]


def read(text: str) -> dict[str, Any]:
    """Returns the document of a certificate's text, whatever is wrong with it: see `problems`.

    Raises:
      InvalidInputError: it is no JSON object.

    Examples:
      >>> problems(read('{"kind": "note"}'))[0]
      "kind: wanted 'rumjax certificate of unlearning', got 'note'"
    """
    try:
        document = canonical.parsed(text)
        if not isinstance(document, dict):
            raise ValueError(f"it is {type(document).__name__}, not an object")
    except ValueError as error:
        raise InvalidInputError(f"certificate: it cannot be read ({error})") from error
    return document


def _outcome(level: str, gate: Any) -> str:
    """Returns what came of a batch, by its claim level and the bounds of the gate."""
    if gate is None:
        return {"A": "retrained", "D": "applied"}.get(level, "")
    if not isinstance(gate, Mapping) or not gate.get("passed"):
        return "refused"
    if level in "AD":
        return "retrained" if level == "A" else "applied"
    bounds = [bound.get("passed") for bound in gate.get("bounds", ())]
    return "within_bounds" if bounds and all(bounds) else "inconclusive"


def _contradictions(document: Mapping[str, Any]) -> list[str]:
    """Lists which fields of a document of the right form contradict each other."""
    wrong = []
    gate, level = document["gate"], document["level"]
    if gate is None and level in "BC":
        wrong.append(f"level {level} needs a gate")
    elif document["outcome"] != _outcome(level, gate):
        wrong.append(f"outcome {document['outcome']!r} is not that of its level and gate")
    if document["claim"] != LEVELS[level]:
        wrong.append(f"claim is not that of level {level}")
    if missing := [line for line in DOES_NOT_PROVE if line not in document["does_not_prove"]]:
        wrong.append(f"does_not_prove leaves out: {missing[0]}")
    if not document["requests"]:
        wrong.append("it is about no request")
    for request in document["requests"]:
        if request["count"] != len(request["examples"]) or not request["count"]:
            wrong.append(f"request {request['id']!r} does not have as many examples as it counts")
    for row in document["evidence"]:
        ends = (row["low"], row["high"])
        if None not in ends and ends[0] > ends[1]:
            wrong.append(f"evidence {row['name']!r} has an interval that ends before it begins")

    # Bounds are what their numbers say.
    bounds = gate["bounds"] if gate else []
    for bound in bounds:
        if bound["passed"] != _passed(bound):
            wrong.append(f"bound {bound['name']!r} says something else than its numbers")
    if gate and gate["passed"] != all(bound["passed"] is not False for bound in bounds):
        wrong.append("the gate says something else than its bounds")
    refused, candidate = document["outcome"] == "refused", document["candidate"]
    if refused != (candidate is not None):
        wrong.append("candidate must be the model that the gate refused, if it refused one")
    elif candidate and candidate["digest"] == document["delivered"]["digest"]:
        wrong.append("the model that the gate refused is delivered")

    # Sentences claim no more than can be known.
    spoken = [text for field in SPOKEN for text in _texts(document[field])]
    spoken += [derived["what"] for derived in document["derived"]]
    words = sorted({match[0].lower() for text in spoken for match in FORBIDDEN.finditer(text)})
    return wrong + [f"it says {word!r}, which nobody can know" for word in words]


def _passed(bound: Mapping[str, Any]) -> bool | None:
    """Says whether a number keeps its bound; None if it was not measured."""
    value, limit = bound["value"], bound["bound"]
    if value is None:
        return None
    return bool(value <= limit if bound["rule"] == "at most" else value >= limit)


def _texts(value: Any) -> list[str]:
    """Returns all texts in a JSON-like value, keys too."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for one in pair for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _counted(request: Any) -> Any:
    """Returns a request with the number of its examples."""
    if not isinstance(request, Mapping) or not isinstance(request.get("examples"), list):
        return request
    return {"count": len(request["examples"]), **request}


def _content(document: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the hash of a document is of: all but itself and the signature."""
    left_out = ("content_sha256", signing.SIGNATURE)
    return {name: value for name, value in document.items() if name not in left_out}


# Hashes of examples


def new_salt() -> str:
    """Draws a salt, 64 hexadecimal digits, which is kept beside the log and published nowhere."""
    return secrets.token_hex(32)


def salted(sha256: str, salt: str) -> str:
    """Returns the hash by which a certificate calls an example.

    Without the salt nobody can tell which image it is of, even if he has all images. To the person
    whose image it is, `opening` of this one example shows it, and shows nothing of the others.

    Args:
      sha256: of the example, see `rumjax.data.hashes`.
      salt: from `new_salt`.

    Examples:
      >>> salted("ab", "1") == salted("ab", "1"), salted("ab", "1") == salted("ab", "2")
      (True, False)
      >>> salted("ab", "1") == committed("ab", opening("ab", "1"))
      True
    """
    return committed(sha256, opening(sha256, salt))


def opening(sha256: str, salt: str) -> str:
    """Returns what shows that a salted hash is of an example, and of no use for any other.

    Args:
      sha256: of the example.
      salt: from `new_salt`.
    """
    return hmac.new(salt.encode(), sha256.encode(), hashlib.sha256).hexdigest()


def committed(sha256: str, opened: str) -> str:
    """Returns the salted hash of an example by its own `opening`."""
    return hashlib.sha256(f"example {opened} {sha256}".encode()).hexdigest()


def manifest(hashes: Collection[str], salt: str = "") -> str:
    """Returns one hash of a data set, whatever the order of its examples.

    Args:
      hashes: SHA-256 of all examples, copies too, see `rumjax.data.hashes`.
      salt: from `new_salt`; without one, whoever has the data can find by two manifests which few
        examples went.

    Examples:
      >>> manifest(["ab", "cd"]) == manifest(["cd", "ab"]), manifest(["ab"]) == manifest(["ab"] * 2)
      (True, False)
    """
    total = hmac.new(salt.encode(), f"manifest of {len(hashes)}\n".encode(), hashlib.sha256)
    total.update("\n".join(sorted(map(str, hashes))).encode())
    return total.hexdigest()
