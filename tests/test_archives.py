"""Files of NumPy are read whole or refused, whatever is wrong with them."""

import io
import pathlib
import zipfile

import numpy as np
import pytest

from rumjax.archives import SINGLE, open_arrays, read_arrays
from rumjax.errors import InvalidInputError

ARRAYS = {"x": np.arange(24, dtype=np.float32), "y": np.zeros((0, 2), bool), "z": np.array("θ")}


def archive(**others):
    """The bytes of an .npz with these arrays, and members of other content."""
    file = io.BytesIO()
    np.savez_compressed(file, **ARRAYS)
    with zipfile.ZipFile(file, "a") as members:
        for name, content in others.items():
            members.writestr(name, content)
    return file.getvalue()


def single(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def patched(content, old, new):
    assert old in content
    return content.replace(old, new)


def directory_with(offset, value):
    """An .npz with another byte in the first entry of the directory at its end."""
    content = bytearray(archive())
    content[content.index(b"PK\1\2") + offset] = value
    return bytes(content)


WRONG = {
    "empty": b"",
    "text": b"1\n2\n3\n",
    "page": b"<!DOCTYPE html><html>not found</html>",
    "pickle": b"\x80\x04K\x01.",
    "zip of nothing known": b"PK and nothing else",
    "objects": single(np.array([{}, None], object), allow_pickle=True),
    "a header that lies": patched(single(np.zeros(3)), b"(3,)", b"(9,)"),
    "a header beyond all memory": patched(
        single(np.zeros(3)), b"(3,), }" + 11 * b" ", b"(999999999999,), }"
    ),
    "cut short": archive()[:-30],
    "half": archive()[: len(archive()) // 2],
    "a member of text": archive(readme=b"these are my scores"),
    "encrypted": directory_with(8, 1),
    "a compression of another kind": directory_with(10, 99),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("name", ["mine.npz", "mine.npy", "mine"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, kind, name):
    path = tmp_path / name
    path.write_bytes(WRONG[kind])
    with pytest.raises(InvalidInputError, match="cannot be read as") as raised:
        read_arrays(path, "scores")
    assert str(raised.value).startswith(f"scores: {path} ")
    assert "numpy.savez" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "path",
    ["none.npz", "folder", "file/x.npz", "a\0b", "~nobody-of-this-name/x", None, 7, "x" * 999],
)
def test_a_path_that_cannot_be_opened_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match=r"forget set: .* cannot be opened"):
        read_arrays(path, "forget set")


@pytest.mark.parametrize("name", ["mine.npz", "scores [old] *?.npz", "mine", "mine.npy"])
def test_what_is_whole_is_read_whatever_its_name(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(archive())
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / name, str(tmp_path / name), pathlib.PurePath("~", name)):
        arrays = read_arrays(path, "scores")
        assert arrays.keys() == ARRAYS.keys()
        for key, array in ARRAYS.items():
            np.testing.assert_array_equal(arrays[key], array, strict=True)
    (tmp_path / name).write_bytes(single([3, 1]))
    assert read_arrays(tmp_path / name, "scores")[SINGLE].tolist() == [3, 1]


def test_a_comment_at_the_end_is_no_damage(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(archive())
    with zipfile.ZipFile(path, "a") as members:
        members.comment = b"scores of 2020"
    assert read_arrays(path, "scores").keys() == ARRAYS.keys()


def test_an_array_is_read_when_it_is_asked_for(tmp_path):
    """The files of others hold arrays of gigabytes that nobody needs."""
    path = tmp_path / "mine.npz"
    path.write_bytes(archive(large=b"no array"))
    with open_arrays(path, "scores") as arrays:
        np.testing.assert_array_equal(arrays["x"], ARRAYS["x"])
        assert list(arrays) == [*ARRAYS, "large"]
        with pytest.raises(InvalidInputError, match="array 'large': it is a file of another kind"):
            arrays["large"]
        with pytest.raises(KeyError):
            arrays["none"]


def test_no_change_of_a_byte_ends_in_anything_else(tmp_path):
    """An array is then refused or right; names and dates may change."""
    content = archive()
    path = tmp_path / "mine.npz"
    for position in range(len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x11]) + content[position + 1 :]
        )
        try:
            arrays = read_arrays(path, "scores")
        except InvalidInputError:
            continue
        assert len(arrays) == len(ARRAYS)
        for key, array in arrays.items():
            if key in ARRAYS:
                np.testing.assert_array_equal(array, ARRAYS[key], strict=True)
