"""The numbers of audits as tables."""

from collections.abc import Sequence

from rumjax.lab.report.audits.base import Audited
from rumjax.lab.report.exports import Cell, Table

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
    """Every table that there are numbers for."""
    found = [
        ranking(audited),
        ranks(audited),
        agreement(audited),
        attacks(audited),
        klom(audited),
        challenge(audited),
        population(audited),
        models(audited),
    ]
    return [each for each in found if each.rows and len(each.columns) > 1]


def ranking(audited: Audited) -> Table:
    """A number for every method and audit, the best of each audit marked."""
    shown = audited.headlines
    everyone = audited.everyone
    first = [audited.ranks(each) for each in shown]
    return Table(
        "audit_ranking",
        "Every method under every audit",
        ("Method", *(each.title for each in shown)),
        [(each.shown, *(each.cell(headline) for headline in shown)) for each in everyone],
        f"{CALIBRATION} Bold is the best method: for attacks the one nearest to retrained models, "
        "for KLOM and gaps the lowest, for scores the highest. In brackets or behind ± are 95 % "
        "intervals. Methods are in the order of their U-LiRA accuracy.",
        frozenset(
            (row, column)
            for row, each in enumerate(everyone)
            for column, found in enumerate(first, start=1)
            if found.get(each.name) == 1
        ),
    )


def ranks(audited: Audited) -> Table:
    """The rank of every method by every audit."""
    shown = [each for each in audited.headlines if audited.ranks(each)]
    found = [audited.ranks(each) for each in shown]
    return Table(
        "audit_ranks",
        "Ranks",
        ("Method", *(each.title for each in shown)),
        [(each.shown, *(one.get(each.name) for one in found)) for each in audited.ordered],
        "1 is nearest to retraining; methods that are as near share a rank.",
    )


def agreement(audited: Audited) -> Table:
    """How alike two audits rank the methods."""
    shown = [each for each in audited.headlines if audited.ranks(each)]
    several = len(audited.methods) > 2
    return Table(
        "audit_agreement",
        "How alike audits rank the methods",
        ("Audit", *(each.title for each in shown)),
        [(one.title, *(audited.agreement(one, other) for other in shown)) for one in shown]
        if several
        else [],
        "Spearman’s ρ of the ranks: 1 for the same order, −1 for the reverse.",
    )


def attacks(audited: Audited) -> Table:
    """All that is said of attacks on single examples."""
    rows: list[Sequence[Cell]] = [
        (title, each.shown, *(each.findings.get((attack, measure)) for measure in RATES))
        for attack, title in ATTACKS.items()
        for each in audited.everyone
        if any(audit == attack for audit, _ in each.findings)
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
    )


def klom(audited: Audited) -> Table:
    """KLOM over S, R and T, with and without its bias."""
    places = {"forget": "S", "retain": "R", "test": "T"}
    measures = {"mean": "mean", "p95": "95 %", "p99": "99 %"}
    forms = {"klom": "KLOM", "klom_corrected": "corrected"}
    rows: list[Sequence[Cell]] = []
    for place, shown in places.items():
        for each in audited.everyone:
            names = [(form, f"{place}_{measure}") for form in forms for measure in measures]
            cells = [each.findings.get(name) for name in names]
            if any(cells):
                rows.append((shown, each.shown, *cells))
    return Table(
        "audit_klom",
        "KLOM: how far margins are from the oracles’",
        (
            "Set",
            "Method",
            *(f"{form}, {measure}" for form in forms.values() for measure in measures.values()),
        ),
        rows,
        "KL divergence of margins, in nats: the mean over examples and its percentiles. The row of "
        "retrained models holds other oracles against the oracles, so that it shows the bias; "
        "the corrected estimate has less of it.",
    )


def challenge(audited: Audited) -> Table:
    """The score of the NeurIPS 2023 challenge and what it is made of."""
    measures = {"quality": "Forgetting quality", "mean_epsilon": "Mean ε", "score": "Score"}
    return Table(
        "audit_challenge",
        "The NeurIPS 2023 challenge",
        ("Method", *measures.values()),
        [
            (each.shown, *(each.findings.get(("challenge", measure)) for measure in measures))
            for each in audited.everyone
            if any(audit == "challenge" for audit, _ in each.findings)
        ],
        "The score is the quality of forgetting times the accuracy on R and on T, each over the "
        "oracles’. The row of retrained models is as high as chance and so few models let it be.",
    )


def population(audited: Audited) -> Table:
    """What is said of single models, as means over the seeds."""
    shown = {
        name: title
        for name, title in COLUMNS.items()
        if any(name in each.columns for each in audited.everyone)
    }
    return Table(
        "audit_population",
        "Audits of single models",
        ("Method", *shown.values()),
        [
            (each.shown, *(each.columns.get(name) for name in shown))
            for each in audited.everyone
            if each.columns
        ],
        "Means over the seeds and 95 % Student-t half-widths. Gaps are distances from the oracle "
        "of the same seed; “by entropy” and so on are MIA gaps by other signals. JS is the "
        "Jensen–Shannon divergence on S in nats. The row of retrained models is a second oracle.",
    )


def models(audited: Audited) -> Table:
    """How many models the audit trained and how many it found."""
    titles = {"trained": "Trained", "reused": "Reused", "seconds": "Seconds"}
    shown = {name: title for name, title in titles.items() if name in audited.counts}
    kinds = dict.fromkeys(kind for name in shown for kind in audited.counts[name])
    return Table(
        "audit_models",
        "The models looked at",
        ("Kind", *shown.values()),
        [(kind, *(audited.counts[name].get(kind) for name in shown)) for kind in kinds],
        "Models that were there already were reused.",
    )
