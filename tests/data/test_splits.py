"""Validation sets: exact counts of every class, the same for the same seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax.data import checked, stratified_split
from rumjax.errors import InvalidInputError

IMAGES = np.zeros((3, 4, 5, 1), np.uint8)
LABELS = np.array([0, 1, 2])


@settings(deadline=None, max_examples=30)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0, 0.5, exclude_max=True),
    seed=st.integers(0, 2**32),
)
def test_split_is_a_partition_with_the_exact_count_of_every_class(labels, fraction, seed):
    labels = np.array(labels)
    stays, held_out = stratified_split(labels, fraction, seed=seed)
    assert sorted([*stays, *held_out]) == list(range(len(labels)))
    assert (np.diff(stays) > 0).all()
    assert (np.diff(held_out) > 0).all()
    for each in set(labels.tolist()):
        examples = labels.tolist().count(each)
        assert labels[held_out].tolist().count(each) == round(fraction * examples)


def test_a_tenth_of_cifar_10_is_500_of_every_class():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))
    stays, held_out = stratified_split(labels, 0.1, seed=0)
    assert np.bincount(labels[held_out]).tolist() == [500] * 10
    assert np.bincount(labels[stays]).tolist() == [4500] * 10


def test_half_an_example_goes_to_the_even_number():
    counts = [len(stratified_split(np.zeros(n, int), 0.5, seed=0)[1]) for n in (3, 5, 7)]
    assert counts == [2, 2, 4]


def test_the_same_seed_holds_out_the_same_and_another_seed_others():
    labels = np.repeat([0, 1], 50)
    again = [stratified_split(labels, 0.2, seed=3)[1] for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert not np.array_equal(again[0], stratified_split(labels, 0.2, seed=4)[1])


def test_every_example_is_held_out_by_some_seed():
    seen = {i for seed in range(60) for i in stratified_split(np.zeros(8, int), 0.25, seed=seed)[1]}
    assert seen == set(range(8))


def test_nothing_is_held_out_of_fraction_zero():
    stays, held_out = stratified_split(LABELS, 0, seed=0)
    assert stays.tolist() == [0, 1, 2]
    assert held_out.tolist() == []


def test_a_class_may_not_lose_all_its_examples():
    with pytest.raises(InvalidInputError, match="class 7 without training examples"):
        stratified_split(np.array([1] * 20 + [7]), 0.9, seed=0)


@pytest.mark.parametrize("fraction", [-0.1, 1, 2, float("nan")])
def test_a_fraction_outside_zero_to_one_is_refused(fraction):
    with pytest.raises(InvalidInputError, match=r"wanted a number in \[0, 1\)"):
        stratified_split(LABELS, fraction, seed=0)


def test_a_negative_seed_is_refused():
    with pytest.raises(InvalidInputError, match="seed"):
        stratified_split(LABELS, 0.1, seed=-1)


def test_gray_images_get_a_channel_and_labels_become_int32():
    data = checked("here", IMAGES[..., 0], [2, 0, 1])
    assert data.images.shape == (3, 4, 5, 1)
    assert data.images.dtype == np.uint8
    assert data.labels.dtype == np.int32
    assert data.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (IMAGES + np.eye(4, 5)[..., None], LABELS, 3, "got float64 in 0…1; scale them"),
        (IMAGES[0, :, :, 0], LABELS, 3, r"got \[4, 5\]"),
        (IMAGES[:0], LABELS[:0], 3, r"at least one, got \[0, 4, 5, 1\]"),
        ([[[1]], [[1, 2]]], LABELS, 3, "ragged"),
        (IMAGES, LABELS[:2], 3, "3 images, but 2 labels"),
        (IMAGES, np.eye(3)[LABELS], 3, r"integer labels .*float64\[3, 3\]; one-hot .*argmax"),
        (IMAGES, LABELS / 2, 3, "integer labels"),
        (IMAGES, LABELS, 2, "1 labels are outside 0…1, the first is 2 of example 2"),
        (IMAGES, -LABELS, 3, "2 labels are outside 0…2, the first is -1 of example 1"),
        (IMAGES, LABELS * 2**40, None, "label 2199023255552 of only 3 examples"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused_by_place_and_reason(images, labels, classes, message):
    with pytest.raises(InvalidInputError, match=f"^here: .*{message}"):
        checked("here", images, labels, classes)
