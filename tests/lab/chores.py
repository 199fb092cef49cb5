"""Jobs for engines, which their workers import."""

import os
import signal
import time

from rumjax.errors import InvalidInputError


def where(number):
    """Which process does it."""
    return number, os.getpid()


def rest(seconds):
    time.sleep(seconds)
    return os.getpid()


def note(path):
    with open(path, "a") as file:
        file.write("done\n")
    return os.getpid()


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(message):
    raise InvalidInputError(message)
