"""Every file of a run is named once, made by a stage or by the report, and told of by `--help`."""

import fnmatch

import pytest

from rumjax import launch
from rumjax.__main__ import COMMANDS, main
from rumjax.lab import dependencies, experiment, files


def claimed(run):
    """Patterns of all files that the stages of a run make, and those that each start writes."""
    written = (*files.REPORT_FILES, files.LeftFile(".lock*", ""))
    about = [file.pattern for file in files.OTHER_FILES if file.pattern.endswith(".json")]
    by_case = [prefix + file.pattern for prefix in dependencies.prefixes(run) for file in written]
    made = [pattern for patterns in dependencies.patterns(run).values() for pattern in patterns]
    return [*made, *by_case, *about]


def test_every_file_that_a_run_leaves_is_claimed(place, untouched):
    run = experiment.build(launch.configuration(str(place / "tiny.py")))
    patterns = claimed(run)
    names = [str(path.relative_to(untouched)) for path in untouched.rglob("*") if path.is_file()]
    unclaimed = [
        name
        for name in names
        # A pattern that names a folder, a saved model for instance, claims what is in it.
        if not any(
            fnmatch.fnmatch(name, each) or fnmatch.fnmatch(name, f"{each}/*") for each in patterns
        )
    ]
    assert names
    assert not unclaimed


def test_every_stage_makes_files_that_no_other_makes(place):
    run = experiment.build(launch.configuration(str(place / "tiny.py")))
    patterns = [each for made in dependencies.patterns(run).values() for each in made]
    assert len(patterns) == len(set(patterns))


@pytest.fixture
def told(capsys):
    with pytest.raises(SystemExit):
        launch.main(["--help"])
    return capsys.readouterr().out


def test_help_tells_of_every_stage_and_every_file(told, untouched):
    assert all(stage in told for stage in files.STAGES)
    assert ", ".join(files.STAGES) in " ".join(told.split())
    for path in untouched.iterdir():
        if path.name != ".lock":
            assert path.name in told, path.name


@pytest.mark.parametrize(
    "option",
    ["per_device", "by memorization: size", "criterion", "share", "kind proxies: size", "schedule"],
)
def test_help_tells_of_every_option_of_every_section(told, option):
    assert option in told


def test_all_commands_are_one(capsys, tmp_path):
    assert main([]) == 0
    usage = capsys.readouterr().out
    assert all(command in usage for command in COMMANDS)
    assert main(["lunch"]) == 2
    assert "usage" in capsys.readouterr().err
    assert main(["launch", "--config=nowhere.py"]) == 1
    assert "nowhere" in capsys.readouterr().err
