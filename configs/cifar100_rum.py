"""RUM on CIFAR-100 with ResNet-50: the setting of Zhao et al., NeurIPS 2024, section 5.

Data: CIFAR-100, 45 000 / 5 000 / 10 000 images, 10 % of each class held out for validation.
    pip install 'rumjax[tfds]', then in Python, after import tensorflow_datasets as tfds:
    tfds.builder("cifar100", file_format="array_record").download_and_prepare()
Model: ResNet-50 with CIFAR stem, 150 epochs, random crop and flip.
Hyper-parameters of unlearning lie inside the ranges that the paper searches and were not tuned
here: `python -m rumjax.tune` does that, on the grids below.
Hardware: an accelerator. The bank of 400 models is nearly all of the cost; --config.bank.models
and --config.model.bfloat16=True lower it. The authors of this file did not run it in full.

    python -m rumjax.launch --config=cifar100_rum.py
"""

from ml_collections import ConfigDict

from rumjax.lab.methods import rum, strategies


def get_config():
    config = ConfigDict()
    config.name = "cifar100_rum"
    config.seed = 0  # of the first run; the others follow
    config.seeds = 3
    config.data = {"name": "cifar100", "data_dir": None, "validation_fraction": 0.1}
    config.model = {"name": "resnet50", "bfloat16": False}
    config.training = {
        "epochs": 150,
        "batch_size": 256,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "steps",
        "milestones": (60, 120),
        "decay": 0.2,
        "augmentation": "crop_flip",
    }
    config.bank = {"models": 400, "fraction": 0.7, "seed": 0, "per_device": 1}
    config.forget = {"by": "memorization", "size": 1000}
    config.unlearning = {"weight_decay": 5e-4, "momentum": 0.9}
    finetune = {"algorithm": "finetune", "learning_rate": 0.05, "epochs": 10}
    l1_sparse = {
        "algorithm": "l1_sparse",
        "learning_rate": 0.05,
        "epochs": 10,
        "penalty": 1e-5,
    }
    neggrad_plus = {
        "algorithm": "neggrad_plus",
        "learning_rate": 0.03,
        "epochs": 5,
        "beta": 0.95,
    }
    salun = {"algorithm": "salun", "learning_rate": 0.05, "epochs": 10, "mask_fraction": 0.5}
    config.methods = {
        **strategies(
            {
                "finetune": finetune,
                "l1_sparse": l1_sparse,
                "neggrad_plus": neggrad_plus,
                "salun": salun,
            }
        ),
        "mixed_rum": rum({"low": neggrad_plus, "medium": neggrad_plus, "high": neggrad_plus}),
    }
    config.attack = {"samples": None}  # members and non-members a side; None: all of the test set
    config.tuning = {
        "seeds": (100,),
        "grids": {
            "finetune": {"learning_rate": (0.01, 0.03, 0.1)},
            "l1_sparse": {"learning_rate": (0.005, 0.03, 0.1), "penalty": (1e-6, 1e-5, 1e-4)},
            "neggrad_plus": {"learning_rate": (0.01, 0.03, 0.05), "beta": (0.85, 0.95, 0.99)},
            "salun": {"learning_rate": (0.005, 0.03, 0.1), "mask_fraction": (0.3, 0.5, 0.7)},
        },
    }
    return config
