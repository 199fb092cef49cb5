"""Pipelines of the shipped configurations, from images to the report, with a linear model."""

import numpy as np
import pytest
from rich.console import Console

from rumjax import launch
from rumjax.lab import experiment, pipeline
from rumjax.lab.workdir import WorkDirectory
from tests.shipped import CONFIGS, PAPER, shrunk, with_images

ALIKE = {*PAPER, "audit.py", "requests.py"} - {"cifar10_rum.py", "fashion_mnist_rum.py"}
"""configurations of which another is much alike"""


@pytest.fixture(
    params=[
        pytest.param(path.name, marks=pytest.mark.lengthy if path.name in ALIKE else ())
        for path in CONFIGS
    ]
)
def config(request):
    return launch.configuration(request.param)


def test_the_whole_pipeline_runs(config, tmp_path):
    built = experiment.build(with_images(shrunk(config), tmp_path / "data.npz", 8, 3, 10))
    with WorkDirectory(tmp_path / "run") as work:
        rows = pipeline.run_experiment(built, work, console=Console(quiet=True), figures=False)
    assert (tmp_path / "run" / "study.html").exists() == ("study" in config)
    assert (tmp_path / "run" / "audit.html").exists() == ("audit" in config)
    lines = {"original", "retrain_reference", "retrain_second", *built.config.methods}
    assert {row["name"] for row in rows} == lines
    assert all(np.isfinite(row["tow"]) for row in rows)
    for case in built.cases:
        assert (tmp_path / "run" / case.folder / "report.html").exists()
