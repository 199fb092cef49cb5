"""Names every file of a run, once; which stage makes what is derived from them in `dependencies`.

Names are relative to the work directory, or to a case's folder in it. Functions that take a seed,
a model or a method also take "*", which gives a pattern of all of them. Models are named without
their folder, as `WorkDirectory.save_model` wants them.
"""

from typing import NamedTuple

STAGES = {
    "original": "the models before unlearning, with the dynamics of their training",
    "bank": "the bank of models on random subsets",
    "scores": "memorization and its proxies",
    "forget_sets": "the forget set and its parts",
    "oracle": "the retrained models and their measures",
    "unlearn": "tuning, the unlearned models and their measures",
    "audit": "the models that audits make, and their findings",
}
"""The stages in their order, and what each makes."""

# What a run is

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
STAGE_RECORD = "stages.json"
"""The part of the configuration that each stage was made with."""
CLUSTER = "cluster.json"
ORIGINAL = "original"
"""The method that does nothing."""
RETRAIN = "retrain"
"""The name under which retrained models are audited like any method."""
ORACLES = {"reference": "retrain_reference", "second": "retrain_second"}
"""The rows of the two oracles of a seed."""
TAKEN = (ORIGINAL, RETRAIN, "oracle", "reference", "second", "models", *ORACLES.values())
"""What no method may be called, since files or lines of tables are."""

# What its stages make

SCORES = "scores.npz"
SCORE_SECONDS = "scores.json"
EXAMPLES = "examples.npz"
FORGET_SETS = "forget_sets.npz"
FORGET_TABLE = "forget_sets.csv"
HARDNESS = "forget_sets.json"
BANK = "bank/bank.json"
STABILITY = "bank/stability.json"
RESERVE = "reserve.npz"
FORGOTTEN = "requests/forgotten.csv"
"""The SHA-256 of all that requests have had forgotten."""
TUNING = "tuning.csv"
TUNED_METHODS = "tuned_methods.py"
AUDITED_MODELS = "audit/models.json"


def checkpoint(model: str) -> str:
    """Returns the folder of a saved model."""
    return f"checkpoints/{model}"


def original(seed: int | str) -> str:
    """Names the original model of a seed."""
    return f"original_seed{seed}"


def dynamics(seed: int | str) -> str:
    """Names the losses and proxies of an original model's training."""
    return f"dynamics/seed{seed}.npz"


def bank_model(model: int | str) -> str:
    """Names a model of the bank."""
    return f"bank_{_five(model)}"


def bank_row(model: int | str) -> str:
    """Names the answers of a model of the bank."""
    return f"bank/{_five(model)}.npz"


def bank_divergence(model: int | str) -> str:
    """Names the note that a model of the bank has diverged."""
    return f"bank/{_five(model)}_diverged.json"


def oracle(which: str, seed: int | str) -> str:
    """Names an oracle of a seed, "reference" or "second"."""
    return f"oracle_{which}_seed{seed}"


def teacher(number: int | str) -> str:
    """Names a model retrained without S that methods may learn from, and that judges nobody."""
    return f"teacher_{number}"


def unlearned(method: str, seed: int | str) -> str:
    """Names the model of a seed after a method."""
    return f"unlearned_{method}_seed{seed}"


def row(name: str, seed: int | str) -> str:
    """Names the measures of a seed's model after a method, or of an oracle."""
    return f"rows/{name}_seed{seed}.json"


def answers(name: str, seed: int | str) -> str:
    """Names the answers of a seed's model after a method, or of an oracle."""
    return f"margins/{name}_seed{seed}.npz"


def trial(method: str, fingerprint: str) -> str:
    """Names what came of one setting of a method, of a fingerprint of 12 hexadecimal digits."""
    return f"tuning/{method}_{fingerprint}.json"


def tuned(method: str) -> str:
    """Names the best setting of a method."""
    return f"tuning/{method}.json"


def audit(name: str) -> str:
    """Names the findings of audits of a method."""
    return f"audit/{name}.json"


def audit_arrays(name: str) -> str:
    """Names the curves and the values of each example of audits of a method."""
    return f"audit/{name}.npz"


def audited_answers(name: str, model: int | str) -> str:
    """Names the answers of a model of the bank after a method."""
    return f"audit/models/{name}/{_five(model)}.npz"


def number_of(file_of_bank: str) -> int:
    """Returns the model that a file of `bank_row` or `bank_divergence` is about."""
    return int(file_of_bank.rpartition("/")[2].removesuffix(".npz").removesuffix("_diverged.json"))


ANY_FINGERPRINT = "[0-9a-f]" * 12


def _five(model: int | str) -> str:
    return model if isinstance(model, str) else f"{model:05d}"


