"""Where the examples of requests are in D, and all that cannot be forgotten is listed at once."""

import numpy as np
import pytest

from rumjax import data
from rumjax.data.origins import hashes
from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting.requests import Request, copies_left, locate, requested_examples
from rumjax.types import Dataset, Origin, Splits

TIME = "2026-11-26T14:00:00+00:00"
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 3, 3, 1)).astype(np.uint8)
IMAGES[7] = IMAGES[3]
IMAGES[8] = IMAGES[3]
LABELS = np.arange(12) % 2
LABELS[8] = 1 - LABELS[3]
NAMES = np.array([f"train/{'cat' if row < 6 else 'dog'}/{row % 6}.png" for row in range(12)])
TRAIN, HELD_OUT = [11, 3, 5, 6, 7, 8, 9, 10], [0, 1, 2]


def part(rows):
    return Dataset(IMAGES[rows], LABELS[rows].astype(np.int32))


@pytest.fixture
def splits():
    """D has other positions than rows, row 4 is left out by limit, and rows 3, 7, 8 are alike."""
    test = Dataset(255 - IMAGES[:2], part([0, 1]).labels)
    return Splits(
        *("mine", 2, ("a", "b"), part(TRAIN), part(HELD_OUT), test),
        {
            "train": Origin("train", 12, np.array(TRAIN), NAMES),
            "validation": Origin("train", 12, np.array(HELD_OUT), NAMES),
            "test": Origin("test", 2, np.arange(2), np.array(["test/cat/x.png", "test/y.png"])),
        },
    )


def request(name, *examples, same=()):
    return Request(name, TIME, None, examples, same)


def sha(row):
    return hashes(part([row]))[0].item()


def refused(splits, *requests, forgotten=()):
    with pytest.raises(InvalidInputError) as error:
        locate(requests, splits, forgotten)
    return str(error.value)


def test_names_of_every_kind_are_found(splits):
    requests = [
        request("r1", ("row", 5), ("name", "dog/4.png"), ("any", "train/cat/3.png")),
        request("r2", ("sha256", sha(6)), ("any", 9), ("any", sha(11)), ("name", "dog/0.png")),
    ]
    located = locate(requests, splits)
    rows = {name: [TRAIN[place] for place in places] for name, places in located.items()}
    assert rows == {"r1": [3, 5, 10], "r2": [11, 6, 9]}
    assert all(places.dtype == np.int32 for places in located.values())


def test_names_on_one_line_must_agree(splits):
    alike = request("r1", ("row", 7), ("sha256", sha(7)), ("name", "dog/1.png"), same=((0, 1, 2),))
    assert TRAIN[locate([alike], splits)["r1"][0]] == 7
    other = request("r1", ("row", 5), ("name", "dog/1.png"), same=((0, 1),))
    assert "names of different examples on one line: 5 = 'dog/1.png' of request 'r1'" in refused(
        splits, other
    )


def test_everything_that_cannot_be_forgotten_is_listed_at_once(splits):
    message = refused(
        splits,
        request("r1", ("name", "cat/33.png"), ("row", 12), ("row", -1), ("row", 4), ("row", 5)),
        request("r2", ("name", "cat/0.png"), ("any", "x.png"), ("name", "3.png")),
        request("r3", ("sha256", sha(3)), ("sha256", "0" * 64), ("name", "train/cat/5.png")),
        request("r4", ("row", 6)),
        forgotten=[sha(6)],
    )
    assert "11 examples cannot be forgotten" in message
    for reason in (
        "no such name; did you mean 'train/cat/3.png'?: 'cat/33.png' of request 'r1'",
        "outside 0…11, the rows of the source's training images: 12 of request 'r1', -1 of",
        "left out by limit: 4 of request 'r1'",
        "held out for validation",
        "test images, on which no model is trained: 'x.png' of request 'r2'",
        "'3.png' may mean several examples",
        "several copies of one image and label; name them by their rows, 3, 7",
        "the SHA-256 of no image",
        "in several requests; leave it in one: 5 of request 'r1' and 'train/cat/5.png' of",
        "forgotten already, by an earlier batch: 6 of request 'r4'",
    ):
        assert reason in message, reason


def test_the_same_example_twice_in_one_request_is_one(splits):
    located = locate([request("r1", ("row", 5), ("name", "cat/5.png"))], splits)
    assert located["r1"].tolist() == [2]


def test_a_copy_of_a_forgotten_example_may_still_be_requested(splits):
    asked = request("r1", ("row", 7))
    assert locate([asked], splits, [sha(3)])["r1"].tolist() == [4]
    assert "forgotten already" in refused(splits, asked, forgotten=[sha(3), sha(7)])


def test_something_must_be_left(splits):
    by_class = request("r1", *(("row", row) for row in TRAIN if LABELS[row]))
    assert len(locate([by_class], splits)["r1"]) == int(LABELS[TRAIN].sum())
    rows = [("row", row) for row in TRAIN]
    assert "nothing is left" in refused(splits, request("a", *rows[:4]), request("b", *rows[4:]))
    assert "nothing is left" in refused(splits, request("a", *rows[1:]), forgotten=[sha(11)])


def test_one_id_is_one_request(splits):
    assert "id of several" in refused(splits, request("a", ("row", 5)), request("a", ("row", 6)))


def test_copies_are_found_whatever_their_label(splits):
    places = {row: place for place, row in enumerate(TRAIN)}
    assert copies_left(splits, np.array([places[5]])) == {}
    left = copies_left(splits, np.array([places[3], places[5]]))
    assert left == {places[3]: [places[7], places[8]]}
    left = copies_left(splits, np.array([places[8], places[3]]))
    assert left == {places[3]: [places[7]], places[8]: [places[7]]}


def test_requested_examples_are_kept_out_of_what_is_held_out():
    requests = [request("r1", ("row", 3), ("row", 5)), request("r2", ("row", 3), ("any", "x"))]
    assert requested_examples(requests) == [("row", 3), ("row", 5), ("any", "x")]
    rows = [name for _, name in requested_examples(requests[:1])]
    splits = data.load("fashion_mnist_mini", keep=rows)
    assert splits.origin("train").rows[locate(requests[:1], splits)["r1"]].tolist() == rows
