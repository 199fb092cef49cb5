"""What each stage of a run depends on and what it makes, so that a directory holds one run only."""

import hashlib
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rumjax.errors import check_choice
from rumjax.lab.experiment import SHARE, Experiment
from rumjax.lab.methods import ORACLES, Method, grid_of
from rumjax.lab.workdir import WorkDirectory
from rumjax.types import Splits

STAGES = ("original", "bank", "scores", "forget_sets", "oracle", "unlearn", "audit")


def claim(work: WorkDirectory, experiment: Experiment, recompute: Sequence[str] = ()) -> None:
    """Claims the directory for an experiment, and deletes what is to be made anew.

    Args:
      work: the run's directory.
      experiment: what is to be run there.
      recompute: of `STAGES`, to be made anew with those after them in all cases; or a single one
        of a case or method, "oracle/CASE" or "unlearn/NAME" for instance.

    Raises:
      InvalidInputError: an unknown stage.
      WorkDirectoryError: a stage that is to stay was made with another configuration.
    """
    wanted, made = dependencies(experiment), files(experiment)
    known = dict.fromkeys(begun for stage in (*STAGES, *wanted) for begun in beginnings(stage))
    for name in recompute:
        check_choice("stage to recompute", name, known)
    doomed = {stage for name in recompute for stage in since(name, made)}
    for case in experiment.each:  # each comes later than the one it goes on from
        if case.after is not None and doomed & {
            *since(f"forget_sets{case_name(case.after)}", made)
        }:
            doomed |= {*since(f"unlearn{case_name(case)}", made)}
    # Nothing is deleted before the rest is known to agree.
    work.claim({stage: wanted[stage] for stage in wanted if stage not in doomed}, made)
    work.forget(*(pattern for stage in doomed for pattern in made[stage]), stages=tuple(doomed))
    if any("/" not in name for name in recompute):
        # What methods made that are no longer configured would outlive what they came from.
        for prefix in prefixes(experiment):
            oracles = {row for each in ORACLES for row in work.names(f"{prefix}rows/{each}_seed*")}
            rows = set(work.names(f"{prefix}rows/*")) - oracles
            leftovers = (f"{prefix}tuning/*", f"{prefix}checkpoints/unlearned_*")
            work.forget(*rows, *leftovers, stages=("unlearn",))
    work.claim(wanted, made)


def beginnings(stage: str) -> list[str]:
    """A stage's name, cut at each of its slashes."""
    words = stage.split("/")
    return ["/".join(words[: count + 1]) for count in range(len(words))]


def since(name: str, stages: Iterable[str]) -> list[str]:
    """Of some stages, those that a name means or begins, and those after them in the same cases."""
    kind, _, rest = name.partition("/")
    later = STAGES[STAGES.index(kind) :]
    return [
        stage
        for stage in stages
        if stage.partition("/")[0] in later
        and (not rest or rest in beginnings(stage.partition("/")[2]))
    ]


def prefixes(experiment: Experiment) -> list[str]:
    """What the names of each case's files begin with; nothing where there are no cases."""
    return [f"{case.folder}/" if case.folder else "" for case in experiment.each]


