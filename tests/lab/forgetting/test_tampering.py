"""What was changed since a certificate was written is found, each change by itself."""

import json

import pytest

from rumjax.lab.forgetting import canonical, signing
from rumjax.lab.forgetting.certificate import _content
from tests.lab.forgetting import offices

pytest.importorskip("cryptography")

pytestmark = [
    # Threads and coroutines that Orbax leaves behind when it fails complain of each other.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="module")
def signed(foreign, tmp_path_factory):
    """A directory with a signed batch, and another one of the same requests."""
    folder = tmp_path_factory.mktemp("signed")
    for name in ("key", "other"):
        (folder / f"{name}.public").write_text(signing.generate_key(folder / f"{name}.pem"))
    requests = offices.asked(folder / "requests.csv", r1=[5, 3])
    for name in ("work", "tw#in ü"):
        key = f"--sign={folder / 'key.pem'}"
        assert offices.start(foreign / "foreign.py", requests, folder / name, key) == 0
    return folder


@pytest.fixture
def work(signed, tmp_path):
    return offices.copied(signed / "work", tmp_path / "work")


def check(work, capsys, name, *arguments):
    """The command exits with 1, and says of a check that it does not hold; returns its words."""
    capsys.readouterr()
    assert offices.verify(work, 1, *arguments) == 1
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if line)
    assert lines[name] != "holds"
    assert not lines[name].startswith("not checked")
    return lines[name]


