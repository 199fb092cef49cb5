"""Files of examples to forget: text, tables, arrays, masks, and the forget set of a run."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rumjax import data, forget_sets
from rumjax.errors import InvalidInputError
from rumjax.forget_sets import ForgetSet
from rumjax.lab.results import write_forget_set
from rumjax.lab.workdir import WorkDirectory
from rumjax.listings import read_listed
from rumjax.types import Dataset, Origin, Splits

RANDOM = np.random.default_rng(3)
SIZE = 300
IMAGES = RANDOM.integers(0, 256, (SIZE, 3, 3, 1)).astype(np.uint8)
LABELS = RANDOM.permutation(np.arange(SIZE) % 3)
WANTED = [3, 50, 120, 200, 250]
"""rows of the source, of which D has other positions"""


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """A user's file, of which a tenth is held out, though none that is wanted."""
    path = tmp_path_factory.mktemp("own") / "own.npz"
    arrays = {"train_images": IMAGES, "train_labels": LABELS}
    np.savez(path, **arrays, test_images=255 - IMAGES[:9], test_labels=LABELS[:9])
    return data.load("npz", data_dir=path, keep=WANTED)


def pixels(splits, parts):
    return {name: splits.train.images[part].tolist() for name, part in parts.items()}


def write(path, content):
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    return path


MASK = np.isin(np.arange(SIZE), WANTED)
ALL = {"file": WANTED}


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("ids.txt", "3\n50\n120\n200\n250\n", ALL),
        ("ids.txt", "\ufeff# asked for on Monday\n\n250\n3 # the first\n50\n200\n120", ALL),
        ("ids.txt", "3, 50, 120, 200, 250", ALL),
        ("ids.txt", "3.0\n50.0\n120.0\n200.0\n250.0\n", ALL),
        ("ids.csv", "row\n3\n50\n120\n200\n250\n", ALL),
        ("ids.csv", ",index,age\n0,3,1\n1,50,1\n2,120,1\n3,200,1\n4,250,1\n", ALL),
        (
            "ids.tsv",
            "part\trow\na\t3\nb\t50\na\t120\nb\t200\nb\t250",
            {"a": [3, 120], "b": [50, 200, 250]},
        ),
        ("ids.csv", "index,row\n0,3\n1,50\n2,120\n3,200\n4,250\n", ALL),
        ("ids.csv", 'row,note\n3,"see #12, urgent"\n50,x\n120,y\n200,"a\nb"\n250,z\n,\n', ALL),
        ("ids.csv", '"row"\r\n"3"\r\n"50"\r\n"120"\r\n"200"\r\n"250"\r\n', ALL),
        ("ids.csv", "row,forget\n3,True\n50,yes\n51,False\n120,1\n200,1\n250,1\n", ALL),
        ("ids.csv", "row,split\n3,train\n50,train\n120,train\n200,train\n250,train\n", ALL),
        ("ids.csv", 'row, part\n3, "b"\n50,\n', {"b": [3], "file": [50]}),
        ("ids.csv", "sep=;\nrow;part\n3;a\n50;a\n", {"a": [3, 50]}),
        ("ids.txt", "3 50 120 200 250", ALL),
        ("ids.txt", "3.000e+00\n5.000e+01\n1.200e+02\n200\n250\n", ALL),
        ("ids.npz", {"row": WANTED}, ALL),
        ("ids.npz", {"rows": WANTED, "labels": LABELS[WANTED]}, ALL),
        ("ids.npy", WANTED, ALL),
        ("ids.npy", np.array(WANTED, float), ALL),
        ("ids.npy", np.array(WANTED)[:, None], ALL),
        ("ids.npy", np.array(list(map(str, WANTED))), ALL),
        ("ids.npy", MASK, ALL),
        ("ids.npz", {"mine": [250, 3], "other": [50]}, {"mine": [3, 250], "other": [50]}),
        ("ids.npz", {"forget": WANTED}, ALL),
        ("ids.npz", {"mask": MASK}, {"mask": WANTED}),
    ],
)
def test_every_kind_of_file_forgets_the_images_it_names(splits, tmp_path, name, content, parts):
    read = forget_sets.from_file(write(tmp_path / name, content), splits)
    assert pixels(splits, read) == {part: IMAGES[rows].tolist() for part, rows in parts.items()}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_text_tables_and_arrays_agree_on_any_rows(splits, tmp_path_factory, drawn):
    own = splits.origin("train").rows.tolist()
    rows = drawn.draw(st.lists(st.sampled_from(own), min_size=1, max_size=40, unique=True))
    hashes = data.hashes(Dataset(IMAGES[rows], LABELS[rows])).tolist()
    folder = tmp_path_factory.mktemp("files")
    files = [
        write(folder / "a.txt", "\n".join(map(str, rows))),
        write(folder / "b.csv", "\n".join(["sha256", *hashes])),
        write(
            folder / "c.csv",
            "\n".join(["hash,row", *(f"{h},{r}" for h, r in zip(hashes, rows, strict=True))]),
        ),
        write(folder / "d.npy", np.array(hashes)),
        write(folder / "e.npz", {"mine": np.array(rows)}),
    ]
    for file in files:
        read = forget_sets.from_file(file, splits)
        (only,) = read.values()
        np.testing.assert_array_equal(splits.train.images[only], IMAGES[sorted(rows)])


