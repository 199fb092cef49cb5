"""The command `rumjax`, or `python -m rumjax`: one of the commands of the package by name."""

import importlib
import sys
from collections.abc import Sequence

from rumjax.lab.output import unfailing_streams

COMMANDS = {
    "launch": "runs an experiment from images to a report",
    "tune": "searches hyper-parameters, and selections of RUM",
    "forget": "fulfils requests to be forgotten, and certifies what was measured",
    "plan": "says what a run will take in memory and time, on devices that need not be there",
    "publish": "writes the memorization scores of a run as one small file",
}
"""The commands, each a module of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command with the arguments that follow its name; returns its exit status."""
    name, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in COMMANDS:
        status: int = importlib.import_module(f"rumjax.{name}").main(arguments)
        return status
    lines = [f"  {command:<10} {about}" for command, about in COMMANDS.items()]
    usage = "\n".join(["usage: rumjax COMMAND --config=FILE [...]", "", *lines, ""])
    is_help = name in ("--help", "-h")
    with unfailing_streams():
        print(
            usage + "rumjax COMMAND --help says more.", file=sys.stdout if is_help else sys.stderr
        )
    return 0 if is_help else 2


if __name__ == "__main__":
    sys.exit(main())
