"""Compares an algorithm with rumjax's own in a minute, on models that are already trained.

A pack holds what a run has made: its forget set, its memorization scores, its original models, and
two models retrained without the forget set for each of them. Those of `NAMES` come with rumjax.
"""

from rumjax.benchmarks.comparing import Comparison, compare
from rumjax.benchmarks.packs import NAMES, Pack, load, load_file, save

__all__ = ["NAMES", "Comparison", "Pack", "compare", "load", "load_file", "save"]
