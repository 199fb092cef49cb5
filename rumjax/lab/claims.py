"""What each of several processes is training, so that no two train the same models."""

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rumjax.errors import WorkDirectoryError
from rumjax.lab import files
from rumjax.lab.cluster import Process
from rumjax.lab.workdir import WorkDirectory

HEARTBEAT = 2.0
"""Seconds between signs of life of a process that is training."""
STALE = 60.0
"""Seconds without a sign, after which others take over what it was training."""


class Claims:
    """Says what this process is training, in a file that changes for as long as it lives."""

    def __init__(self, work: WorkDirectory, process: Process, stale_after: float = STALE) -> None:
        """Starts with no models; signs of life are given within a `with` block."""
        self.work, self.process, self.stale_after = work, process, stale_after
        self.mine: list[int] = []
        self.beats = 0
        self.seen: dict[str, tuple[Any, float]] = {}
        self.over = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> "Claims":
        """Begins to give signs of life, if there are other processes."""
        self.thread = threading.Thread(target=self._beat, daemon=True)
        if self.process.count > 1:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops, and takes the claim back."""
        self.over.set()
        if self.process.count > 1:
            self.thread.join()
            self.work.delete(files.claim(self.process.index))

    def claim(self, models: Sequence[int]) -> bool:
        """Claims models; False if a process of a lower number claims one at the same moment."""
        if self.process.count == 1:
            return True
        self._write(models)
        lower = self.of_others(range(self.process.index))
        return not lower & set(models)

    def of_others(self, indices: Iterable[int] | None = None) -> set[int]:
        """Returns the models that other processes, all or some, show signs of training."""
        models: set[int] = set()
        for index in range(self.process.count) if indices is None else indices:
            name = files.claim(index)
            if index == self.process.index:
                continue
            sign = self.work.read_json(name, missing={"models": []})
            now = time.monotonic()
            if name not in self.seen or self.seen[name][0] != sign:
                self.seen[name] = sign, now
            if now - self.seen[name][1] < self.stale_after:
                models.update(sign["models"])
        return models

    def _beat(self) -> None:
        while not self.over.wait(HEARTBEAT):
            # What cannot be written now may be written at the next beat; rows complain for it.
            with contextlib.suppress(WorkDirectoryError):
                self._write(self.mine)

    def _write(self, models: Sequence[int]) -> None:
        with self.lock:
            self.mine = list(models)
            self.beats += 1
            sign = {"models": self.mine, "beat": self.beats, "since": time.time()}
            self.work.write_json(files.claim(self.process.index), sign)
