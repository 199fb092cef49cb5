"""The workers of an engine, as a run employs them: who makes what, when, and how much at a time."""

import contextlib
import functools
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from rich.console import Console

from rumjax.errors import RumjaxError
from rumjax.lab import progress
from rumjax.lab.engines import Engine, failure, width
from rumjax.lab.experiment import Run
from rumjax.lab.jobs import Address, Batch, Name, Order, Report, carry_out, code
from rumjax.lab.workdir import WorkDirectory

ENOUGH = 30.0
"""Seconds that a job should take: much more than handing it out, and little to lose."""
SIDE_BY_SIDE = 16
"""Larger jobs have a multiple of so many models for each device, so that few are filled up."""
LOOK_AGAIN = 2.0
"""Seconds after which workers are counted again, although no job is done."""


class Crew:
    """The workers of an engine, as one start of a run employs them."""

    def __init__(self, engine: Engine, run: Run, work: WorkDirectory, console: Console) -> None:
        """Employs an engine's workers; nothing is asked of them yet."""
        self.engine, self.console = engine, console
        configuration = repr(dict(run.config.written))
        self.address = Address(str(work.path), uuid.uuid4().hex, code(), configuration)
        self.said: set[str] = set()

    @functools.cached_property
    def devices(self) -> tuple[str, ...]:
        """The kinds of a worker's devices, of the first one that answers."""
        order = Order(self.address, "", "", ("the devices of a worker",))
        return self._result(self._submitted(order), order).devices

    def make(self, batches: Sequence[Batch]) -> None:
        """Has batches made, each name as soon as those are that it waits for."""
        queues = {batch: Queue(batch, len(self.devices)) for batch in batches}
        running: dict[Future[Report], tuple[Queue, Order]] = {}
        bars: dict[str, int] = defaultdict(int)
        for batch in batches:
            if batch.advance is None:
                bars[batch.title] += len(batch.names)
        with progress.stages(self.console, bars, "made") as advance:
            try:
                while any(queue.undone for queue in queues.values()):
                    self._hand_out(queues, running)
                    done, _ = wait(running, timeout=LOOK_AGAIN, return_when=FIRST_COMPLETED)
                    for future in done:
                        queue, order = running.pop(future)
                        report = self._result(future, order)
                        queue.note(order, report)
                        self._say(report.notes)
                        said = f"{report.worker}: {len(order.names)} in {report.seconds:.1f} s"
                        own = queue.batch.advance
                        for _ in order.names:
                            own(said) if own else advance(queue.batch.title, said)
            finally:
                for future in running:
                    future.cancel()

    def _hand_out(
        self, queues: "dict[Batch, Queue]", running: "dict[Future[Report], tuple[Queue, Order]]"
    ) -> None:
        """Gives every worker a job, and has another one ready for it."""
        workers = width(self.engine)
        for queue in queues.values():
            before = [queues[batch] for batch in queue.batch.after if batch in queues]
            while len(running) < 2 * workers and (names := queue.take(workers, before)):
                order = self._order(queue.batch, names)
                running[self._submitted(order)] = queue, order

    def _order(self, batch: Batch, names: tuple[Name, ...]) -> Order:
        case = getattr(batch.context, "case", None)
        return Order(self.address, batch.stage, case.folder if case else "", names)

    def _submitted(self, order: Order) -> "Future[Report]":
        """Has the engine carry an order out, and returns the future of its report."""
        with translated(order):
            return self.engine.submit(carry_out, order)

    def _result(self, future: "Future[Report]", order: Order) -> Report:
        """Returns what a job has come to."""
        with translated(order):
            return future.result()

    def _say(self, notes: Iterable[str]) -> None:
        """Prints what workers say, once where several say the same."""
        for note in notes:
            if note not in self.said:
                self.said.add(note)
                self.console.print(note, markup=False, highlight=False, soft_wrap=True)


class Queue:
    """The names of a batch, handed out in jobs of about half a minute."""

    def __init__(self, batch: Batch, devices: int) -> None:
        """Sorts names by kind or method, since a job's models are to be of one program."""
        self.batch, self.devices = batch, devices
        self.left = Counter(map(seed_of, batch.names))
        self.waiting: dict[str, list[Name]] = defaultdict(list)
        self.seconds: dict[str, float] = {}
        for name in batch.names:
            self.waiting[kind_of(name)].append(name)

    @property
    def undone(self) -> int:
        """The number of names that are waiting or at hand."""
        return self.left.total()

    def holds(self, name: Name) -> bool:
        """Says whether a name of a later batch has to wait for this one."""
        seed = seed_of(name)
        of_no_seed = seed is None or self.left[None]
        return bool(self.undone if of_no_seed else self.left[seed])

    def take(self, workers: int, before: "Sequence[Queue]" = ()) -> tuple[Name, ...]:
        """Takes the names of the next job, of those that need not wait for others; maybe none.

        The first have a model for each device of a worker; others as many of one kind as `ENOUGH`
        seconds allow, as far as each worker gets two jobs more. A kind that was not seen yet is
        taken to be as slow as the slowest that was.
        """
        ready = next(filter(None, (self._ready(kind, before) for kind in self.waiting)), None)
        if ready is None:
            return ()
        kind, size = kind_of(ready[0]), self.devices
        if self.seconds:
            seconds = self.seconds.get(kind, max(self.seconds.values()))
            waiting = sum(map(len, self.waiting.values()))
            size = min(int(ENOUGH / seconds), -(-waiting // (2 * workers)))
            for whole in (self.devices * SIDE_BY_SIDE, self.devices):
                if size > whole:
                    size = size // whole * whole
            size = max(size, self.devices)
        taken = ready[:size]
        self.waiting[kind] = [name for name in self.waiting[kind] if name not in taken]
        if not self.waiting[kind]:
            del self.waiting[kind]
        return tuple(taken)

    def _ready(self, kind: str, before: "Sequence[Queue]") -> list[Name]:
        """Returns the names of a kind that need not wait for others."""
        return [name for name in self.waiting[kind] if not any(one.holds(name) for one in before)]

    def note(self, order: Order, report: Report) -> None:
        """Notes that a job is done, and how long each of its names took."""
        self.left.subtract(map(seed_of, order.names))
        self.seconds[kind_of(order.names[0])] = max(report.seconds / len(order.names), 1e-3)


@contextlib.contextmanager
def translated(order: Order) -> Iterator[None]:
    """Turns what an engine raises about an order into an error of rumjax's.

    Raises:
      RumjaxError: the job, or the engine, has failed.
    """
    try:
        yield
    except RumjaxError:
        raise
    except Exception as error:
        raise failure(error, str(order)) or error from error


def kind_of(name: Name) -> str:
    """Returns the kind or method of a name, empty where it has none."""
    return str(name[0]) if isinstance(name, tuple) else ""


def seed_of(name: Name) -> int | None:
    """Returns the seed of a name, or the number of its model, None where it has neither."""
    last = name[-1] if isinstance(name, tuple) else name
    return last if isinstance(last, int) else None
