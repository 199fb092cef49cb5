"""What a run shows never stops it: output may be closed, full, or in ASCII."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

from rich.console import Console


class Unfailing:
    """Passes text on to a stream for as long as that takes it.

    A run does not end because nobody can read what it says. Signs that the stream cannot encode
    become question marks.
    """

    def __init__(self, stream: IO[str]) -> None:
        """Takes over a stream."""
        self._stream, self._is_lost = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text, if that is still possible."""
        if self._is_lost:
            return len(text)
        with self._losing():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = getattr(self._stream, "encoding", None) or "ascii"
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Passes on what is still held back, if that is still possible."""
        if not self._is_lost:
            with self._losing():
                self._stream.flush()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """Gives the stream up when it fails: it is closed, or full, or nobody reads it."""
        try:
            yield
        except (OSError, ValueError):
            self._is_lost = True
            # Else Python fails when it ends, over what is still held back.
            if self._stream in (sys.__stdout__, sys.__stderr__):
                with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
                    os.dup2(nothing.fileno(), self._stream.fileno())


@contextlib.contextmanager
def unfailing_streams() -> Iterator[None]:
    """Lets nothing fail within that is written to the standard output and error."""
    streams = sys.stdout, sys.stderr
    wrapped = [None if stream is None else Unfailing(stream) for stream in streams]
    sys.stdout, sys.stderr = wrapped
    try:
        yield
    finally:
        for stream in wrapped:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = streams


def unfailing(console: Console) -> Console:
    """Returns the same console, whose output no longer fails."""
    if not isinstance(console.file, Unfailing):
        console.file = Unfailing(console.file)  # type: ignore[assignment]  # as far as rich asks
    return console
