"""Imports Matplotlib before the other modules do, whatever backend the environment asks for.

Figures here are drawn into files, and need no backend; of one that is unknown, such as that of an
old version, the import would fail.
"""

import os

_asked_for = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib  # noqa: F401
finally:
    if _asked_for is not None:
        os.environ["MPLBACKEND"] = _asked_for
