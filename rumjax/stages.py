"""What each stage of a run depends on and what it makes, so that a directory holds one run only."""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rumjax.checkpoint import WorkDirectory
from rumjax.errors import check_choice
from rumjax.experiment import ORACLES, Experiment
from rumjax.types import Splits

STAGES = ("original", "bank", "scores", "forget_sets", "oracle", "unlearn")


def claim(work: WorkDirectory, experiment: Experiment, recompute: Sequence[str] = ()) -> None:
    """Claims the directory for an experiment, and deletes what is to be made anew.

    Args:
      work: the run's directory.
      experiment: what is to be run there.
      recompute: of `STAGES`, to be made anew with those after them, or "unlearn/NAME".

    Raises:
      InvalidInputError: an unknown stage.
      WorkDirectoryError: a stage that is to stay was made with another configuration.
    """
    wanted, made = dependencies(experiment), files(experiment)
    known = (*STAGES, *(stage for stage in wanted if "/" in stage))
    for name in recompute:
        check_choice("stage to recompute", name, known)
    doomed = {
        stage
        for name in recompute
        for stage in made
        if stage == name or ("/" not in name and stage.split("/")[0] in since(name))
    }
    # Nothing is deleted before the rest is known to agree.
    work.claim({stage: wanted[stage] for stage in wanted if stage not in doomed}, made)
    work.forget(*(pattern for stage in doomed for pattern in made[stage]), stages=tuple(doomed))
    if any("/" not in name for name in recompute):
        # What methods made that are no longer configured would outlive what they came from.
        oracles = {row for pattern in made["oracle"] for row in work.names(pattern)}
        rows = set(work.names("rows/*")) - oracles
        work.forget(*rows, "tuning/*", stages=("unlearn",))
    work.claim(wanted, made)


def since(stage: str) -> tuple[str, ...]:
    """A stage and those after it."""
    return STAGES[STAGES.index(stage) :]


def files(experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Patterns of what each stage makes; "unlearn/NAME" for each method."""
    return {
        "original": ("checkpoints/original_*", "dynamics/*"),
        "bank": ("bank/*", "checkpoints/bank_*"),
        "scores": ("scores.npz",),
        "forget_sets": ("forget_sets.*",),
        "oracle": ("checkpoints/oracle_*", *(f"rows/{name}_seed*" for name in ORACLES)),
        **{
            f"unlearn/{method.name}": (
                f"rows/{method.name}_seed*",
                f"tuning/{method.name}_{'?' * 12}.json",
            )
            for method in experiment.methods
        },
    }


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
    chosen = dict(config["forget"])
    if chosen["by"] == "file":
        content = pathlib.Path(chosen.pop("path")).read_bytes()
        chosen["sha256"] = hashlib.sha256(content).hexdigest()[:16]
    forget = {**scored, "forget": chosen, "first_seed": experiment.seeds[0]}
    methods = {
        f"unlearn/{method.name}": {**forget, "attack": config["attack"], "method": method.options}
        for method in experiment.methods
    }
    return {
        "original": training,
        **({"bank": bank} if experiment.needs_bank else {}),
        "scores": {**scored, "first_seed": experiment.seeds[0]},
        "forget_sets": forget,
        "oracle": {**forget, "attack": config["attack"]},
        **methods,
    }


def bank_header(experiment: Experiment) -> dict[str, Any]:
    """What a bank's models depend on, and the sizes of its rows; see `rumjax.bank.ModelBank`."""
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
