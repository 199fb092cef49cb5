"""SISA: exact deletion, by models on shards of D that are trained slice by slice.

(Bourtoule et al., IEEE S&P 2021, arXiv 1912.03817.) D is dealt into shards, and each shard into
slices. A shard's model is trained on its first slice, then on its first two, and so on, and kept
after each. To forget examples, the shards that hold them go back to the model before the earliest
slice that does, and are trained again from there without them. The models predict together.

What is forgotten leaves no trace: every model is, to the bit, the one that training from scratch
without it gives by the same key and plan, since all randomness of a model depends on the key, its
shard and its slice alone, and momentum starts anew with each slice. That holds for one version of
JAX on one kind of machine, as all of rumjax's results do.
"""

from rumjax.sisa.keeping import Ensemble, digest, from_arrays, load, save, to_arrays
from rumjax.sisa.plans import Cost, Plan, cost, epochs_by_slice, expected_shards, plan
from rumjax.sisa.slices import Forgotten, forget, train
from rumjax.sisa.votes import VOTES, models, predict

__all__ = [
    "VOTES",
    "Cost",
    "Ensemble",
    "Forgotten",
    "Plan",
    "cost",
    "digest",
    "epochs_by_slice",
    "expected_shards",
    "forget",
    "from_arrays",
    "load",
    "models",
    "plan",
    "predict",
    "save",
    "to_arrays",
    "train",
]
