"""What each stage of a run depends on and what it makes, so that a directory holds one run only."""

import hashlib
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from rumjax.errors import check_choice
from rumjax.lab import files
from rumjax.lab.bringing import content_of_original
from rumjax.lab.config import Config
from rumjax.lab.experiment import Case, Run, unknown_of
from rumjax.lab.files import STAGES
from rumjax.lab.methods import Method
from rumjax.lab.sections import Forget
from rumjax.lab.suiting import budget_of
from rumjax.lab.workdir import WorkDirectory


def claim(work: WorkDirectory, run: Run, recompute: Sequence[str] = ()) -> None:
    """Claims the directory for a run, and deletes what is to be made anew.

    Args:
      work: the run's directory.
      run: what is to be run there.
      recompute: stages of `STAGES`, to be made anew with those after them in all cases; or a single
        one of a case or method, "oracle/CASE" or "unlearn/NAME" for instance.

    Raises:
      InvalidInputError: an unknown stage.
      WorkDirectoryError: a stage that is to stay was made with another configuration.
    """
    # Find the stages that are to be made anew; each case comes later than the one it goes on from.
    depends, made = configurations(run), patterns(run)
    known = dict.fromkeys(start for stage in (*STAGES, *depends) for start in beginnings(stage))
    for name in recompute:
        check_choice("stage to recompute", name, known)
    doomed = {stage for name in recompute for stage in since(name, made)}
    for case in run.cases:
        if case.after is not None:
            chosen_before = since(f"forget_sets{case_suffix(case.after)}", made)
            if doomed & set(chosen_before):
                doomed |= set(since(f"unlearn{case_suffix(case)}", made))

    # Nothing is deleted before the rest is known to agree.
    work.claim({stage: depends[stage] for stage in depends if stage not in doomed}, made)
    work.forget(*(pattern for stage in doomed for pattern in made[stage]), stages=tuple(doomed))

    # What methods made that are no longer configured would outlive what they came from.
    if any("/" not in name for name in recompute):
        for prefix in prefixes(run):
            rows = set(work.names(prefix + files.row("*", "*")))
            for name in files.ORACLES.values():
                rows -= set(work.names(prefix + files.row(name, "*")))
            leftovers = (
                prefix + files.tuned("*"),
                prefix + files.checkpoint(files.unlearned("*", "*")),
            )
            work.forget(*rows, *leftovers, stages=("unlearn",))
    work.claim(depends, made)


def beginnings(stage: str) -> list[str]:
    """Returns a stage's name cut at each of its slashes."""
    words = stage.split("/")
    return ["/".join(words[: count + 1]) for count in range(len(words))]


def since(name: str, stages: Iterable[str]) -> list[str]:
    """Returns the stages that a name means or begins, and those after them in the same cases."""
    kind, _, rest = name.partition("/")
    # Stages come later in the order of `STAGES`, whatever case or method they are of.
    order = list(STAGES)
    later = order[order.index(kind) :]
    return [
        stage
        for stage in stages
        if stage.partition("/")[0] in later
        and (not rest or rest in beginnings(stage.partition("/")[2]))
    ]


def prefixes(run: Run) -> list[str]:
    """Returns how the names of each case's files begin: with its folder, if it has one."""
    return [f"{case.folder}/" if case.folder else "" for case in run.cases]


def case_suffix(case: Case) -> str:
    """Returns what the names of a case's stages end with: "/NAME"; nothing where it is the run."""
    return case.folder.removeprefix("cases")


def patterns(run: Run) -> dict[str, tuple[str, ...]]:
    """Returns patterns of the files that each stage makes.

    A stage of a case has the case's name after its own, and "unlearn" the method's at the end.
    """
    by_stage: dict[str, tuple[str, ...]] = {
        "original": (
            files.EXAMPLES,
            files.checkpoint(files.original("*")),
            files.dynamics("*"),
        ),
        "bank": ("bank/*", files.checkpoint(files.bank_model("*"))),
        "scores": (files.SCORES, files.SCORE_SECONDS),
    }
    for case, prefix in zip(run.cases, prefixes(run), strict=True):
        for stage, names in case_patterns(case, audited=run.config.audit is not None).items():
            kind, slash, method = stage.partition("/")
            name = f"{kind}{case_suffix(case)}{slash}{method}"
            by_stage[name] = tuple(prefix + pattern for pattern in names)
    return by_stage


def case_patterns(case: Case, *, audited: bool) -> dict[str, tuple[str, ...]]:
    """Returns patterns of the files that each stage of a case makes, in the case's folder."""
    oracles = files.ORACLES.values()
    by_stage: dict[str, tuple[str, ...]] = {
        "forget_sets": (files.FORGET_SETS, files.FORGET_TABLE, files.HARDNESS),
        "oracle": (
            files.checkpoint(files.oracle("*", "*")),
            files.checkpoint(files.teacher("*")),
            *(files.row(name, "*") for name in oracles),
            *(files.answers(name, "*") for name in oracles),
        ),
    }
    for method in case.methods:
        by_stage[f"unlearn/{method.name}"] = (
            files.row(method.name, "*"),
            files.answers(method.name, "*"),
            files.trial(method.name, files.ANY_FINGERPRINT),
            files.tuned(method.name),
            files.checkpoint(files.unlearned(method.name, "*")),
        )
    if audited:
        for name in (files.RETRAIN, *(method.name for method in case.methods)):
            by_stage[f"audit/{name}"] = (
                files.audit(name),
                files.audit_arrays(name),
                files.audited_answers(name, "*"),
            )
        # Models are counted anew once those are made anew that methods are held against.
        by_stage[f"audit/{files.RETRAIN}"] += (files.AUDITED_MODELS,)
    return by_stage


