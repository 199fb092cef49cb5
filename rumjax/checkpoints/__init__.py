"""Checkpoints of other training scripts: read into a model's variables, and written back.

A checkpoint is recognized by its content: a folder of Orbax (v0, v1, or the root of a
CheckpointManager), Flax msgpack, safetensors, or an .npz of NumPy, with the state of a Linen or an
NNX module in it. Pickles are never opened, since opening one runs code.
"""

from rumjax.checkpoints.formats import FORMATS
from rumjax.checkpoints.reading import Checkpoint, load_variables, read
from rumjax.checkpoints.writing import save_variables

__all__ = ["FORMATS", "Checkpoint", "load_variables", "read", "save_variables"]
