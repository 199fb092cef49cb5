"""The page on proxies of memorization, on made-up results whose answers are known."""

import math

import pytest

from rumjax.lab.report.studies import proxies as proxies_page
from tests.lab.report.made_up_studies import page_of, proxies, spread


def test_the_proxy_that_ranks_alike_comes_first():
    tow = {name: spread(0.8) for name in ("vanilla", "shuffle", "m", "c")} | {"e": spread(0.5)}
    made = proxies(tow)
    best, other = proxies_page.all_agreements(made)
    assert (best.name, best.seconds, other.name) == ("c_proxy", 2.0, "entropy")
    assert best.spearman.low > 0.9 > other.spearman.high
    claim = proxies_page.driven_claim(made, ["c_proxy", "entropy"])
    assert (claim.supporting, claim.contradicting) == (["entropy"], [])
    page = page_of(made)
    assert page.answers[0].startswith("Confidence ranks examples most like memorization does")
    assert "2 % of the seconds of the bank" in page.answers[0]
    assert "beyond chance, for entropy, and a higher one for none" in page.answers[1]
    first, second, last = page.tables[0].rows
    assert (first[0], second[0], last[0]) == ("confidence", "entropy", "memorization")
    assert first[3] > 0.5 > second[3]
    assert first[-1] == 0.02


def test_a_proxy_that_drove_a_run_that_diverged_is_compared_with_nothing():
    made = proxies({"m": spread(0.8), "c": [math.nan, 0.8, 0.8], "e": spread(0.5)})
    claim = proxies_page.driven_claim(made, ["c_proxy", "entropy"])
    assert claim.missing == ["confidence"]
    assert claim.effects["entropy"].value == pytest.approx(-0.3)
    answer = proxies_page.say_driven(claim)
    assert answer.endswith("There is no comparison for confidence.")
