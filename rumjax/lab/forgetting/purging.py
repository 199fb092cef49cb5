"""Removes what has seen forgotten examples and is not needed to serve the delivered model."""

from rich.console import Console

from rumjax.errors import InvalidInputError
from rumjax.lab.forgetting.describing import derived
from rumjax.lab.forgetting.ledger import Ledger
from rumjax.lab.workdir import WorkDirectory


def purge(work: WorkDirectory, console: Console) -> list[str]:
    """Deletes models and results that were made with examples that are forgotten now.

    The delivered model, the log, the requests and the certificates stay. Without the model that a
    batch began with, its result cannot be made again any more.

    Returns:
      What was deleted.

    Raises:
      InvalidInputError: no batch was fulfilled yet, so that nothing would be left, or one was begun
        that needs some of it.
    """
    log = Ledger(work)
    last = log.last("verified")
    if last is None:
        raise InvalidInputError(
            f"--purge: no request in {work.path} is fulfilled yet, so that no model would be left"
        )
    if log.open_batch is not None:
        raise InvalidInputError(
            f"--purge: batch {log.open_batch} was begun and is not finished; start it again first"
        )
    doomed = [path for path, _ in derived(work, last.batch)]
    if not doomed:
        console.print("there is nothing to purge")
        return []

    # The log says it first: what a stop leaves over is deleted by the next purge.
    log.append("purged", last.batch, last.requests, deleted=doomed)
    for name in doomed:
        console.print(f"deleted {name}", markup=False, highlight=False, soft_wrap=True)
        work.delete(name)
    console.print(
        "models and results outside this directory, the checkpoint that the original model came in "
        "among them, are not touched",
        soft_wrap=True,
    )
    return doomed