def test_the_forget_set_of_a_run_is_understood_by_another_with_other_images_held_out(
    splits, tmp_path
):
    chosen = ForgetSet.of(forget_sets.from_examples(splits, WANTED), len(splits.train.labels))
    with WorkDirectory(tmp_path) as work:
        write_forget_set(work, chosen, splits)
    everything = Dataset(IMAGES, LABELS)
    other = Splits("other", 3, ("0", "1", "2"), everything, splits.validation, splits.test)
    for name in ("forget_sets.npz", "forget_sets.csv"):
        for others in (splits, other):
            read = forget_sets.from_file(tmp_path / name, others)
            assert pixels(others, read) == {"examples": IMAGES[WANTED].tolist()}

    # In other data the same rows are other images.
    shuffled = Dataset(IMAGES[::-1], LABELS[::-1])
    strange = Splits("strange", 3, ("0", "1", "2"), shuffled, splits.validation, splits.test)
    for name in ("forget_sets.npz", "forget_sets.csv"):
        with pytest.raises(InvalidInputError, match="is another image than its sha256 says"):
            forget_sets.from_file(tmp_path / name, strange)


def test_the_table_of_a_run_says_what_its_indices_mean(splits, tmp_path):
    chosen = ForgetSet.of(forget_sets.from_examples(splits, WANTED), len(splits.train.labels))
    with WorkDirectory(tmp_path) as work:
        write_forget_set(work, chosen, splits)
    with open(tmp_path / "forget_sets.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["row"]) for line in lines] == WANTED
    assert [line["class"] for line in lines] == [str(LABELS[row]) for row in WANTED]
    wanted = data.hashes(Dataset(IMAGES[WANTED], LABELS[WANTED])).tolist()
    assert [line["sha256"] for line in lines] == wanted
    with np.load(tmp_path / "forget_sets.npz") as arrays:
        assert arrays["source_rows"][arrays["forget"]].tolist() == WANTED
        assert str(arrays["source"]) == "npz"


def test_names_of_files_and_of_classes_are_understood(splits, tmp_path):
    names = np.array([f"train/{label}/{row}.png" for row, label in enumerate(LABELS)])
    origin = Origin("train", SIZE, splits.origin("train").rows, names)
    named = splits._replace(
        origins={**splits.origins, "train": origin}, class_names=("ant", "bee", "cat")
    )
    path = write(tmp_path / "names.txt", "\n".join(names[WANTED]))
    assert pixels(named, forget_sets.from_file(path, named)) == {"file": IMAGES[WANTED].tolist()}
    both = write(
        tmp_path / "both.csv", "\n".join(["file,row", *(f"{names[row]},{row}" for row in WANTED)])
    )
    assert pixels(named, forget_sets.from_file(both, named)) == {"file": IMAGES[WANTED].tolist()}
    bees = forget_sets.from_file(write(tmp_path / "class.txt", "bee"), named)
    np.testing.assert_array_equal(bees["file"], np.flatnonzero(named.train.labels == 1))
    wrong = write(tmp_path / "wrong.csv", f"file,row\n{names[3]},50")
    with pytest.raises(InvalidInputError, match="row 50 is another image than its name says"):
        forget_sets.from_file(wrong, named)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", {"a": [0, SIZE]}, r"a: 1 of 2 .*300 \(outside 0…299"),
        ("a.npz", {"a": [-1]}, "outside 0…299"),
        ("a.npz", {"a": [3, 3]}, "named more than once"),
        ("a.npz", {"a": [3, 50], "b": [50]}, "all parts together: 1 duplicated"),
        ("a.npz", {"a": np.zeros(0, int)}, "no indices"),
        ("a.npz", {"a": [0.5]}, "0.5 is neither a row"),
        ("a.npz", {"a": [[1, 2]]}, r"of one dimension, got int64\[1, 2\]"),
        ("a.npz", {"a": MASK[:200]}, "a mask of 200 examples, but the source has 300"),
        ("a.npz", {}, "lists no example"),
        ("a.npz", {"forget": [3], "retain": [4]}, "nothing says which images are meant"),
        ("a.txt", "", "lists no example"),
        ("a.txt", "# nothing yet\n", "lists no example"),
        ("a.txt", "neither a number\nnor another\n", "no row, and this source has no names"),
        ("a.csv", "weight,age\n1,2\n", "has several columns"),
        ("a.csv", "3,50\n120,200\n", "has several columns, '3,50'; say in a first line"),
        ("a.csv", "part\nmine\n", "has no column row, name or sha256"),
        ("a.csv", "row,part\n3,a\n50\n", "a line with too few columns"),
        ("a.csv", "row\nthree\n", "'three' is no row"),
        ("a.npy", np.array([1 + 2j]), "is neither a row"),
        ("a.csv", "idx,index\n0,3\n1,50\n", "idx and index may both be the row"),
        ("a.csv", 'row,note\n3,"urgent\n50,x\n', "quotation marks"),
        ("a.csv", "row,split\n3,train\n50,test\n", "is of split 'test'"),
        ("a.csv", "row,forget\n3,perhaps\n", "says 'perhaps' under forget"),
        ("a.csv", f"row,label\n3,{(LABELS[3] + 1) % 3}\n", r"3 is of class \d .*, and not"),
        ("a.csv", "row,part\n3,retain\n", "'retain' is no name of a part"),
        ("a.csv", "row,part\n,mine\n", "part 'mine' names no example"),
        ("a.csv", "name\n3\n50\n", "this source has no names"),
        ("a.txt", "1,000", "may be one number"),
        ("a.npz", {"rows": WANTED, "seed": 0}, r"holds rows \[5\], seed \[\]"),
        ("a.npz", {"mine": WANTED, "seed": [0]}, "'seed' is no name of a part"),
        ("a.npz", {"mine": WANTED, "seed": 0}, "leave other arrays out"),
        (
            "a.npz",
            {
                "forget": [3],
                "retain": [4],
                "source_rows": [9],
                "forget_sha256": ["0" * 64],
            },
            "was changed since a run wrote it",
        ),
    ],
)
def test_files_that_name_no_examples_are_refused_by_place(splits, tmp_path, name, content, message):
    with pytest.raises(InvalidInputError, match=rf"{name}.*{message}"):
        forget_sets.from_file(write(tmp_path / name, content), splits)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.npz", None),
        ("absent.txt", None),
        ("words.npz", b"neither a number\nnor an archive\n"),
        ("damaged.npz", b"PK\x03\x04 and no more"),
        ("words.npy", b"neither a number\nnor an array\n"),
        ("empty.npy", b""),
        ("bytes.txt", b"\xff\xfe\x00"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=name):
        read_listed(tmp_path / name)


