"""Writes the memorization scores of a run as one small file, for others to use without its bank.

    python -m rumjax.publish --config=difficulty.py:fashion_mnist --workdir=runs/first scores.npz

Images are known by their content, so that whoever has them finds their scores, whatever the order
and split; `rumjax.scores.load_published` reads such a file from rumjax/scores/published.
"""

import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console

from rumjax.errors import InvalidInputError, WorkDirectoryError
from rumjax.launch import argument_parser, configuration, guarded, parse


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str], console: Console) -> None:
    parser = argument_parser("python -m rumjax.publish", __doc__ or "")
    parser.add_argument("out", metavar="OUT.npz", help="the file to write")
    parser.add_argument(
        "--files",
        metavar="DIR",
        help="MNIST's kind of files of the same data, in whose order images are numbered; without "
        "it they are numbered as in the source of the data",
    )
    arguments, overrides = parse(parser, argv, console)
    config = configuration(arguments.config, overrides)
    from rumjax.lab.experiment import build
    from rumjax.lab.publishing import publish_scores
    from rumjax.lab.workdir import WorkDirectory

    # Nothing is made where there is nothing, and no other kind of file is overwritten.
    out = pathlib.Path(arguments.out).expanduser()
    if out.suffix != ".npz" or "\0" in arguments.out:
        raise InvalidInputError(f"OUT.npz: wanted a file that ends in .npz, got {arguments.out!r}")
    run = build(config)
    folder = arguments.workdir or f"runs/{run.name}"
    if "://" not in folder and not pathlib.Path(folder).expanduser().is_dir():
        raise WorkDirectoryError(f"{folder} does not exist; give the --workdir of a finished run")
    with WorkDirectory(folder, holder="publish") as work:
        about = publish_scores(run, work, out, arguments.files)
    console.print_json(data=about)


if __name__ == "__main__":
    sys.exit(main())
