"""The work directory in a bucket, here one in memory, and S3's of a server on this machine.

Models in gs:// are not: TensorStore writes their arrays by a client of its own.
"""

import ast
import inspect

import fsspec
import jax
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as registry
from fsspec.registry import known_implementations

from rumjax.errors import WorkDirectoryError
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Variables

URI = "gs://bucket/a run"


class Bucket(MemoryFileSystem):
    """Objects in memory, below names as gcsfs has them, with listings as old as it may have."""

    protocol = ("gs", "gcs", "s3")
    store: dict = {}  # noqa: RUF012 (fsspec's own way)
    pseudo_dirs = [""]  # noqa: RUF012
    trouble = None
    listed: dict = {}  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.split("://")[-1])

    def _look(self):
        if type(self).trouble is not None:
            raise type(self).trouble

    def info(self, path, **options):
        self._look()
        return super().info(path, **options)

    def glob(self, path, **options):
        self._look()
        return self.listed.setdefault(path, super().glob(path, **options))

    def invalidate_cache(self, path=None):
        self.listed.clear()

    def cat_file(self, path, **options):
        self._look()
        return super().cat_file(path, **options)

    def pipe_file(self, path, value, mode="overwrite", **options):
        self._look()
        super().pipe_file(path, value, mode, **options)

    def rm(self, path, **options):
        self._look()
        super().rm(path, **options)


@pytest.fixture
def bucket(monkeypatch):
    """Its objects: bytes by name."""
    for protocol in Bucket.protocol:
        monkeypatch.setitem(registry, protocol, Bucket)
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "trouble", None)
    Bucket.clear_instance_cache()
    return Bucket


@pytest.fixture
def work(bucket):
    with WorkDirectory(URI) as opened:
        yield opened


def objects(bucket):
    return {name.removeprefix("/"): file.getvalue() for name, file in bucket.store.items()}


def test_what_is_written_is_read_back_and_lies_in_the_bucket(work, bucket):
    work.write_text("deep/down/text.txt", "θ ↦ ü")
    work.write_json("value.json", {"a": [1, 2.5, None]})
    arrays = {"x": np.arange(3, dtype=np.int32), "y": np.float32(0.1), "z": np.zeros((0, 2), bool)}
    work.write_arrays("arrays.npz", arrays)
    assert work.read_json("value.json") == {"a": [1, 2.5, None]}
    assert work.read_json("none.json", missing=7) == 7
    found = work.read_arrays("arrays.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert objects(bucket).keys() == {
        f"bucket/a run/{name}" for name in ("deep/down/text.txt", "value.json", "arrays.npz")
    }
    assert objects(bucket)["bucket/a run/deep/down/text.txt"].decode() == "θ ↦ ü"
    assert str(work.path / "value.json") == f"{URI}/value.json"


def test_objects_are_found_by_name_and_pattern(work):
    for name in ("bank/00012.npz", "bank/00003.npz", "bank/bank.json", "bank2/00001.npz"):
        work.write_text(name, "")
    assert work.names("bank/[0-9]*.npz") == ["bank/00003.npz", "bank/00012.npz"]
    assert work.names("bank/0000?.npz") == ["bank/00003.npz"]
    assert work.names("bank*") == ["bank", "bank2"]
    assert work.names("none/*") == []
    assert work.has("bank/bank.json")
    assert work.has("bank")
    assert not work.has("ban")


def test_what_other_processes_write_and_delete_is_seen(work, bucket):
    with WorkDirectory(URI, holder="process1") as other:
        assert work.names("bank/*") == []
        other.write_text("bank/0.npz", "")
        assert work.names("bank/*") == ["bank/0.npz"]
        other.forget("bank/*", stages=())
        assert work.names("bank/*") == []


def test_forgetting_deletes_what_matches_and_what_is_recorded(work, bucket):
    work.claim({"original": 1, "unlearn/a": 1, "unlearn/b": 1})
    for name in ("checkpoints/original_seed0/0/deep/file", "rows/a_0.json", "rows/ab_0.json"):
        work.write_text(name, "")
    work.forget("rows/a_*", stages=("unlearn/a",))
    assert work.names("rows/*") == ["rows/ab_0.json"]
    assert work.read_json("stages.json") == {"original": 1, "unlearn/b": 1}
    work.forget("checkpoints/original_*", "none/*", stages=("original",))
    assert objects(bucket).keys() == {"bucket/a run/rows/ab_0.json", "bucket/a run/stages.json"}


