"""Fulfils requests to be forgotten, and certifies what was measured.

    python -m rumjax.forget --config=mine.py --requests=requests.csv --workdir=runs/mine

Requests are a table, CSV or JSON lines, whose columns are request, received, perhaps deadline, and
index, file, tfds_id or sha256 of an example. The same command goes on where it stopped; later
requests go on from the model that was delivered last. With a section `sisa` the model is an
ensemble of shards, of which those that hold the examples are trained again.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from rich.console import Console

from rumjax.errors import InvalidInputError
from rumjax.lab.devices import settle
from rumjax.launch import argument_parser, configuration, guarded, parse

UNUSED = {
    "seed": 0,
    "seeds": 1,
    "bank": {"models": 64, "fraction": 0.5, "seed": 0},
    "forget": {"by": "random", "size": 1},
    "unlearning": {},
    "methods": {},
    "attack": {"samples": None},
}
"""Sections that a run needs and requests do not, for configurations that leave them out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status, see `rumjax.launch.main`.

    It is 3 where no model kept the bounds, so that the one before stays the delivered one.
    """
    return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str], console: Console) -> int:
    parser = argument_parser("python -m rumjax.forget", __doc__ or "")
    next(a for a in parser._actions if a.dest == "config").required = False
    parser.add_argument(
        "--requests", metavar="FILE", help="the table of requests, CSV or JSON lines"
    )
    parser.add_argument(
        "--or-retrain",
        action="store_true",
        help="retrain the model without the examples where no other keeps the bounds",
    )
    parser.add_argument(
        "--sign", metavar="KEY", help="sign certificates with this Ed25519 key (PEM)"
    )
    parser.add_argument(
        "--verify",
        metavar="CERTIFICATE",
        help="check a certificate, the log and the model that it speaks of, and end",
    )
    parser.add_argument(
        "--signed-by",
        metavar="PUBLIC_KEY",
        help="with --verify: the key, 64 hexadecimal digits, that it must be signed with",
    )
    parser.add_argument(
        "--purge",
        action="store_true",
        help="delete what has seen forgotten examples and is not the delivered model, and end",
    )
    arguments, overrides = parse(parser, argv, console)
    check_arguments(arguments)

    # Once JAX has looked at its devices, their number is settled.
    settle(arguments.cpu_devices)
    # Imported late: what imports JAX must not delay a refusal.
    from rumjax.lab import experiment, workdir
    from rumjax.lab.forgetting import fulfilling, purging, verifying

    if arguments.verify:
        place = arguments.workdir or verifying.directory_of(arguments.verify)
        with workdir.WorkDirectory(place) as work:
            checks = verifying.verify(
                arguments.verify, work, console, public_key=arguments.signed_by
            )
        return 1 if any(check.problem for check in checks) else 0
    if arguments.purge:
        with workdir.WorkDirectory(arguments.workdir) as work:
            purging.purge(work, console)
        return 0
    run = experiment.build({**UNUSED, **configuration(arguments.config, overrides)})
    with workdir.WorkDirectory(arguments.workdir or f"runs/{run.name}") as work:
        console.print(f"{run.name} in {work.path}", markup=False, soft_wrap=True)
        return fulfilling.fulfil(
            run,
            work,
            arguments.requests,
            console,
            or_retrain=arguments.or_retrain,
            key=arguments.sign,
        )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks that a command says all that it needs, and that what it is to look at is there.

    Raises:
      InvalidInputError: it does not.
    """
    looks = arguments.verify or arguments.purge
    place = arguments.workdir
    if looks and place and "://" not in place and not pathlib.Path(place).expanduser().is_dir():
        raise InvalidInputError(f"--workdir: there is no directory {place}")
    if arguments.verify:
        return
    if arguments.purge:
        if arguments.workdir is None:
            raise InvalidInputError("--purge: name the directory by --workdir")
        return
    for name, what in (("config", "a configuration"), ("requests", "a table of requests")):
        if getattr(arguments, name) is None:
            raise InvalidInputError(f"--{name} is missing: name {what}; see --help")


if __name__ == "__main__":
    sys.exit(main())
