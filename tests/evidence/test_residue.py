"""How near S is to R in the space of embeddings, among how near R is to itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rumjax.errors import InvalidInputError
from rumjax.evidence import neighbour_rank, residue
from tests.references import evidence as slow


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 12), st.integers(3, 5))
def test_ranks_are_what_loops_find(seed, count, others, size):
    # In the plane many cosines are 1 but for a rounding, and any two may or may not be tied.
    random = np.random.default_rng(seed)
    forget, unseen = random.normal(size=(2, count, size))
    retain = random.normal(size=(others, size))
    retain[0] = retain[-1]
    ours, theirs = neighbour_rank(forget, retain, unseen)
    assert ours.value == pytest.approx(slow.neighbour_rank(forget, retain))
    assert theirs.value == pytest.approx(slow.neighbour_rank(unseen, retain))
    assert (ours.null, ours.count) == (0.5, count)
    assert (count == 1) == np.isnan(ours.low)

    # Lengths and rotations are nothing, nor is the order.
    turn = np.linalg.qr(random.normal(size=(size, size)))[0]
    lengths = random.uniform(1e-3, 1e3, (count, 1))
    turned = neighbour_rank(lengths * forget @ turn, retain[::-1] @ turn, unseen[::-1] @ turn)
    np.testing.assert_allclose(turned, (ours, theirs))


def test_a_random_s_of_a_model_that_never_saw_it_ranks_a_half():
    random = np.random.default_rng(0)
    means, covered = [], 0
    for _ in range(60):
        ours, none = neighbour_rank(random.normal(size=(30, 5)), random.normal(size=(100, 5)))
        assert none is None
        means.append(ours.value)
        covered += ours.low <= 0.5 <= ours.high
    # The error of a mean of uniform numbers is 1/√(12n).
    assert np.mean(means) == pytest.approx(0.5, abs=0.03)
    assert np.std(means) == pytest.approx(1 / np.sqrt(12 * 30), rel=0.5)
    assert covered >= stats.binom.ppf(0.001, 60, 0.9)


def test_what_lies_near_or_far_is_found():
    random = np.random.default_rng(1)
    retain = random.normal(size=(200, 8))
    near = retain[:50] + 0.1 * random.normal(size=(50, 8))
    far = np.zeros((50, 8))
    far[:, 0] = -1
    around = np.abs(retain)
    assert neighbour_rank(near, retain)[0].low > 0.9
    assert neighbour_rank(far, around)[0].high < 0.1
    # A duplicate is as near as can be.
    assert neighbour_rank(retain[:5], retain)[0][:3] == (1.0, 1.0, 1.0)


def test_a_sample_of_r_is_near_all_of_it_and_depends_on_the_seed_alone():
    random = np.random.default_rng(2)
    forget, retain, unseen = (random.normal(size=(size, 5)) for size in (50, 600, 300))
    whole = neighbour_rank(forget, retain, unseen)
    part = neighbour_rank(forget, retain, unseen, most=200)
    assert part[0].value == pytest.approx(whole[0].value, abs=0.12)
    assert (part[0].count, part[1].count) == (50, 200)
    assert part == neighbour_rank(forget, retain, unseen, most=200) != whole
    assert part != neighbour_rank(forget, retain, unseen, most=200, seed=1)


def test_the_size_of_blocks_changes_nothing(monkeypatch):
    random = np.random.default_rng(3)
    given = [random.normal(size=(size, 5)) for size in (7, 30, 11)]
    whole = neighbour_rank(*given, most=20)
    monkeypatch.setattr(residue, "CELLS", 70)
    assert neighbour_rank(*given, most=20) == whole


def test_huge_tiny_and_empty_embeddings_have_a_direction_or_none():
    random = np.random.default_rng(4)
    forget, retain = random.normal(size=(5, 3)), random.normal(size=(40, 3))
    wanted = neighbour_rank(forget, retain)
    for scale in (1e30, 1e-30):
        given = [(scale * each).astype(np.float32) for each in (forget, retain)]
        np.testing.assert_allclose(neighbour_rank(*given)[0], wanted[0])
    # Of nothing but zeros: at a right angle to all.
    assert neighbour_rank(np.zeros((2, 3)), np.abs(retain))[0].value == 0
    assert neighbour_rank(forget, np.zeros((2, 3)))[0].value == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget_embeddings": np.zeros((0, 3))}, "forget_embeddings: wanted"),
        ({"forget_embeddings": np.zeros((2, 4))}, "forget_embeddings: of 4 numbers"),
        ({"forget_embeddings": np.zeros(3)}, "forget_embeddings: wanted"),
        ({"retain_embeddings": np.zeros((1, 3))}, "retain_embeddings: wanted"),
        ({"retain_embeddings": np.full((2, 3), np.nan)}, "not finite"),
        ({"unseen_embeddings": np.zeros((0, 3))}, "unseen_embeddings: wanted"),
        ({"most": 1}, "most"),
    ],
)
def test_embeddings_that_are_none_are_refused(change, message):
    given = {"forget_embeddings": np.ones((2, 3)), "retain_embeddings": np.ones((2, 3))}
    neighbour_rank(**given)
    with pytest.raises(InvalidInputError, match=message):
        neighbour_rank(**given | change)
