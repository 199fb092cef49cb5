"""Requests to be forgotten by the model of `examples/train_nnx.py`.

python -m rumjax.forget --config=examples/forget_nnx.py --requests=examples/requests_1.csv
"""

from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "nnx"
    config.data = {"name": "image_folder", "data_dir": "images"}
    # The network and its normalization are those of the script; the recipe is what it was trained
    # by, which says how long retraining would take.
    config.model = {"name": "examples.train_nnx:Network", "mean": 0.0, "std": 1.0}
    config.training = {"epochs": 12, "batch_size": 128, "learning_rate": 0.1, "weight_decay": 5e-4}
    config.original = {"path": "nnx_model"}
    config.forgetting = {"budget": 0.165}  # of retraining, for each of two batches
    return config
