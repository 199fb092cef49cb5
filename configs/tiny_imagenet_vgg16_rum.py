"""RUM on Tiny-ImageNet with VGG-16: the setting of Zhao et al., NeurIPS 2024, appendix.

Data: Tiny-ImageNet-200, 90 000 / 10 000 / 10 000 images of 64×64; the official validation set is T.
    Download and unpack tiny-imagenet-200.zip, and name the folder that it makes by
    --config.data.data_dir=/path/to/tiny-imagenet-200
Model: VGG-16 with batch norm, 100 epochs, random crop and flip.
Hyper-parameters of unlearning lie inside the ranges that the paper searches, and were not tuned:
`python -m rumjax.tune` tunes them on the grids of `rumjax.lab.settings`.
Hardware: an accelerator. The bank of 400 models is nearly all of the cost, which smaller values of
--config.bank.models lower, and --config.model.bfloat16=True too. The authors of this file did not
run it in full.

    python -m rumjax.launch --config=tiny_imagenet_vgg16_rum.py
"""

from rumjax.lab.settings import rum_config


def get_config():
    return rum_config(
        "tiny_imagenet_vgg16", low="neggrad_plus", medium="neggrad_plus", high="neggrad_plus"
    )
