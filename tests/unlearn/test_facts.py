"""Facts that algorithms take from outside D, computed by hand."""

import jax
import numpy as np
import pytest

from rumjax.errors import InvalidInputError
from rumjax.models import predict
from rumjax.types import Dataset
from rumjax.unlearn.facts import (
    held_out_accuracy,
    held_out_probabilities,
    matched_error,
    mean_logits,
)
from tests.references.network import softmax


@pytest.fixture(scope="module")
def held_out(data):
    """Some of the data, some of it mislabelled."""
    labels = np.array(data.labels[:21])
    labels[::4] = (labels[::4] + 1) % 3
    return Dataset(data.images[:21], labels)


@pytest.fixture(scope="module")
def logits(plain_model, plain_original, held_out):
    return np.asarray(predict(plain_model, plain_original, held_out.images).logits, np.float64)


def test_accuracy_and_probabilities(plain_model, plain_original, held_out, logits):
    right = logits.argmax(1) == held_out.labels
    accuracy = held_out_accuracy(plain_model, plain_original, held_out)
    assert (accuracy.shape, accuracy.dtype) == ((), np.float32)
    assert 0 < float(accuracy) < 1
    assert float(accuracy) == pytest.approx(right.mean())
    shares = held_out_probabilities(plain_model, plain_original, held_out)
    assert (shares.shape, shares.dtype) == ((3, 3), np.float32)
    for label in range(3):
        expected = softmax(logits[held_out.labels == label]).mean(0)
        np.testing.assert_allclose(shares[label], expected, rtol=1e-5)


def test_the_error_is_weighted_as_the_classes_of_the_forget_set(
    plain_model, plain_original, held_out, logits
):
    wrong = logits.argmax(1) != held_out.labels
    by_class = np.array([wrong[held_out.labels == label].mean() for label in range(3)])
    for forgotten in ([0, 0, 1], [2], [0, 1, 2, 2]):
        error = matched_error(plain_model, plain_original, held_out, np.array(forgotten))
        assert float(error) == pytest.approx(by_class[forgotten].mean())

    # Weighted as the held-out images themselves, it is their error.
    error = matched_error(plain_model, plain_original, held_out, held_out.labels)
    assert float(error) == pytest.approx(wrong.mean())


def test_logits_are_averaged_over_models(plain_model, plain_original, data):
    other = jax.tree.map(lambda leaf: leaf * 0.5, plain_original)
    models = (plain_original, other)
    each = [predict(plain_model, one, data.images).logits for one in models]
    found = mean_logits(plain_model, iter(models), data, batch_size=16)
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=1e-5)
    with pytest.raises(InvalidInputError, match="there are no models"):
        mean_logits(plain_model, [], data)


def test_classes_without_held_out_images_are_refused_by_name(plain_model, plain_original, held_out):
    kept = held_out.labels != 1
    few = Dataset(held_out.images[kept], held_out.labels[kept])
    names = ("cat", "dog", "bird")
    with pytest.raises(InvalidInputError, match="none of class dog"):
        held_out_probabilities(plain_model, plain_original, few, class_names=names)
    with pytest.raises(InvalidInputError, match="none of class 1"):
        matched_error(plain_model, plain_original, few, np.array([1, 2]))
    assert float(matched_error(plain_model, plain_original, few, np.array([0, 2]))) >= 0
    with pytest.raises(InvalidInputError, match="wanted those of S"):
        matched_error(plain_model, plain_original, few, np.array([], np.int32))
    none = Dataset(held_out.images[:0], held_out.labels[:0])
    with pytest.raises(InvalidInputError, match="there are none; hold some out"):
        held_out_accuracy(plain_model, plain_original, none)