def test_a_changed_configuration_is_refused(work):
    made = {"bank": ("bank/*",)}
    work.claim({"bank": {"models": 1}}, made)
    work.claim({"bank": {"models": 2}}, made)
    work.write_text("bank/0.npz", "")
    with pytest.raises(WorkDirectoryError, match="models: 2, now 3") as raised:
        work.claim({"bank": {"models": 3}}, made)
    assert URI in str(raised.value)


def test_a_model_is_there_when_orbax_says_so(work):
    """It writes in place, and marks the end."""
    work.write_text("checkpoints/model/0/variables/something", "")
    assert not work.has_model("model")
    work.write_text("checkpoints/model/0/commit_success.txt", "")
    assert work.has_model("model")


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text"])
def test_damaged_files_are_named(work, bucket, damage):
    work.write_json("value.json", {"a": 1})
    work.write_arrays("arrays.npz", {"x": np.arange(1000)})
    for name, read in (("value.json", work.read_json), ("arrays.npz", work.read_arrays)):
        content = bytearray(objects(bucket)[f"bucket/a run/{name}"])
        content[len(content) // 2] ^= 0xFF
        changed = {
            "empty": b"",
            "half": content[: len(content) // 2],
            "flipped": content,
            "text": b"not at all",
        }
        fsspec.filesystem("gs").pipe_file(f"{URI}/{name}", bytes(changed[damage]))
        with pytest.raises(WorkDirectoryError, match="is damaged") as raised:
            read(name)
        assert f"{URI}/{name}" in str(raised.value)
    with pytest.raises(WorkDirectoryError, match=r"a run/none\.npz is damaged"):
        work.read_arrays("none.npz")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_write_that_is_interrupted_leaves_the_old_object_and_nothing_else(work, bucket, error):
    work.write_text("a.txt", "old")
    before = objects(bucket)

    def write(name):
        with work.writing(name) as file:
            file.write(b"half of")
            raise error

    for name in ("a.txt", "b.txt"):
        with pytest.raises(error):
            write(name)
    assert objects(bucket) == before


@pytest.mark.parametrize(
    "trouble", [OSError("Forbidden: b/bucket"), RuntimeError("token\nexpired"), TimeoutError()]
)
def test_a_bucket_out_of_reach_is_reported_and_nothing_is_taken_for_missing(
    work, bucket, monkeypatch, trouble
):
    work.write_json("stages.json", {"original": 1})
    work.write_arrays("arrays.npz", {"x": np.zeros(3)})
    before = objects(bucket)
    monkeypatch.setattr(bucket, "trouble", trouble)
    uses = [
        lambda: work.has("stages.json"),
        lambda: work.has_model("model"),
        lambda: work.names("*"),
        lambda: work.read_json("stages.json", missing={}),
        lambda: work.read_arrays("arrays.npz"),
        lambda: work.write_text("stages.json", ""),
        lambda: work.write_arrays("new.npz", {"x": np.zeros(3)}),
        lambda: work.claim({"original": 2}),
        lambda: work.forget("*", stages=("original",)),
    ]
    for use in uses:
        with pytest.raises(WorkDirectoryError, match=r"could not be (reached|written)") as raised:
            use()
        assert str(raised.value).startswith(f"{URI}/")
        assert f"({type(trouble).__name__}: " in str(raised.value)
        assert "start again to go on from here" in str(raised.value)
        assert "\n" not in str(raised.value)
    assert objects(bucket) == before


def test_a_missing_bucket_is_empty_until_something_is_written(work, bucket, monkeypatch):
    monkeypatch.setattr(bucket, "trouble", FileNotFoundError("b/bucket/o"))
    assert work.names("*") == []
    assert not work.has("stages.json")
    assert work.read_json("stages.json", missing={}) == {}
    with pytest.raises(WorkDirectoryError, match="FileNotFoundError: b/bucket/o"):
        work.write_text("stages.json", "")


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("uri", ["az://bucket/run", "s3://bucket/run[1]", "gs://", "gs://a/*"])
def test_other_places_are_refused(uri):
    with pytest.raises(
        WorkDirectoryError, match="only gs://BUCKET/FOLDER and s3://BUCKET"
    ) as raised:
        WorkDirectory(uri)
    assert uri in str(raised.value)


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("s3", "s3")])
def test_a_missing_package_is_named(monkeypatch, scheme, extra):
    monkeypatch.delitem(registry, scheme, raising=False)
    monkeypatch.setitem(known_implementations, scheme, {"class": "no.such.Thing"})
    with pytest.raises(WorkDirectoryError, match=rf"pip install 'rumjax\[{extra}\]'"):
        WorkDirectory(f"{scheme}://bucket/run")


