"""Who may import whom: read from the source, so that nothing needs to be run."""

import ast
import functools
import importlib
import pathlib
import types

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "rumjax"

LIBRARY = {
    # Lowest first; a room may import what is named here, and itself.
    "errors": "",
    "archives": "errors",
    "registry": "errors",
    "types": "errors",
    "mesh": "errors",
    "platforms": "errors",
    "rows": "platforms types",
    "data": "errors archives registry types",
    "models": "errors registry types mesh platforms rows",
    "checkpoints": "errors archives registry types mesh platforms rows models",
    "checks": "errors types models",
    "sampling": "types",
    "losses": "types",
    "sharpness": "types",
    "descent": "errors types mesh data models losses sampling sharpness",
    "training": "errors types models losses descent",
    "gradients": "errors types mesh models checks",
    "unlearn.steps": "errors types models checks",
    "unlearn.base": "errors types models checks rows unlearn.steps",
    "unlearn": "errors types models checks losses sampling descent training gradients "
    "unlearn.base unlearn.steps",
    "refine": "errors types unlearn.steps",
    "listings": "errors archives data",
    "scores": "errors archives data listings types",
    "forget_files": "errors data types listings refine",
    "forget_sets": "errors types refine scores forget_files",
    "metrics": "errors forget_sets",
    "audits": "errors metrics",
    "evidence": "errors metrics audits",
    "ensemble": "errors types platforms rows models checks training unlearn.base unlearn.steps",
    "relearn": "errors types checks models descent unlearn ensemble",
    "benchmarks": "errors archives types data models metrics unlearn refine forget_sets scores",
    "sisa": "errors archives types checks models descent training unlearn.steps ensemble",
    "": "errors types mesh data models metrics unlearn refine forget_sets scores benchmarks",
}
"""the partial order of the library's rooms; "" is rumjax/__init__.py"""

LAB = (
    "lab",
    "lab.cluster",
    "lab.devices",
    "lab.output",
    "lab.estimates",
    "lab.targets",
    "lab.plan_files",
    "lab.progress",
    "lab.costs",
    "lab.files",
    "lab.storage",
    "lab.workdir",
    "lab.workers",
    "lab.scheduling",
    "lab.engines",
    "lab.answers",
    "lab.bank",
    "lab.values",
    "lab.grids",
    "lab.options",
    "lab.methods",
    "lab.sections",
    "lab.search",
    "lab.schema",
    "lab.building",
    "lab.spaces",
    "lab.settings",
    "lab.explaining",
    "lab.overrides",
    "lab.config",
    "lab.reserve",
    "lab.experiment",
    "lab.suiting",
    "lab.context",
    "lab.bringing",
    "lab.difficulty",
    "lab.dependencies",
    "lab.results",
    "lab.report",
    "lab.jobs",
    "lab.crew",
    "lab.making",
    "lab.measuring",
    "lab.rescoring",
    "lab.informing",
    "lab.trials",
    "lab.stages",
    "lab.checking",
    "lab.planning",
    "lab.compiling",
    "lab.plans",
    "lab.pipeline",
    "lab.forgetting.canonical",
    "lab.forgetting.ledger",
    "lab.forgetting.tables",
    "lab.forgetting.requests",
    "lab.forgetting.signing",
    "lab.forgetting.records",
    "lab.forgetting.certificate",
    "lab.forgetting.page",
    "lab.forgetting.deletion",
    "lab.forgetting.shadows",
    "lab.forgetting.chooser",
    "lab.forgetting.candidates",
    "lab.forgetting.choosing",
    "lab.forgetting.bench",
    "lab.forgetting.findings",
    "lab.forgetting.exact",
    "lab.forgetting.carrying",
    "lab.forgetting.gate",
    "lab.forgetting.describing",
    "lab.forgetting.delivering",
    "lab.forgetting.office",
    "lab.forgetting.receiving",
    "lab.forgetting.fulfilling",
    "lab.forgetting.verifying",
    "lab.forgetting.purging",
    "lab.forgetting",
    "lab.starting",
    "lab.publishing",
)
"""the lab's rooms, lowest first: each may import those before it, and all of the library"""

COMMANDS = ("launch", "tune", "publish", "plan", "forget", "__main__")
"""the commands, lowest first, which may import everything before them"""

