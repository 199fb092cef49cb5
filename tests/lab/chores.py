"""Jobs for engines, which their workers import."""

import os
import signal
import time

from rumjax.errors import InvalidInputError


def where(number):
    """Which process does it, and on how many cores."""
    return number, os.getpid(), len(os.sched_getaffinity(0))


def rest(seconds):
    time.sleep(seconds)
    return os.getpid()


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(message):
    raise InvalidInputError(message)