def test_names_that_are_numbers_or_classes_or_have_signs_in_them(splits, tmp_path):
    stems = [f"train/{'ab'[row % 2]}/{row if row > 9 else f'b #{row}'}.png" for row in range(SIZE)]
    stems[40] = "train/a/50.jpg"
    origin = splits.origin("train")._replace(names=np.array(stems))
    named = splits._replace(
        origins={**splits.origins, "train": origin}, class_names=("ant", "b", "cat")
    )

    def rows(text, name="file.csv"):
        read = forget_sets.from_file(write(tmp_path / name, text), named)
        return origin.rows[np.concatenate(list(read.values()))].tolist()

    assert rows("b #3.png") == [3]
    assert rows("image_id\n120\n200\n") == [120, 200]
    assert rows("C:\\data\\train\\a\\120.png") == [120]
    assert rows("b") == origin.rows[named.train.labels == 1].tolist()
    assert rows("class\ncat\n") == origin.rows[named.train.labels == 2].tolist()
    assert rows("row\n50\n") == [50]
    for text in ("50", "name\n50\n"):  # of a .jpg and a .png
        with pytest.raises(InvalidInputError, match="may mean several"):
            rows(text)
    with pytest.raises(InvalidInputError, match=r"did you mean 'train/b/b #3.png'"):
        rows("B #3.PNG")


@pytest.mark.parametrize("path", [None, 5, [3], b"x", "", "~nobody-of-this-name/x", "a\0b"])
def test_what_is_no_path_is_refused(splits, path):
    with pytest.raises(InvalidInputError, match="cannot be read"):
        forget_sets.from_file(path, splits)


def test_a_number_of_examples_is_no_data_set(tmp_path):
    path = write(tmp_path / "ids.txt", "3")
    with pytest.raises(InvalidInputError, match="wanted the data set of"):
        forget_sets.from_file(path, 270)