@pytest.mark.usefixtures("bucket")
def test_nothing_is_made_locally(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with WorkDirectory(URI, holder="process1") as other:
        other.write_text("a", "a")
    assert not list(tmp_path.iterdir())


def test_all_writes_go_through_one_door():
    """So that what holds for them here holds for all."""
    tree = ast.parse(inspect.getsource(inspect.getmodule(WorkDirectory)))
    writers = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self._files.write"
    ]
    assert writers == ["writing"]


# S3, into which models are put file by file


VARIABLES = Variables(
    {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"mean": np.ones(3, np.float32)}
)


def assert_models_come_back(work):
    for name, factor in (("first", 1), ("second", 2), ("second", 3)):
        saved = jax.tree.map(lambda leaf, factor=factor: np.float32(factor) * leaf, VARIABLES)
        work.save_model(name, saved)
        assert work.has_model(name)
        jax.tree.map(np.testing.assert_array_equal, work.load_model(name, VARIABLES), saved)
    assert work.names("checkpoints/*") == ["checkpoints/first", "checkpoints/second"]
    assert not work.has_model("third")
    with pytest.raises(WorkDirectoryError, match=r"/checkpoints/third is damaged"):
        work.load_model("third", VARIABLES)
    work.delete("checkpoints/first")
    assert not work.has_model("first")
    assert work.has_model("second")


@pytest.mark.usefixtures("bucket")
def test_models_in_s3_come_back():
    with WorkDirectory("s3://bucket/run") as work:
        assert_models_come_back(work.below("cases/one"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("SlowDown")])
def test_a_model_that_is_put_in_part_is_none(bucket, monkeypatch, error):
    puts, plain = [], bucket.pipe_file

    def put(self, path, *args, **options):
        puts.append(path)
        if len(puts) == 3:
            raise error
        plain(self, path, *args, **options)

    monkeypatch.setattr(bucket, "pipe_file", put)
    with WorkDirectory("s3://bucket/run") as work:
        wanted = KeyboardInterrupt if error is KeyboardInterrupt else WorkDirectoryError
        with pytest.raises(wanted):
            work.save_model("model", VARIABLES)
        assert not work.has_model("model")
        work.save_model("model", VARIABLES)
        assert work.has_model("model")
    assert puts[-1] == "/bucket/run/checkpoints/model/0/commit_success.txt"
    assert sum(path == puts[-1] for path in puts) == 1


def test_files_and_models_in_s3_come_back_by_way_of_a_server(monkeypatch):
    pytest.importorskip("s3fs", reason="needs rumjax[s3]")
    server = pytest.importorskip("moto.server", reason="needs moto[server], which stands in for S3")
    import boto3

    here = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    here.start()
    host, port = here.get_host_and_port()
    named = {"ACCESS_KEY_ID": "none", "SECRET_ACCESS_KEY": "none", "DEFAULT_REGION": "us-east-1"}
    for name, value in {**named, "ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    try:
        boto3.client("s3").create_bucket(Bucket="bucket")
        with (
            WorkDirectory("s3://bucket/a run") as work,
            WorkDirectory("s3://bucket/a run") as other,
        ):
            assert work.names("*") == []
            other.write_json("rows/1_θ.json", {"a": 1})
            other.write_arrays("rows/2.npz", {"x": np.arange(3)})
            assert work.names("rows/*.npz") == ["rows/2.npz"]
            assert work.read_json("rows/1_θ.json") == {"a": 1}
            assert work.read_arrays("rows/2.npz")["x"].tolist() == [0, 1, 2]
            assert work.has("rows")
            assert not work.has("row")
            work.forget("rows/*", stages=())
            assert other.names("rows/*") == []
            assert_models_come_back(work)
        with pytest.raises(WorkDirectoryError, match=r"s3://none/run/a could not be written"):
            WorkDirectory("s3://none/run").write_text("a", "")
    finally:
        here.stop()