def rewrite(path, change):
    """Changes a JSON file."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_nothing_was_changed(work, signed):
    assert offices.verify(work, 1) == 0
    public = (signed / "key.public").read_text()
    assert offices.verify(work, 1, f"--signed-by={public}") == 0


@pytest.mark.parametrize("place", range(3))
def test_a_line_of_the_log(work, capsys, place):
    path = work / "requests/log.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    with offices.changed(path, lambda text: text.replace(b'"r1"', b'"r2"', place + 1)):
        assert "it was changed" in check(work, capsys, "log")
    path.write_text("".join(lines[:place] + lines[place + 1 :]))
    if place < 2:
        check(work, capsys, "log")
    else:  # the one that the certificate cannot know
        assert "says nothing of a result" in check(work, capsys, "entry in the log")


def test_bytes_of_the_delivered_model(work, capsys):
    folder = work / "requests/checkpoints/delivered_batch_0001"
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths[::4]:
        with offices.changed(path, offices.flipped):
            check(work, capsys, "delivered model")
    (path, *_) = (folder / "0/variables/d").iterdir()
    path.unlink()
    check(work, capsys, "delivered model")


def test_the_model_that_is_served(signed, work, capsys):
    # The log is written anew by whoever puts the original model back.
    (path,) = (work / "requests/batch_0001").glob("model*")
    with offices.changed(path, offices.flipped):
        assert check(work, capsys, "model in its own format") == "its bytes are others"
    rewrite(work / "requests/delivered.json", lambda pointer: pointer.update(sha256="0" * 64))
    assert "was changed" in check(work, capsys, "which model is delivered")


def test_how_its_images_are_normalized(foreign, work, capsys, tmp_path):
    base = work / "requests/base.json"
    rewrite(base, lambda numbers: numbers.update(mean=[0.9]))
    assert "is not what it was" in check(work, capsys, "first model")
    more = offices.asked(tmp_path / "more.csv", r2=[7])
    assert offices.start(foreign / "foreign.py", more, work) == 1
    assert "is not what it was" in capsys.readouterr().err
    base.unlink()
    check(work, capsys, "first model")


def test_another_model_in_its_place(work, capsys):
    checkpoints = work / "requests/checkpoints"
    offices.shutil.rmtree(checkpoints / "delivered_batch_0001")
    check(work, capsys, "delivered model")
    offices.copied(checkpoints / "brought", checkpoints / "delivered_batch_0001")
    assert check(work, capsys, "delivered model") == "its bytes are others"


def test_bytes_of_the_model_before(work, capsys):
    (path, *_) = (work / "requests/checkpoints/brought/0/variables").glob("d/*")
    with offices.changed(path, offices.flipped):
        check(work, capsys, "model before")


def test_a_byte_of_the_exported_model(work, capsys):
    path = work / "requests/batch_0001/model.msgpack"
    with offices.changed(path, offices.flipped):
        check(work, capsys, "model in its own format")
    path.unlink()
    check(work, capsys, "model in its own format")


CHANGES = {
    "level": lambda document: document.update(level="A"),
    "evidence": lambda document: document["evidence"][0].update(value=0.123),
    "digest": lambda document: document["delivered"].update(digest="0" * 64),
    "not tested": lambda document: document["not_tested"].pop(),
    "request": lambda document: document["requests"][0].update(id="r9"),
    "example": lambda document: document["requests"][0]["examples"].reverse(),
    "bound": lambda document: document["gate"]["bounds"][0].update(bound=0.5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_field_of_the_certificate(work, capsys, change):
    path = work / "requests/batch_0001/certificate.json"
    rewrite(path, change)
    assert "it was changed" in check(work, capsys, "certificate")

    # With another hash of its contents, and without the signature that would not hold.
    def seal(document):
        document["signature"] = None
        document["content_sha256"] = canonical.sha256(_content(document))

    rewrite(path, seal)
    log = dict(line.split(": ", 1) for line in _said(work, capsys))
    assert log.get("entry in the log") == "the log speaks of another certificate" or (
        log["certificate"] != "holds"
    )


def _said(work, capsys):
    assert offices.verify(work, 1) == 1
    return capsys.readouterr().out.splitlines()


def test_signed_with_another_key(work, signed, capsys):
    path = work / "requests/batch_0001/certificate.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(signing.sign(document, signed / "other.pem")))
    assert "the log says that it was signed by" in check(work, capsys, "entry in the log")
    key = f"--signed-by={(signed / 'key.public').read_text()}"
    assert "signed with another key" in check(work, capsys, "certificate", key)
    rewrite(path, lambda document: document.update(signature=None))
    assert "the log says that it was signed by" in check(work, capsys, "entry in the log")
    assert "it is not signed" in check(work, capsys, "certificate", key)


def test_what_the_page_shows(work, capsys):
    path = work / "requests/batch_0001/certificate.html"
    with offices.changed(path, lambda text: text.replace(b"r1", b"r2")):
        check(work, capsys, "page")


@pytest.mark.parametrize("name", ["sha256", "rows", "named", "deadlines", "settings"])
def test_what_was_asked_for(work, capsys, name):
    def change(asked):
        asked[name] = asked[name][1:] if isinstance(asked[name], list) else {}

    rewrite(work / "requests/batch_0001/requests.json", change)
    check(work, capsys, "requests and configuration")


def test_the_configuration_of_the_batch(work, capsys):
    path = work / "requests/batch_0001/config.json"
    rewrite(path, lambda config: config["forgetting"].update(validation_drop=0.5))
    check(work, capsys, "requests and configuration")


def test_how_it_was_made(work, capsys):
    def change(choice):
        choice["form"]["select"]["all"]["learning_rate"] = 0.03

    rewrite(work / "requests/batch_0001/choice.json", change)
    assert check(work, capsys, "model made again") == "its bytes are others"


def test_another_salt(work, capsys):
    path = work / "requests/salt.json"
    with offices.changed(path, lambda _: json.dumps({"salt": "0" * 64}).encode()):
        check(work, capsys, "examples")
    path.unlink()
    assert "salt.json is not there" in check(work, capsys, "examples")
    assert not path.exists()


def test_what_is_forgotten(work, capsys):
    path = work / "requests/forgotten.csv"
    path.write_text("sha256\n")
    assert "forgotten.csv was changed" in check(work, capsys, "what is forgotten")
    path.unlink()
    check(work, capsys, "what is forgotten")


def test_a_certificate_of_another_directory(work, signed, capsys):
    other = offices.copied(signed / "tw#in ü", work.parent / "tw#in ü")
    path = "requests/batch_0001/certificate.json"
    (work / path).write_bytes((other / path).read_bytes())
    # Its log is another one, unless both were written in the same seconds.
    same = (work / "requests/log.jsonl").read_text().splitlines()[:2]
    twin = (other / "requests/log.jsonl").read_text().splitlines()[:2]
    check(work, capsys, "entry in the log" if same == twin else "log")
    assert offices.forget.main([f"--verify={work / path}", f"--workdir={signed / 'tw#in ü'}"]) == 0
