"""Reads what a compiler says of a program: memory, recomputation, and cycles. Text and numbers.

Cycles are the TPU compiler's own estimates, and peaks are public; neither is a measurement.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

GIB = 2**30
MARGIN = 0.3
"""The share by which an estimate may be off either way, on top of the range of the two ways."""


class Chip(NamedTuple):
    """A kind of device, as JAX counts devices: of some kinds a chip is two."""

    hbm: float
    """bytes that a program may take, as the compiler says"""
    clock: float | None = None
    """cycles a second, with which the public peak comes out; None where that was not checked"""
    peak: float | None = None
    """floating-point operations a second in bfloat16"""
    bandwidth: float | None = None
    """bytes a second from and to HBM"""
    per_chip: int = 1
    """how many devices are a chip, which is what is rented"""


CHIPS: Mapping[str, Chip] = {
    "v2": Chip(7.48 * GIB, per_chip=2),
    "v3": Chip(15.48 * GIB, 0.94e9, 61.6e12, 450e9, 2),
    "v4": Chip(15.25 * GIB, 1.05e9, 137.6e12, 614e9, 2),
    "v5e": Chip(15.75 * GIB, 1.5e9, 197e12, 819e9),
    "v5p": Chip(95.73 * GIB, 1.75e9, 459e12, 2765e9),
    "v6e": Chip(31.24 * GIB, 1.75e9, 918e12, 1640e9),
    "tpu7x": Chip(94.74 * GIB, per_chip=2),
    "h100": Chip(79.1 * GIB),
}
"""Kinds of devices by the first part of a topology's name."""

SCALE = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Memory(NamedTuple):
    """The memory that a program takes on one device.

    Examples:
      >>> Memory(10, 0).fits(11), Memory(10, 3).fits(11)
      (True, False)
    """

    hbm: int
    """bytes"""
    recomputed: int
    """instructions that are computed twice so that it fits"""
    refused: bool = False
    """whether the compiler says that it does not fit"""

    def fits(self, budget: float | None) -> bool:
        """Says whether the program fits without computing anything twice."""
        within = budget is None or self.hbm <= budget
        return within and self.recomputed == 0 and not self.refused


def hbm_of_report(text: str) -> int:
    """Returns the bytes of HBM in the memory usage report that XLA dumps.

    Examples:
      >>> hbm_of_report("Total bytes: 924 (924B)")
      924
    """
    totals = re.findall(r"Total bytes(?: used)?: (\d+)", text)
    if not totals:
        raise ValueError("the report has no total")
    return int(totals[0])


