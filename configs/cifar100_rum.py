"""RUM on CIFAR-100 with ResNet-50: the setting of Zhao et al., NeurIPS 2024, section 5.

Data: CIFAR-100, 45 000 / 5 000 / 10 000 images, 10 % of each class held out for validation.
    Install 'rumjax[tfds]'; then, in Python, after import tensorflow_datasets as tfds:
    tfds.builder("cifar100", file_format="array_record").download_and_prepare()
Model: ResNet-50 with CIFAR stem, 150 epochs, random crop and flip.
Hyper-parameters of unlearning lie inside the ranges that the paper searches, and were not tuned:
`python -m rumjax.tune` tunes them on the grids of `rumjax.lab.settings`.
Hardware: an accelerator. The bank of 400 models is nearly all of the cost, which smaller values of
--config.bank.models lower, and --config.model.bfloat16=True too. The authors of this file did not
run it in full.

    python -m rumjax.launch --config=cifar100_rum.py
"""

from rumjax.lab.settings import rum_config


def get_config():
    return rum_config("cifar100", low="neggrad_plus", medium="neggrad_plus", high="neggrad_plus")