# What requests to be forgotten leave

REQUESTS = "requests"
"""The folder of all that requests leave; the names below are relative to it."""
BASE = "base.json"
"""How the first model takes its images, which later ones keep."""
SALT = "salt.json"
LOG = "log.jsonl"
BROUGHT = "brought"
"""The model before the first batch."""
EXPOSED = "exposed.csv"
"""Who of R and V became more exposed by a batch."""
CERTIFICATE, CERTIFICATE_PAGE = "certificate.json", "certificate.html"
REFUSED, REFUSED_PAGE = "refused.json", "refused.html"


def batch_folder(number: int | str) -> str:
    """Returns the folder of a batch of requests."""
    return f"batch_{number:04d}" if isinstance(number, int) else f"batch_{number}"


def of_batch(number: int | str, name: str) -> str:
    """Names a file of a batch: its requests, its evidence or its certificate."""
    return f"{batch_folder(number)}/{name}"


def candidate(number: int | str, name: str) -> str:
    """Names a candidate of a batch, of which there are a model and a file of what came of it."""
    return f"{batch_folder(number)}_{name}"


def delivered(number: int | str) -> str:
    """Names the model that a batch ends with."""
    return f"delivered_{batch_folder(number)}"


# What the report writes


class LeftFile(NamedTuple):
    """A file that people look for, or a folder of such files."""

    pattern: str
    meaning: str


REPORT = "report.html"
RESULTS = "results.csv"
SUMMARY = "summary.csv"
METRICS = "metrics.jsonl"
AUDIT_TABLE = "audit.csv"

REPORT_FILES = (
    LeftFile(REPORT, "the page to look at"),
    LeftFile("study.*", "the page of a study, as HTML and Markdown"),
    LeftFile("audit.*", "the page of audits, as HTML and Markdown, and its findings as CSV"),
    LeftFile(RESULTS, "a row per method, strategy and seed"),
    LeftFile(SUMMARY, "means and half-widths of 95 % intervals over the seeds"),
    LeftFile(METRICS, "the loss of every epoch of every model"),
    LeftFile("tables/*", "what the pages show as CSV, Markdown and LaTeX"),
    LeftFile("figures/*", "what the pages show as PNG and PDF, with its data as CSV"),
    LeftFile(TUNING, "every setting that was tried, and its score"),
    LeftFile(TUNED_METHODS, "the best settings, as Python for a configuration"),
)
"""The files that are written anew at every start, from what the stages have made."""

OTHER_FILES = (
    LeftFile(SCORES, "memorization, its standard error, and its proxies"),
    LeftFile(SCORE_SECONDS, "the seconds that each score took"),
    LeftFile(EXAMPLES, "rows or files of all examples in their source, and their SHA-256"),
    LeftFile(FORGET_SETS, "indices of the forget set, its parts, and the retain set"),
    LeftFile(FORGET_TABLE, "the forget set by rows or files of the source, and by SHA-256"),
    LeftFile(HARDNESS, "how memorized and how entangled the forget set and its parts are"),
    LeftFile("checkpoints/*", "the original models, the oracles, and others that are kept"),
    LeftFile("dynamics/*", "losses and proxies of the original models' training"),
    LeftFile("bank/*", "answers of the models of the bank, and how stable scores are"),
    LeftFile("rows/*", "the rows of results.csv, and the losses of every epoch"),
    LeftFile("margins/*", "answers of the models of the seeds, where audits need them"),
    LeftFile("tuning/*", "a file for every setting that was tried"),
    LeftFile("audit/*", "answers of the models that audits made, and their findings"),
    LeftFile("requests/*", "the log of requests, the models delivered, and their certificates"),
    LeftFile(RESERVE, "the examples that coins put in or left out before training"),
    LeftFile(CONFIG, "the configuration"),
    LeftFile(ENVIRONMENT, "versions and devices of the last start"),
    LeftFile(STAGE_RECORD, "the part of the configuration that each stage was made with"),
    LeftFile(CLUSTER, "where machines that start the same command find the first, or how it ended"),
    LeftFile("logs/*", "what workers on the first machine print"),
)


def figure(name: str, ending: str) -> str:
    """Names a figure in one of its forms."""
    return f"figures/{name}.{ending}"


def table(name: str, ending: str) -> str:
    """Names a table in one of its forms."""
    return f"tables/{name}.{ending}"


def page(kind: str, ending: str) -> str:
    """Names the page of a "study" or an "audit" in one of its forms."""
    return f"{kind}.{ending}"


LEFT = (*REPORT_FILES, *OTHER_FILES)
"""All that a run leaves, as `--help` lists it."""
