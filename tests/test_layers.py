"""Who may import whom: read from the source, so that nothing needs to be run."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "rumjax"

MAY_IMPORT = {
    # Lowest first; a room may import what is named here, and itself.
    "errors": "",
    "types": "errors",
    "cluster": "errors",
    "mesh": "errors",
    "data": "errors types",
    "models": "errors types mesh",
    "metrics": "errors",
    "audits": "errors metrics",
    "progress": "",
    "training": "errors types mesh data models",
    "gradients": "types mesh models",
    "unlearn.base": "errors types",
    "unlearn": "errors types models training gradients unlearn.base",
    "rum": "errors types unlearn.base",
    "scores": "errors types",
    "forget_sets": "errors types rum scores",
    "ensemble": "errors types training unlearn.base",
    "relearn": "errors types models training unlearn ensemble",
    "checkpoint": "errors types",
    "bank": "errors types cluster models training forget_sets scores ensemble checkpoint",
    "keywords": "errors training",
    "methods": "errors types data models unlearn rum scores keywords",
    "experiment": "errors types data models training unlearn rum forget_sets scores keywords "
    "methods",
    "stages": "errors types checkpoint methods experiment",
    "report": "errors types metrics rum forget_sets checkpoint methods experiment",
    "": "errors types mesh data models metrics unlearn rum forget_sets scores",
    "context": "errors types models metrics progress unlearn rum forget_sets ensemble checkpoint "
    "bank methods experiment",
    "settings": "errors",
    "scoring": "errors types cluster models progress unlearn gradients scores ensemble bank "
    "methods experiment stages context",
    "tuning": "errors types metrics progress rum forget_sets ensemble bank methods experiment "
    "context scoring",
    "observing": "types audits metrics rum forget_sets relearn context",
    "auditing": "errors types audits cluster progress unlearn rum forget_sets bank methods "
    "experiment stages context scoring observing",
    "pipeline": "errors types cluster models metrics progress unlearn rum forget_sets scores "
    "checkpoint methods experiment stages report context scoring tuning observing auditing",
    "launch": "errors cluster checkpoint experiment pipeline progress",
    "tune": "checkpoint experiment pipeline launch",
    "publish": "errors types data scores checkpoint bank experiment launch",
}
"""the partial order of rooms; "" is rumjax/__init__.py, which knows the version"""

ONLY = {
    "orbax": {"checkpoint"},
    "etils": {"checkpoint"},
    "fsspec": {"checkpoint"},
    "ml_collections": {"launch", "configs"},
    "absl": {"launch"},
    "tensorflow_datasets": {"data"},
    "flax": {"models", "gradients"},
    "optax": {"training", "gradients", "unlearn"},
    "sklearn": {"metrics", "audits"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
}
"""packages that only some rooms know"""

HOST = {"rum", "forget_sets", "scores", "metrics", "audits", "report", "progress"}
"""rooms that are NumPy on the host"""

FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if "configs" not in path.relative_to(PACKAGE).parts
)


def room_of(module):
    """The room of a module named from rumjax on, "unlearn.finetune" for instance."""
    return module if module in MAY_IMPORT else module.split(".")[0]


def module_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path):
    """Dotted names of all that a file imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    for name in imported(path):
        first, _, rest = name.partition(".")
        if first == "rumjax":
            known = {room_of(module_of(each)) for each in FILES}
            parts = rest.split(".")
            named = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
            yield next((each for each in named if each in known), "")


def test_every_file_has_a_room_and_every_room_a_file():
    assert {room_of(module_of(path)) for path in FILES} == set(MAY_IMPORT)


def test_the_rooms_are_ordered():
    above = set()
    for room, below in MAY_IMPORT.items():
        assert set(below.split()) <= above, f"{room} names a room that comes later"
        above.add(room)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_lower_room_never_imports_an_upper_one(path):
    room = room_of(module_of(path))
    allowed = {room, *MAY_IMPORT[room].split()}
    if room in ("pipeline", "launch", "tune"):
        allowed.add("")
    assert set(rooms_imported(path)) <= allowed


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "configs").glob("*.py"))], ids=str)
def test_only_some_rooms_know_a_package(path):
    room = "configs" if path.is_relative_to(ROOT / "configs") else room_of(module_of(path))
    for name in imported(path):
        rooms = ONLY.get(name.split(".")[0])
        assert rooms is None or room in rooms, f"{path} imports {name}"
        assert not f"{name}.".startswith("flax.training."), f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_rooms_on_the_host_leave_jax_alone(path):
    if room_of(module_of(path)) in HOST:
        assert not [name for name in imported(path) if name.split(".")[0] == "jax"]


def calls(path):
    """Dotted names of what a file mentions, `jax.jit` for instance."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def users(*names):
    return {module_of(path) for path in FILES if set(names) & set(calls(path))}


def test_only_ensemble_and_mesh_share_out_work_and_only_runners_compile():
    assert users("jax.pmap", "jax.shard_map") == {"ensemble"}
    assert users("jax.set_mesh", "jax.make_mesh", "jax.distributed") == {"mesh"}
    assert users("jax.jit") <= {"unlearn.base", "ensemble", "context", "scoring", "tuning"}
    assert "unlearn.base" in users("jax.jit")
