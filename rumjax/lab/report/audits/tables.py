"""The numbers of audits as tables."""

from collections.abc import Sequence

from rumjax.lab.report import wording
from rumjax.lab.report.audits import claims
from rumjax.lab.report.audits.base import LEAST_RANKED, Audited, Headline
from rumjax.lab.report.exports import Cell, Table

TOLD = {True: "told", False: "not told"}
ATTACKS = {
    "u_lira": "U-LiRA",
    "u_lira_retained": "U-LiRA, what is kept",
    "lira": "LiRA",
    "offline_lira": "LiRA, offline",
    "rmia": "RMIA",
    "ruli_privacy": "RULI privacy",
    "ruli_efficacy": "RULI efficacy",
}
RATES = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "tpr_1_percent": "TPR at 1 %",
    "tpr_01_percent": "TPR at 0.1 %",
}
COLUMNS = {
    "mia": "MIA",
    "mia_gap": "MIA gap",
    "mia_gap_correctness": "by correctness",
    "mia_gap_entropy": "by entropy",
    "mia_gap_modified_entropy": "by modified entropy",
    "mia_gap_probabilities": "by probabilities",
    "tow": "ToW",
    "tow_mia": "ToW-MIA",
    "zrf": "ZRF",
    "js_oracle": "JS from oracle",
    "activation_distance": "Activation distance",
    "probe_auc": "Probe AUC",
    "probe_gap": "Probe gap",
    "relearn_epochs": "Relearn epochs",
}
CALIBRATION = (
    "First the calibration: models retrained without what is to be forgotten, and the original "
    "models, which forget nothing."
)


def all_tables(audited: Audited) -> list[Table]:
    """Makes every table that there are numbers for."""
    tables = [
        ranking(audited),
        ranks(audited),
        agreement(audited),
        attacks(audited),
        klom(audited),
        challenge(audited),
        population(audited),
        models(audited),
    ]
    return [table for table in tables if table.rows and len(table.columns) > 1]


def matrix(audited: Audited) -> Table:
    """Makes a table of which audit tells which method from retraining."""
    by_title = {each.title: each.audits for each in claims.detections(audited)}
    headlines = audited.headlines if by_title else []

    def cell(title: str, headline: Headline) -> str:
        if claims.is_flawed(audited, headline):
            return "(not counted)"
        told = by_title[title].get(headline.title)
        return wording.NOTHING if told is None else TOLD[told]

    return Table(
        "audit_matrix",
        "Which audit tells which method from retraining",
        ("Method", *(headline.title for headline in headlines)),
        [(title, *(cell(title, headline) for headline in headlines)) for title in by_title],
        "Told: the audit tells the method from retrained models at 5 %, corrected by Holm for all "
        "comparisons together. An audit is not counted that tells retrained models from other "
        "retrained models, or does not tell the original models from them.",
    )


def ranking(audited: Audited) -> Table:
    """Makes a table of a number for every method and audit, the best of each audit marked."""
    # Retrained and original models have no ranks, but are shown on top.
    headlines, everyone = audited.headlines, audited.everyone
    ranks = [audited.ranks(headline) for headline in headlines]
    return Table(
        "audit_ranking",
        "Every method under every audit",
        ("Method", *(headline.title for headline in headlines)),
        [
            (subject.title, *(subject.value(headline) for headline in headlines))
            for subject in everyone
        ],
        f"{CALIBRATION} Bold is the best method: for attacks the one nearest to retrained models, "
        "for KLOM and gaps the lowest, for scores the highest. In brackets or behind ± are 95 % "
        "intervals. Methods are in the order of their U-LiRA accuracy.",
        best=frozenset(
            (row, column)
            for row, subject in enumerate(everyone)
            for column, own in enumerate(ranks, start=1)
            if own.get(subject.name) == 1
        ),
        bounded=frozenset(headline.title for headline in headlines if headline.is_bounded),
    )


def ranks(audited: Audited) -> Table:
    """Makes a table of the rank of every method by every audit."""
    headlines = [headline for headline in audited.headlines if audited.ranks(headline)]
    columns = [audited.ranks(headline) for headline in headlines]
    return Table(
        "audit_ranks",
        "Ranks",
        ("Method", *(headline.title for headline in headlines)),
        [
            (method.title, *(column.get(method.name) for column in columns))
            for method in audited.ordered
        ],
        "1 is nearest to retraining; methods that are as near share a rank.",
    )