ONLY = {
    "orbax": {"checkpoints", "lab.workdir"},
    "etils": {"lab.storage"},
    "fsspec": {"lab.storage"},
    "ml_collections": {"launch", "lab.settings", "configs"},
    "tensorflow_datasets": {"data"},
    "flax": {"models", "checkpoints", "gradients"},
    "optax": {"descent", "gradients", "losses", "sharpness", "unlearn"},
    "sklearn": {"metrics", "audits"},
    "matplotlib": {"lab.report"},
    "jinja2": {"lab.report", "lab.forgetting.page"},
    "cryptography": {"lab.forgetting.signing"},
    "dask": {"lab.scheduling", "lab.workers"},
    "distributed": {"lab.scheduling", "lab.workers"},
}
"""packages that only some rooms know"""

HOST = {
    "archives",
    "refine",
    "forget_sets",
    "scores",
    "metrics",
    "audits",
    "evidence",
    "lab.report",
    "lab.progress",
    "lab.estimates",
    "lab.plan_files",
}
"""rooms that are NumPy on the host"""

FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if "configs" not in path.relative_to(PACKAGE).parts
)
ROOMS = {*LIBRARY, *LAB, *COMMANDS}


def module_of(path):
    """A file's module, named from rumjax on: "unlearn.finetuning" for instance."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(module):
    """The room that a module is in, which may be the module itself."""
    while module and module not in ROOMS:
        module = module.rpartition(".")[0]
    return module


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


def imports(path):
    """Dotted names of all that a file imports, within functions too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    modules = {module_of(each) for each in FILES}
    for name in imports(path):
        package, _, rest = name.partition(".")
        if package == "rumjax":
            module = rest if rest in modules else rest.rpartition(".")[0]
            yield room_of(module)


def allowed(room):
    """The rooms that a room may import."""
    if room in LIBRARY:
        return {room, *LIBRARY[room].split()}
    above = [*LAB, *COMMANDS]
    return {*LIBRARY, *above[: above.index(room) + 1]}


def test_every_file_has_a_room_and_every_room_a_file():
    modules = {module_of(path) for path in FILES}
    homeless = {each for each in modules if room_of(each) == "" and each != ""}
    assert not homeless
    assert {room_of(each) for each in modules} == ROOMS


def test_the_rooms_of_the_library_are_ordered():
    rooms = list(LIBRARY)
    disordered = [
        (room, below)
        for position, room in enumerate(rooms)
        for below in LIBRARY[room].split()
        if below not in rooms[:position]
    ]
    assert not disordered


def test_a_lower_room_never_imports_an_upper_one_and_the_library_never_the_lab():
    offenders = {
        module_of(path): sorted(surplus)
        for path in FILES
        if (surplus := set(rooms_imported(path)) - allowed(room_of(module_of(path))))
    }
    assert not offenders


def test_only_some_rooms_know_a_package():
    offenders = []
    for path in [*FILES, *sorted((ROOT / "configs").glob("*.py"))]:
        room = "configs" if path.is_relative_to(ROOT / "configs") else room_of(module_of(path))
        for name in imports(path):
            rooms = ONLY.get(name.split(".")[0])
            if (rooms is not None and room not in rooms) or f"{name}.".startswith("flax.training."):
                offenders.append(f"{path.name} imports {name}")
    assert not offenders


def test_rooms_on_the_host_leave_jax_alone():
    offenders = [
        module_of(path)
        for path in FILES
        if room_of(module_of(path)) in HOST
        and any(name.split(".")[0] == "jax" for name in imports(path))
    ]
    assert not offenders


def mentions(path):
    """Dotted names of what a file mentions, `jax.jit` for instance."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def users(*names):
    return {module_of(path) for path in FILES if set(names) & set(mentions(path))}


def test_only_ensemble_and_mesh_share_out_work_and_only_runners_compile():
    assert users("jax.pmap", "jax.shard_map") == {"ensemble.programs"}
    assert users("jax.set_mesh", "jax.make_mesh", "jax.distributed") == {"mesh"}
    library = {each for each in users("jax.jit") if not each.startswith("lab.")}
    runners = {"unlearn.base", "ensemble.programs", "ensemble.warming", "models.predictions"}
    assert library == runners


def test_no_module_is_hidden_by_what_it_defines():
    hidden = []
    for path in FILES:
        module = module_of(path)
        package, _, name = f"rumjax.{module}".rpartition(".")
        if path.name == "__init__.py":
            continue
        importlib.import_module(f"{package}.{name}")
        if not isinstance(getattr(importlib.import_module(package), name), types.ModuleType):
            hidden.append(module)
    assert not hidden
