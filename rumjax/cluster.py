"""Which of several processes this is (being written)."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Process:
    """One of several processes."""

    index: int
    count: int


def find_process(index: int | None = None, count: int | None = None) -> Process:
    """Explicit numbers, or the only process."""
    return Process(0, 1) if index is None or count is None else Process(index, count)