def agreement(audited: Audited) -> Table:
    """Makes a table of how alike two audits rank the methods; empty for few methods."""
    headlines = [headline for headline in audited.headlines if audited.ranks(headline)]

    # Each audit against each, itself among them.
    rows: list[Sequence[Cell]] = []
    if len(audited.methods) >= LEAST_RANKED:
        rows += [
            (one.title, *(audited.agreement(one, other) for other in headlines))
            for one in headlines
        ]
    return Table(
        "audit_agreement",
        "How alike audits rank the methods",
        ("Audit", *(headline.title for headline in headlines)),
        rows,
        "Spearman’s ρ of the ranks: 1 for the same order, −1 for the reverse.",
    )


def attacks(audited: Audited) -> Table:
    """Makes a table of all findings of attacks on single examples."""
    # A row for each attack and everyone it was made on.
    rows: list[Sequence[Cell]] = [
        (title, subject.title, *(subject.findings.get((attack, rate)) for rate in RATES))
        for attack, title in ATTACKS.items()
        for subject in audited.everyone
        if any(audit == attack for audit, _ in subject.findings)
    ]
    return Table(
        "audit_attacks",
        "Attacks on single examples",
        ("Attack", "Method", *RATES.values()),
        rows,
        "TPR is the rate of true positives where that of false ones is 1 % or 0.1 %. Intervals of "
        "95 %: of rates by Clopper and Pearson, of the others by a bootstrap of models and "
        "examples. RULI efficacy holds what was forgotten against retrained models, all others "
        "against what the same kind of model never saw.",
        bounded=frozenset(RATES.values()),
    )


def klom(audited: Audited) -> Table:
    """Makes a table of KLOM over S, R and T, with and without its bias."""
    places = {"forget": "S", "retain": "R", "test": "T"}
    measures = {"mean": "mean", "p95": "95 %", "p99": "99 %"}
    forms = {"klom": "KLOM", "klom_corrected": "corrected"}
    titles = [f"{form}, {measure}" for form in forms.values() for measure in measures.values()]

    # A row for each set and subject; left out if nothing was measured there.
    rows: list[Sequence[Cell]] = []
    for place, letter in places.items():
        for subject in audited.everyone:
            names = [(form, f"{place}_{measure}") for form in forms for measure in measures]
            cells = [subject.findings.get(name) for name in names]
            if any(cells):
                rows.append((letter, subject.title, *cells))
    return Table(
        "audit_klom",
        "KLOM: how far margins are from the oracles’",
        ("Set", "Method", *titles),
        rows,
        "KL divergence of margins, in nats: the mean over examples and its percentiles. The row of "
        "retrained models holds other oracles against the oracles, so that it shows the bias; "
        "the corrected estimate has less of it.",
        bounded=frozenset(titles),
    )


def challenge(audited: Audited) -> Table:
    """Makes a table of the score of the NeurIPS 2023 challenge and what it is made of."""
    measures = {"quality": "Forgetting quality", "mean_epsilon": "Mean ε", "score": "Score"}
    return Table(
        "audit_challenge",
        "The NeurIPS 2023 challenge",
        ("Method", *measures.values()),
        [
            (subject.title, *(subject.findings.get(("challenge", name)) for name in measures))
            for subject in audited.everyone
            if any(audit == "challenge" for audit, _ in subject.findings)
        ],
        "The score is the quality of forgetting times the accuracy on R and on T, each over the "
        "oracles’. The row of retrained models is as high as chance and so few models let it be.",
        bounded=frozenset(measures.values()),
    )


def population(audited: Audited) -> Table:
    """Makes a table of the audits of single models, as means over the seeds."""
    # Only columns that there are numbers for.
    titles = {
        name: title
        for name, title in COLUMNS.items()
        if any(name in subject.columns for subject in audited.everyone)
    }
    return Table(
        "audit_population",
        "Audits of single models",
        ("Method", *titles.values()),
        [
            (subject.title, *(subject.columns.get(name) for name in titles))
            for subject in audited.everyone
            if subject.columns
        ],
        "Means over the seeds and 95 % Student-t half-widths. Gaps are distances from the oracle "
        "of the same seed; “by entropy” and so on are MIA gaps by other signals. JS is the "
        "Jensen–Shannon divergence on S in nats. The row of retrained models is a second oracle.",
    )


def models(audited: Audited) -> Table:
    """Makes a table of how many models the audit trained and how many were there already."""
    titles = {"trained": "Trained", "reused": "Reused", "seconds": "Seconds"}
    counted = {name: title for name, title in titles.items() if name in audited.counts}
    kinds = dict.fromkeys(kind for name in counted for kind in audited.counts[name])
    return Table(
        "audit_models",
        "The models looked at",
        ("Kind", *counted.values()),
        [(kind, *(audited.counts[name].get(kind) for name in counted)) for kind in kinds],
        "Models that were there already were reused.",
    )
