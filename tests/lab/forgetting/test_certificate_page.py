"""The page of a certificate: it needs nothing else, says all, and no more than can be known."""

import html
import html.parser
import re

import pytest

from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting.certificate import DOES_NOT_PROVE, FORBIDDEN, LEVELS, OUTCOMES
from rumjax.lab.forgetting.page import page
from tests.lab.forgetting.made_up_certificates import made, refused

HOSTILE = "<script>alert(1)</script>\"'>&{{ 7*7 }}\u202egnp.exe\x00"


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and text, and checks that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], set(), [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.links += [(name, value) for name, value in attributes if name in ("src", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f" {data}" if self.open[-1:] != ["style"] else ""


def words(text):
    return " ".join(text.split())


@pytest.mark.parametrize("document", [made(), refused(), made(level="D", gate=None, evidence=[])])
def test_the_page_needs_nothing_else_and_claims_no_more_than_can_be_known(document):
    text = page(document)
    reader = Reader(text)
    assert reader.links == []
    assert not {"script", "link", "iframe", "object", "form"} & reader.tags
    assert not re.search(r"https?:|url\(|@import", text)
    assert not FORBIDDEN.search(text)
    assert "@page { size: A4" in text
    assert "prefers-color-scheme: dark" in text
    assert "None" not in reader.text


def test_the_page_says_all_that_the_document_does():
    document = made(copies={"identical": 2, "similar": 3, "note": "By embedding."})
    text = words(Reader(page(document)).text)
    for part in (
        OUTCOMES["within_bounds"],
        "Claim level C.",
        *(LEVELS["C"], *DOES_NOT_PROVE, *document["not_tested"], document["retrained_again"]),
        *("1 request, 2 examples", "r1", "2026-11-26T14:00:00+00:00"),
        *(document["original"]["digest"], "brought (orbax v0)", document["delivered"]["digest"]),
        *(document["data_before"]["manifest"], document["data_after"]["manifest"]),
        *(
            "exposed at 1 % false positives",
            "0.001 … 0.050",
            "0.400",
            "– 0.000 1.870 300",
            "Clopper–Pearson",
        ),
        *("accuracy on V", "kept", "at least 0.900", "p-values of V"),
        *("bank/00001.npz", "answers of a model of the bank"),
        *("salun", "epochs 2, threshold 0.00123456", "0.310, of 0.330 allowed; epochs"),
        *("Use of R trained on", "name sgd, learning_rate 0.1", "0.1.0"),
        *(document["content_sha256"], document["log_head"], *document["requests"][0]["examples"]),
        "2 identical, 3 similar. By embedding.",
    ):
        assert part in text, part


def test_the_page_says_which_bound_failed_by_how_much():
    text = words(Reader(page(refused())).text)
    assert "accuracy on V: 0.850, wanted at least 0.900, missed by 0.050" in text
    assert "Model refused" in text
    assert "of the unlearned model that was refused" in text
    assert "Unknown." in words(Reader(page(made(recipe=None))).text)


def test_hostile_names_are_shown_and_do_nothing():
    request = made()["requests"][0] | {"id": HOSTILE}
    document = made(
        requests=[request],
        original={"digest": "a", "path": HOSTILE, "about": HOSTILE},
        derived=[{"path": HOSTILE + "\udcff", "what": HOSTILE}],
        recipe={HOSTILE: {HOSTILE: HOSTILE}},
        steps=[made()["steps"][0] | {"options": {HOSTILE: [HOSTILE]}}],
    )
    text = page(document)
    reader = Reader(text)
    assert "script" not in reader.tags
    assert text.count("<script") == 0
    assert "{{ 7*7 }}" in reader.text
    assert "\\u202egnp.exe\\u0000" in reader.text
    assert not set(text) & {"\u202e", "\x00", "\udcff"}
    text.encode()


def test_no_page_is_made_of_a_certificate_that_does_not_hold():
    with pytest.raises(InvalidInputError, match="it was changed"):
        page(made() | {"batch": 2})


def test_the_text_is_escaped_html():
    text = page(made(not_tested=["a < b & c"]))
    assert html.escape("a < b & c") in text
