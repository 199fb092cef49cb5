"""Runs an experiment from images to a report.

    python -m rumjax.launch --config=fashion_mnist_rum.py --workdir=runs/first

The same command in the same directory goes on where it stopped. Started by several processes on a
shared directory, the first has its models made by all of them.
"""

import argparse
import contextlib
import functools
import os
import pathlib
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict
from rich.console import Console

import rumjax
from rumjax.errors import EngineError, InvalidInputError, RumjaxError, check_choice
from rumjax.lab import files
from rumjax.lab.explaining import describe_sections, explain, listing
from rumjax.lab.files import STAGES
from rumjax.lab.output import unfailing_streams
from rumjax.lab.overrides import override
from rumjax.lab.starting import add_engine, on_run, share
from rumjax.lab.values import plain

if TYPE_CHECKING:
    from rumjax.lab.engines import Engine
    from rumjax.lab.experiment import Run
    from rumjax.lab.workdir import WorkDirectory

PACKAGED = pathlib.Path(rumjax.__file__).parent
PLACES = (pathlib.Path("configs"), PACKAGED / "configs", PACKAGED.parent / "configs")

DIVERGED, START_AGAIN, INTERRUPTED = 4, 75, 130
"""Exit statuses: rumjax's own, EX_TEMPFAIL of sysexits.h, and what shells give for Ctrl-C."""

EPILOG = """\
configurations:
  {names}

Every option can be overridden, whether the configuration gives it or not, for example
  --config.seeds=5 --config.training.learning_rate=0.05 --config.data.name=cifar10
  "--config.model.options={{'widths': (8, 16, 32)}}" --config.attack.samples=None
--config=FILE --help shows the values of a configuration.

sections of a configuration, and their options:
{sections}

stages of a run, in order:
{stages}

results, in the work directory:
{results}
  cases/NAME/            the same for each forget set of a study
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    It is 0 when all is done, 1 after an error that starting again cannot mend, 2 for unknown
    arguments, 4 when all is done and some models diverged, 75 when told to stop by SIGTERM or when
    the engine is gone, 130 when interrupted.
    """
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str], console: Console) -> int:
    parser = argument_parser("python -m rumjax.launch", __doc__ or "")
    parser.add_argument(
        "--recompute",
        action="append",
        default=[],
        metavar="STAGE",
        help=f"make a stage anew, with those after it: {', '.join(STAGES)}, or unlearn/NAME for "
        "one method; may be given several times",
    )
    parser.add_argument(
        "--share",
        type=share,
        metavar="I/N",
        help="train models I, I + N, I + 2 N … of the bank and end: for jobs that have a directory "
        "in common and no network",
    )
    add_engine(parser)
    arguments, overrides = parse(parser, argv, console)
    config = configuration(arguments.config, overrides)
    return on_run(arguments, config, console, functools.partial(_experiment, arguments, console))