def refused_bytes(message: str) -> int | None:
    """Returns the bytes that a program would have needed, if a compiler refused it for memory.

    Examples:
      >>> refused_bytes("RESOURCE_EXHAUSTED: … temporaries (18.64G) exceeds available HBM (15.75G)")
      20014547599
      >>> refused_bytes("INVALID_ARGUMENT: no")
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    needed = re.search(r"\(([\d.]+)([BKMGT]?)\) exceeds", message)
    needed = needed or re.search(r"Used ([\d.]+)([BKMGT]?) of", message)
    return int(float(needed[1]) * SCALE[needed[2]]) if needed else 0


class Instruction(NamedTuple):
    """An instruction of an HLO module, as far as its cycles go."""

    opcode: str
    cycles: int
    called: tuple[str, ...]
    """computations that it runs: the body of a loop, the branches of a choice"""
    trips: int | None
    """how often a loop runs, if the compiler knows"""


def computations(text: str) -> dict[str, list[Instruction]]:
    """Returns the instructions of each computation of an HLO module that matter to its cycles."""
    parts: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in text.splitlines():
        # A computation begins at the left margin, its instructions are indented.
        if not line.startswith(" "):
            head = re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
            if head:
                current = parts.setdefault(head[1], [])
            continue
        operation = re.search(r" = .*? (while|conditional|call)\(", line)
        cycles = re.search(r'"estimated_cycles":"?(\d+)', line)
        if operation is None and cycles is None:
            continue
        opcode = operation[1] if operation else "other"
        trips = re.search(r'"known_trip_count":\{"n":"?(\d+)', line)
        current.append(
            Instruction(
                opcode,
                int(cycles[1]) if cycles else 0,
                _called(opcode, line),
                int(trips[1]) if trips else None,
            )
        )
    return parts


def _called(opcode: str, line: str) -> tuple[str, ...]:
    """Returns the computations that a loop, a choice or a call runs."""
    if opcode == "while":
        return tuple(re.findall(r"body=%?([\w.\-]+)", line))
    if opcode == "call":
        return tuple(re.findall(r"to_apply=%?([\w.\-]+)", line))
    if opcode == "conditional":
        several = re.search(r"branch_computations=\{([^}]*)\}", line)
        if several:
            return tuple(name.strip().lstrip("%") for name in several[1].split(","))
        return tuple(re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line))
    return ()


def step_cycles(text: str) -> int | None:
    """Returns the estimated cycles of one turn of a program's training loop.

    That is the longest loop whose number of turns the compiler does not know; loops within it count
    as often as they run. None where there is no such loop, or nothing has an estimate.

    Examples:
      >>> step_cycles('''
      ... %body (x: f32[]) -> f32[] {
      ...   %a = f32[] fusion(%x), backend_config={"estimated_cycles":"40"}
      ...   %b = f32[] while(%a), body=%inner, backend_config={"known_trip_count":{"n":"3"}}
      ... }
      ... %inner (x: f32[]) -> f32[] {
      ...   %c = f32[] fusion(%x), backend_config={"estimated_cycles":"20"}
      ... }
      ... ENTRY %main (x: f32[]) -> f32[] {
      ...   %d = f32[] while(%x), condition=%less, body=%body
      ... }''')
      100
    """
    parts = computations(text)

    def cost(name: str) -> int:
        total = 0
        for one in parts.get(name, ()):
            inner = [cost(called) for called in one.called]
            turns = one.trips or 1
            total += one.cycles + turns * (max(inner) if inner else 0)
        return total

    bodies = [
        name
        for instructions in parts.values()
        for one in instructions
        if one.opcode == "while" and one.trips is None
        for name in one.called
    ]
    # A loop over models or epochs that holds the training loop is not the training loop.
    holders = {name for name in bodies if _holds(parts, name, set(bodies))}
    costs = [cost(name) for name in bodies if name not in holders]
    return max(costs, default=0) or None


def _holds(parts: Mapping[str, list[Instruction]], name: str, loops: set[str]) -> bool:
    """Says whether a computation runs one of some loops, itself or by what it calls."""
    called = [inner for one in parts.get(name, ()) for inner in one.called]
    return any(inner in loops or _holds(parts, inner, loops) for inner in called)


def step_seconds(
    chip: Chip, *, flops: float | None, transferred: float | None, cycles: int | None
) -> tuple[float, float] | None:
    """Returns the least and the most that a step takes by roofline and by cycles, in seconds.

    The roofline is the larger of operations over peak and bytes over bandwidth. None where the
    chip's peaks are not known, or the compiler has not estimated all three.

    Examples:
      >>> step_seconds(CHIPS["v5e"], flops=197e9, transferred=0, cycles=3_000_000)
      (0.001, 0.002)
    """
    if chip.clock is None or chip.peak is None or chip.bandwidth is None:
        return None
    if flops is None or transferred is None or cycles is None:
        return None
    roofline = max(flops / chip.peak, transferred / chip.bandwidth)
    both = roofline, cycles / chip.clock
    return min(both), max(both)


def most_models(one: Memory, two: Memory, budget: float | None, *, needed: int) -> int:
    """Extrapolates how many models a device holds from what one and two of them take.

    Args:
      one: of one model.
      two: of two.
      budget: bytes; None where there is no limit.
      needed: how many there are for it, more than which are not asked for.

    Returns:
      The number; 0 if not even one fits.

    Examples:
      >>> most_models(Memory(4, 0), Memory(6, 0), 11, needed=16)
      4
    """
    if not one.fits(budget):
        return 0
    if not two.fits(budget):
        return 1
    if budget is None or two.hbm <= one.hbm:
        return needed
    more = int((budget - one.hbm) // (two.hbm - one.hbm))
    return max(1, min(needed, 1 + more))