def files(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Patterns of what each stage makes.

    A stage of a case has the case's name after its own, and "unlearn" the method's at the end.
    """
    found: dict[str, tuple[str, ...]] = {
        "original": ("checkpoints/original_*", "dynamics/*"),
        "bank": ("bank/*", "checkpoints/bank_*"),
        "scores": ("scores.*",),
    }
    for case, prefix in zip(experiment.each, prefixes(experiment), strict=True):
        own = case_name(case)
        oracles = (f"{prefix}rows/{name}_seed*" for name in ORACLES)
        found[f"forget_sets{own}"] = (f"{prefix}forget_sets.*",)
        found[f"oracle{own}"] = (
            f"{prefix}checkpoints/oracle_*",
            *oracles,
            *(f"{prefix}margins/{name}_seed*" for name in ORACLES),
        )
        for method in case.methods:
            found[f"unlearn{own}/{method.name}"] = (
                f"{prefix}rows/{method.name}_seed*",
                f"{prefix}margins/{method.name}_seed*",
                f"{prefix}tuning/{method.name}_{'?' * 12}.json",
                f"{prefix}tuning/{method.name}.json",
                f"{prefix}checkpoints/unlearned_{method.name}_seed*",
            )
        if "audit" in experiment.config:
            for name in ("retrain", *(method.name for method in case.methods)):
                found[f"audit{own}/{name}"] = (
                    f"{prefix}audit/{name}.*",
                    f"{prefix}audit/models/{name}/*",
                )
    return found


def case_name(case: Experiment) -> str:
    """What the names of a case's stages have besides: "/NAME"; nothing where it is the run."""
    return case.folder.removeprefix("cases")


def dependencies(experiment: Experiment) -> dict[str, Any]:
    """For each stage, the part of the configuration that its result depends on."""
    config = experiment.config
    # The images themselves, and not where they are.
    data = {key: value for key, value in config["data"].items() if key != "data_dir"}
    training = {
        "data": {**data, "sha256": fingerprint(experiment.data)},
        "model": config["model"],
        "training": config["training"],
    }
    bank = {**training, "bank": {key: config["bank"][key] for key in ("fraction", "seed")}}
    scored = {**bank, "models": config["bank"]["models"]} if experiment.needs_bank else training
    on_demand = {"on_demand": experiment.on_demand} if experiment.on_demand else {}
    given = {"scores": config["scores"]} if "scores" in config else {}
    scored = {**scored, **on_demand, **given, "first_seed": experiment.seeds[0]}
    found: dict[str, Any] = {
        "original": training | on_demand,
        **({"bank": bank} if experiment.trains_bank else {}),
        "scores": scored,
    }
    for case in experiment.each:
        own, forget = case_name(case), {**scored, "forget": chosen(case)}
        if case.after is not None:
            forget["after"] = case_name(case.after)
        judged = {**forget, "attack": config["attack"]}
        found[f"forget_sets{own}"] = forget
        found[f"oracle{own}"] = judged
        for method in case.methods:
            made_of = {**judged, "method": method.options, **searched(case, method)}
            found[f"unlearn{own}/{method.name}"] = made_of
        if "audit" in config:
            asked = {**forget, **bank, "share": config["audit"].get("share", SHARE)}
            found[f"audit{own}/retrain"] = asked
            for method in case.methods:
                made_of = {"method": method.options, **searched(case, method)}
                found[f"audit{own}/{method.name}"] = asked | made_of
    return found


def searched(case: Experiment, method: Method) -> dict[str, Any]:
    """What a method's settings were chosen from, if a search chooses them."""
    tuning = dict(case.config.get("tuning", {}))
    if not tuning.pop("adopt", False):
        return {}
    grids, like, select = (tuning.pop(key, {}) for key in ("grids", "like", "select"))
    named = {each.name: each for each in case.methods}
    chosen = named[like[method.name]] if method.name in like else method
    if method.name in select:
        tuning["select"] = select[method.name]
        candidates = {name: grid_of(grids, named[name]) for name in tuning["select"]["candidates"]}
        return {"tuning": {**tuning, "grids": candidates}}
    return {"tuning": {**tuning, "grid": grid_of(grids, chosen)}}


def chosen(case: Experiment) -> dict[str, Any]:
    """The section `forget`, with the content of a file in place of its path."""
    section = dict(case.config["forget"])
    if section["by"] == "file":
        content = pathlib.Path(section.pop("path")).read_bytes()
        section["sha256"] = hashlib.sha256(content).hexdigest()[:16]
    return section


def bank_header(experiment: Experiment) -> dict[str, Any]:
    """Returns what a bank's models depend on, and the sizes of its rows; see `ModelBank`."""
    depends, train = dependencies(experiment)["bank"], experiment.data.train
    options = depends.pop("bank")
    size = len(train.labels)
    examples = size + len(experiment.data.test.labels)
    return {**options, "size": size, "examples": examples, **depends}


def fingerprint(data: Splits) -> str:
    """The beginning of a SHA-256 over D and T."""
    total = hashlib.sha256()
    for part in (*data.train, *data.test):
        array = np.asarray(part)
        total.update(f"{array.shape} {array.dtype}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()[:16]
