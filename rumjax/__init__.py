"""Machine unlearning for image classifiers in JAX: score, refine, unlearn, and measure.

The main path, on arrays of one's own, is a few calls: `retrain` gives the original model,
`rum` turns a forget set into steps, `run` runs them, and `rumjax.metrics` judges the result.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rumjax import benchmarks, data, errors, forget_sets, mesh, metrics, models, scores
    from rumjax.models import Model
    from rumjax.refine import at_random, by_class, by_score, rum, whole
    from rumjax.types import (
        Dataset,
        Scores,
        Splits,
        Subset,
        Task,
        Unlearner,
        Variables,
        subset,
        task,
    )
    from rumjax.unlearn import (
        ALGORITHMS,
        Step,
        amun,
        assd,
        bad_teacher,
        boundary_expand,
        boundary_shrink,
        cf_k,
        chain,
        ct,
        datamodel_matching,
        delete,
        eu_k,
        finetune,
        fisher_noise,
        grid,
        influence,
        l1_sparse,
        lfssd,
        localized_reset,
        lotus,
        msg,
        neggrad,
        neggrad_plus,
        oracle_matching,
        original,
        random_label,
        regun,
        retrain,
        run,
        run_pure,
        salun,
        scrub,
        sfr_on,
        sharp_minmax,
        ssd,
        unsir,
    )

__version__ = "0.1.0"

__all__ = [
    "ALGORITHMS",
    "Dataset",
    "Model",
    "Scores",
    "Splits",
    "Step",
    "Subset",
    "Task",
    "Unlearner",
    "Variables",
    "amun",
    "assd",
    "at_random",
    "bad_teacher",
    "benchmarks",
    "boundary_expand",
    "boundary_shrink",
    "by_class",
    "by_score",
    "cf_k",
    "chain",
    "ct",
    "data",
    "datamodel_matching",
    "delete",
    "errors",
    "eu_k",
    "finetune",
    "fisher_noise",
    "forget_sets",
    "grid",
    "influence",
    "l1_sparse",
    "lfssd",
    "localized_reset",
    "lotus",
    "mesh",
    "metrics",
    "models",
    "msg",
    "neggrad",
    "neggrad_plus",
    "oracle_matching",
    "original",
    "random_label",
    "regun",
    "retrain",
    "rum",
    "run",
    "run_pure",
    "salun",
    "scores",
    "scrub",
    "sfr_on",
    "sharp_minmax",
    "ssd",
    "subset",
    "task",
    "unsir",
    "whole",
]

_HOMES = {
    "models": ("Model",),
    "refine": ("at_random", "by_class", "by_score", "rum", "whole"),
    "types": (
        "Dataset",
        "Scores",
        "Splits",
        "Subset",
        "Task",
        "Unlearner",
        "Variables",
        "subset",
        "task",
    ),
}
"""The modules that define names; the others are modules themselves, or of `rumjax.unlearn`."""
_MODULES = ("benchmarks", "data", "errors", "forget_sets", "mesh", "metrics", "models", "scores")


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used, so that a command line can be refused at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"rumjax.{name}")
    home = next((module for module, names in _HOMES.items() if name in names), "unlearn")
    value = getattr(importlib.import_module(f"rumjax.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
