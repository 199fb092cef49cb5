"""What only shows or keeps things never stops the work."""

import io
import os
import subprocess
import sys

import jax
import pytest
from rich.console import Console

from rumjax import launch
from rumjax.errors import WorkDirectoryError
from rumjax.lab import devices, progress, report
from rumjax.lab.output import Unfailing, unfailing
from rumjax.lab.workdir import WorkDirectory
from tests.runs import start


class Broken(io.StringIO):
    """A stream that fails at everything, as often as it is tried."""

    def __init__(self, error):
        super().__init__()
        self.error, self.tries = error, 0

    def write(self, text):
        self.tries += 1
        raise self.error

    flush = lambda self: self.write("")  # noqa: E731


def encoded(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


STREAMS = {
    "ascii": lambda: encoded("ascii"),
    "cp1252": lambda: encoded("cp1252"),
    "broken pipe": lambda: Broken(BrokenPipeError()),
    "full disk": lambda: Broken(OSError(28, "No space left on device")),
    "closed": lambda: Broken(ValueError("I/O operation on closed file")),
    "none": lambda: None,
}


@pytest.mark.usefixtures("no_figures", "no_training")
@pytest.mark.parametrize("kind", STREAMS)
def test_a_run_ends_well_whatever_its_output_is(place, run, monkeypatch, kind):
    (run / "report.html").unlink()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, STREAMS[kind]())
    assert start(place / "tiny.py", run) == 0
    assert (run / "report.html").exists()


@pytest.mark.parametrize("kind", STREAMS)
def test_help_and_refusals_have_their_status_whatever_the_output_is(place, monkeypatch, kind):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, STREAMS[kind]())
    assert launch.main(["--config=ü.py"]) == 1
    with pytest.raises(SystemExit) as raised:
        launch.main(["--help"])
    assert raised.value.code == 0


def test_signs_that_an_encoding_lacks_become_question_marks():
    stream = encoded("ascii")
    shown = Unfailing(stream)
    assert shown.write("θ → 1 ± 2\n") == len("θ → 1 ± 2\n")
    assert stream.buffer.getvalue() == b"? ? 1 ? 2\n"


def test_a_stream_that_failed_is_not_tried_again():
    stream = Broken(BrokenPipeError())
    shown = Unfailing(stream)
    for _ in range(3):
        shown.write("a")
        shown.flush()
    assert stream.tries == 1


@pytest.mark.parametrize("target", ["/dev/full", "closed"])
def test_a_process_ends_well_whose_last_words_nobody_takes(target):
    """Python itself flushes at the end, and would end with status 120."""
    code = (
        "from rumjax.lab.output import unfailing_streams\n"
        "with unfailing_streams(): print('θ' * 10_000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", code]
    if target == "closed":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(target, os.O_WRONLY)
    try:
        assert subprocess.run(command, stdout=writing, env=environment).returncode == 0
    finally:
        os.close(writing)


def test_a_bar_that_cannot_be_drawn_leaves_the_work_alone():
    console = unfailing(Console(file=Broken(BrokenPipeError()), force_terminal=True, width=80))
    done = []
    with progress.stage(console, "Bank", 2, "models") as advance:
        # A second bar at a time is refused by some versions of rich.
        with progress.stage(console, "Within", 1, "models") as also:
            also("[/red] is no markup")
        for _ in range(3):
            advance("[/red]")
            done.append(1)
    assert len(done) == 3
    with (
        pytest.raises(KeyError, match="of the work"),
        progress.stage(console, "Bank", 2, "models"),
    ):
        raise KeyError("of the work")


def test_without_a_home_compiled_programs_are_not_kept(monkeypatch):
    def homeless(_):
        raise RuntimeError("Could not determine home directory.")

    kept = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr("pathlib.Path.expanduser", homeless)
    devices.settle(8)
    assert jax.config.jax_compilation_cache_dir == kept


@pytest.mark.thorough
def test_a_backend_that_matplotlib_does_not_know_makes_no_difference():
    code = "import os; from rumjax.lab.report import drawing; print(os.environ['MPLBACKEND'])"
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "MPLBACKEND": "Qt4Agg"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "Qt4Agg\n")


# Pages


def test_a_figure_that_fails_is_missing_from_its_page_and_nothing_else(
    place, run, monkeypatch, capsys
):
    def fail(*_, **__):
        raise RuntimeError("no fonts here")

    monkeypatch.setattr("rumjax.lab.report.method_figures._draw_panels", fail)
    monkeypatch.setattr("rumjax.lab.report.score_figures.draw_image", fail)
    for figure in (run / "figures").iterdir():
        figure.unlink()
    assert start(place / "tiny.py", run) == 0
    names = {figure.stem for figure in (run / "figures").iterdir()}
    assert {"time", "scores", "proxy"} <= names
    assert names.isdisjoint({"tow", "accuracy", "parts", "examples"})
    page = (run / "report.html").read_text()
    assert page.count("This figure could not be drawn (RuntimeError: no fonts here)") == 4
    assert page.count("<img") == len(names)
    assert "Tug of war: This figure could not be drawn" in capsys.readouterr().out


def test_a_page_that_fails_is_an_error_once_the_others_are_made(tmp_path):
    shown, made = io.StringIO(), []
    pages = report.Attempts(Console(file=shown, width=200))

    def fail():
        raise WorkDirectoryError("rows/a.json is damaged")

    assert pages.make("the report of first", fail) is None
    assert pages.make("the report of second", lambda: made.append(1) or "rows") == "rows"
    assert pages.make("the page", fail) is None
    assert made == [1]
    assert shown.getvalue().count("could not be made (WorkDirectoryError: rows/a.json") == 2
    with pytest.raises(WorkDirectoryError, match="damaged"):
        pages.finish()
    report.Attempts(Console()).finish()


@pytest.mark.usefixtures("no_figures", "no_training")
def test_a_run_whose_report_fails_has_a_status_that_says_so(place, run, monkeypatch, capsys):
    def fail(*_):
        raise WorkDirectoryError("no room")

    monkeypatch.setattr("rumjax.lab.report.exports.write", fail)
    assert start(place / "tiny.py", run) == 1
    assert "the report of tiny could not be made" in capsys.readouterr().out


def test_class_names_of_any_bytes_can_be_written(tmp_path):
    with WorkDirectory(tmp_path) as work:
        work.write_text("names.csv", b"a\xff".decode(errors="surrogateescape"))
        assert (tmp_path / "names.csv").read_text("utf-8") == r"a\udcff"