def configurations(run: Run) -> dict[str, Any]:
    """Returns the part of the configuration that each stage's result depends on."""
    config, training, bank = run.config, trained(run), banked(run)

    # Scores depend on the bank only where it makes them.
    on_demand = {"on_demand": run.on_demand} if run.on_demand else {}
    given = {"scores": content_of_scores(config)} if config.scores is not None else {}
    scored = {**bank, "models": config.bank.models} if run.needs_bank else training
    scored = {**scored, **on_demand, **given, "first_seed": run.seeds[0]}
    depends: dict[str, Any] = {"original": training | on_demand}
    if config.original is not None:
        brought = {
            "format": config.original.format,
            "sha256": content_of_original(config.original.path),
        }
        depends["original"] = {**depends["original"], "original": brought}
        scored = {**scored, "original": brought}
    if run.trains_bank:
        depends["bank"] = bank
    depends["scores"] = scored

    # The stages of each case depend on all before them.
    for case in run.cases:
        own, forget = case_suffix(case), {**scored, "forget": content_of(case.forget)}
        if case.after is not None:
            forget["after"] = case_suffix(case.after)
        measures = {"measures": config.measures} if config.measures else {}
        judged = {**forget, "attack": config.section("attack"), **measures}
        depends[f"forget_sets{own}"] = forget
        depends[f"oracle{own}"] = judged
        for method in case.methods:
            options = {"method": method.options, **searched_by(run, case, method)}
            options |= informed_by(run, case, method)
            depends[f"unlearn{own}/{method.name}"] = judged | options
        if config.audit is not None:
            audited = {**forget, **bank, "share": config.audit.share}
            depends[f"audit{own}/{files.RETRAIN}"] = audited
            for method in case.methods:
                options = {"method": method.options, **searched_by(run, case, method)}
                options |= informed_by(run, case, method)
                depends[f"audit{own}/{method.name}"] = audited | options
    return depends


def trained(run: Run) -> dict[str, Any]:
    """Returns what models of the recipe depend on; images by their content, wherever they are."""
    config = run.config
    data = {key: value for key, value in config.data.items() if key != "data_dir"}
    return {
        "data": {**data, "sha256": run.fingerprint},
        "model": config.model,
        "training": config.training,
    }


def banked(run: Run) -> dict[str, Any]:
    """Returns what a bank depends on, whether or not the run has one."""
    config = run.config
    sizes = {"fraction": config.bank.fraction, "seed": config.bank.seed}
    return {**trained(run), "bank": sizes}


def searched_by(run: Run, case: Case, method: Method) -> dict[str, Any]:
    """Returns the search that chooses a method's settings, as far as it is that method's own."""
    tuning = run.config.tuning
    if tuning is None or not tuning.adopt:
        return {}
    given = run.config.section("tuning")
    kept = ("seeds", "settings", "criterion")
    options: dict[str, Any] = {key: given[key] for key in kept if key in given}
    if budget_of(method, run) is not None:
        options["budget"] = budget_of(method, run)
    methods = {other.name: other for other in case.methods}
    if method.name in tuning.select:
        select = tuning.select[method.name]
        candidates = (methods[name] for name in select["candidates"])
        grids = {other.name: tuning.grid(other.name, other.algorithm) for other in candidates}
        return {"tuning": {**options, "select": select, "grids": grids}}
    chosen = methods[tuning.like[method.name]] if method.name in tuning.like else method
    return {"tuning": {**options, "grid": tuning.grid(chosen.name, chosen.algorithm)}}


def informed_by(run: Run, case: Case, method: Method) -> dict[str, Any]:
    """Returns what a method is told of teachers or of the bank depends on, as far as it asks."""
    # A method whose unlearners are selected may use those of its candidates.
    tuning = run.config.tuning
    selection = None if tuning is None else tuning.selection(method.name)
    candidates = () if selection is None else selection.candidates
    users = [other for other in case.methods if other.name in (method.name, *candidates)]
    facts = {name for user in users for name in unknown_of(user)}
    bank, depends = run.config.bank, {}
    if "oracle_logits" in facts:
        depends["matching_oracles"] = bank.matching_oracles
    if "datamodel_margins" in facts:
        sizes = {"fraction": bank.fraction, "seed": bank.seed, "models": bank.models}
        depends["datamodel"] = sizes  # type: ignore[assignment]
    return depends


def content_of(forget: Forget) -> dict[str, Any]:
    """Returns the section `forget`, with the content of a file in place of its path."""
    section = forget.written
    if forget.by == "file":
        content = pathlib.Path(section.pop("path")).expanduser().read_bytes()
        section["sha256"] = hashlib.sha256(content).hexdigest()[:16]
    return section


def content_of_scores(config: Config) -> dict[str, Any]:
    """Returns the section `scores`, with the content of a file in place of its path."""
    section = config.section("scores")
    memorization = dict(section.get("memorization") or {})
    if "path" in memorization:
        content = pathlib.Path(memorization.pop("path")).expanduser().read_bytes()
        memorization["sha256"] = hashlib.sha256(content).hexdigest()[:16]
        section["memorization"] = memorization
    return section


def bank_header(run: Run) -> dict[str, Any]:
    """Returns what a bank's models depend on, and the sizes of its rows; see `ModelBank`."""
    depends = banked(run)
    options = depends.pop("bank")
    examples = run.size + len(run.data.test.labels)
    return {**options, "size": run.size, "examples": examples, **depends}
