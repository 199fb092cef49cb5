"""Which figures the report of a run has."""

from rumjax.lab.report import drawing, method_figures, score_figures
from rumjax.lab.report.drawing import Picture
from rumjax.lab.report.score_figures import Scored
from rumjax.lab.report.tables import Results


def draw(results: Results, scored: Scored | None) -> list[Picture]:
    """Draws every figure that there are numbers for."""
    pictures: list[Picture] = []
    with drawing.style():
        # Methods, by what they reach and by what they cost.
        if results.methods:
            pictures += [method_figures.tug_of_war(results), method_figures.accuracies(results)]
            by_part = [f"tow_{part}" for part in scored.parts] if scored else []
            measured = [name for name in by_part if name in results.measures]
            if measured:
                pictures.append(method_figures.by_part(results, measured))
            pictures.append(method_figures.costs(results))

        # Scores, and the examples that were chosen by them.
        if scored is not None:
            pictures += [score_figures.histogram(scored), score_figures.examples(scored)]
            if scored.proxy is not None:
                pictures.append(score_figures.agreement(scored, scored.proxy))
            if scored.stability:
                pictures.append(score_figures.stability(scored.stability))
    return pictures
