"""What benchmarks share: paired runs, and the line of JSON that each of them ends with."""

import json
import os
import statistics
import subprocess
import sys
import time

import jax
import numpy as np


class Peer:
    """A script in a process of its own, which sleeps until it is told something.

    It answers every line, and its start, by a line of JSON. What it says at the start is `about`.
    """

    def __init__(self, script, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.about = self.answer()

    def tell(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("PyTorch's process ended; its message is above")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def seconds(function):
    """How long a call takes; it must wait for its own results."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def in_turn(functions, runs):
    """Seconds of each of some functions, called in turn, `runs` times over."""
    found = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            found[name].append(seconds(function))
    for name, times in found.items():
        print(f"{name}: median {statistics.median(times):.3f} s, {min(times):.3f}–{max(times):.3f}")
    return found


def ratios(ours, peer):
    """Of paired runs: the median of peer/ours, above 1 where ours is faster, and the range."""
    each = np.divide(peer, ours)
    spread = [round(float(each.min()), 2), round(float(each.max()), 2)]
    return {"ratio": round(float(np.median(each)), 2), "spread": spread, "runs": len(each)}


def finish(name, **found):
    """Prints the last line."""
    machine = {
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
    }
    print(json.dumps({"name": name, **found, **machine}))
