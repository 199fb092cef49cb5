"""Writes the memorization scores of a run as one small file, for others to use without its bank.

    python -m rumjax.publish --config=difficulty.py:fashion_mnist --workdir=runs/first scores.npz

With --pack it writes models instead, with what they are to forget and the run's own results, see
`rumjax.benchmarks`:

    python -m rumjax.publish --config=fashion_mnist_rum.py --pack my_pack.safetensors

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
    parser.add_argument("out", metavar="OUT", help="the file to write: .npz, or .safetensors")
    parser.add_argument("--pack", action="store_true", help="writes models in place of scores")
    parser.add_argument(
        "--files",
        metavar="DIR",
        help="MNIST's kind of files of the same data, in whose order images are numbered; without "
        "it they are numbered as in the source of the data",
    )
    arguments, overrides = parse(parser, argv, console)
    config = configuration(arguments.config, overrides)
    from rumjax.lab.experiment import build
    from rumjax.lab.publishing import publish_pack, publish_scores
    from rumjax.lab.workdir import WorkDirectory

    # Nothing is made where there is nothing, and no other kind of file is overwritten.
    out = pathlib.Path(arguments.out).expanduser()
    ending = ".safetensors" if arguments.pack else ".npz"
    if out.suffix != ending or "\0" in arguments.out:
        raise InvalidInputError(f"OUT: wanted a file that ends in {ending}, got {arguments.out!r}")
    if arguments.pack and arguments.files is not None:
        raise InvalidInputError("--files: images of a pack are numbered by its own data")
    run = build(config)
    folder = arguments.workdir or f"runs/{run.name}"
    if "://" not in folder and not pathlib.Path(folder).expanduser().is_dir():
        raise WorkDirectoryError(f"{folder} does not exist; give the --workdir of a finished run")
    with WorkDirectory(folder, holder="publish") as work:
        if arguments.pack:
            about = publish_pack(run, work, out)
        else:
            about = publish_scores(run, work, out, arguments.files)
    console.print_json(data=about)


if __name__ == "__main__":
    sys.exit(main())