def _experiment(
    arguments: argparse.Namespace,
    console: Console,
    run: "Run",
    work: "WorkDirectory",
    engine: "Engine",
) -> int:
    # Imported late: once JAX has looked at its devices, their number is settled.
    from rumjax.lab import pipeline

    if arguments.share is not None:
        pipeline.train_share(run, work, *arguments.share, console=console)
        return 0
    pipeline.run_experiment(
        run, work, console=console, recompute=arguments.recompute, engine=engine
    )

    # What diverged is in the report, and in the status for scripts.
    diverged = pipeline.diverged_models(run, work)
    if diverged:
        console.print(f"diverged: {', '.join(diverged)}", markup=False, soft_wrap=True)
    return DIVERGED if diverged else 0


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str], console: Console
) -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments of a command, and the overrides.

    Where help is asked for, it shows that instead, with the values of the configuration if there is
    one, and leaves.
    """
    if {"-h", "--help"} & set(argv):
        wanted = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        wanted.add_argument("--config")
        rest = [argument for argument in argv if argument not in ("-h", "--help")]
        arguments, others = wanted.parse_known_args(rest)
        if arguments.config is not None:
            overrides = [argument for argument in others if argument.startswith("--config.")]
            shown = explain(configuration(arguments.config, overrides))
            console.print(shown, markup=False, highlight=False, soft_wrap=True)
            raise SystemExit(0)
    return parser.parse_known_args(argv)


def guarded(body: Callable[[Sequence[str], Console], int | None], argv: Sequence[str]) -> int:
    """Calls the body of a command, and turns errors that users can mend into one message.

    Returns:
      The exit status, which is the body's unless something went wrong.
    """
    with unfailing_streams():
        return _status(body, argv)


def _status(body: Callable[[Sequence[str], Console], int | None], argv: Sequence[str]) -> int:
    """Calls the body of a command, and returns the exit status."""
    console = Console(stderr=True)
    try:
        with terminable():
            return body(argv, Console()) or 0
    except RumjaxError as error:
        console.print(f"[red]error:[/red] {type(error).__name__}: ", end="")
        # Left to the terminal to wrap, so that paths can be copied.
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return START_AGAIN if isinstance(error, EngineError) else 1
    except KeyboardInterrupt:
        console.print("interrupted; start the same command again to go on")
        return INTERRUPTED
    except Terminated:
        console.print("told to stop; start the same command again to go on")
        return START_AGAIN


class Terminated(BaseException):
    """SIGTERM has come: the machine is wanted by someone else, or the time is up."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Raises `Terminated` where SIGTERM finds the program; files stay whole or absent."""

    def terminate(*_: object) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def argument_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Returns a parser of the arguments that every command on a configuration has."""
    # What follows the arguments is made from the code, so that it is complete.
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=EPILOG.format(
            names="\n  ".join(known_configurations()),
            sections=describe_sections(),
            stages=listing(STAGES.items()),
            results=listing(files.LEFT),
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    # The arguments that every command has.
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="a path, or a bare file name: looked up in the working directory, in configs/, and "
        "among the configurations that come with rumjax; for a study, followed by a colon and a "
        "setting, difficulty.py:cifar10 for instance",
    )
    parser.add_argument(
        "--workdir",
        type=folder,
        metavar="DIR",
        help="where results go (default: runs/ and the config's name)",
    )
    parser.add_argument(
        "--cpu_devices",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="devices to split a CPU into (default: %(default)s); results do not depend on it",
    )
    return parser


def folder(text: str) -> str:
    """Returns the name of a folder, if it is one.

    Raises:
      argparse.ArgumentTypeError: it is empty, as of a variable that is not set.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("wanted a folder, got ''; name one, or leave this out")
    return text


def known_configurations() -> list[str]:
    """Lists the bare names of the configurations that can be found."""
    return sorted({found.name for place in PLACES for found in place.glob("*.py")})


def find_configuration(name: str) -> pathlib.Path:
    """Finds the file that `--config` means.

    Raises:
      InvalidInputError: there is none; lists the names that there are.
    """
    given = pathlib.Path(name).expanduser()
    for path in (given, *(place / given for place in PLACES)):
        for candidate in (path, pathlib.Path(f"{path}.py")):
            with contextlib.suppress(OSError):  # a name that no file can have
                if candidate.is_file():
                    return candidate
    check_choice("configuration", name, known_configurations())
    raise InvalidInputError(f"configuration {name!r}: there is no such file")


def configuration(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a configuration and applies overrides of the form `--config.section.key=value`.

    What follows the file's name after a colon is the argument of its `get_config`.

    Raises:
      InvalidInputError: there is no such file, it has no `get_config`, or an override is unknown,
        malformed or of another type.

    Examples:
      >>> configuration("fashion_mnist_rum.py", ["--config.seeds=2"])["seeds"]
      2
    """
    file, _, setting = name.partition(".py:")
    path = find_configuration(f"{file}.py" if setting else name)
    arguments = [setting] if setting else []
    try:
        config = runpy.run_path(str(path))["get_config"](*arguments)
        if config is None:
            raise TypeError("get_config() returned nothing")
        config = dict(config) if isinstance(config, dict) else ConfigDict(config)
        plain(config)
    except InvalidInputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the file's author got wrong
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f", line {each.lineno}" for each in frames if each.filename == str(path)]
        raise InvalidInputError(
            f"configuration {path}{''.join(lines[-1:])}: {type(error).__name__}: {error}; "
            "it must define get_config() returning a ConfigDict"
        ) from error
    override(config, overrides)
    return plain(config)


if __name__ == "__main__":
    sys.exit(main())
