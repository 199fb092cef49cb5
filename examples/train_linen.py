"""A model trained without rumjax: a Linen network, by optax, saved as Flax's msgpack.

python examples/train_linen.py images linen.msgpack          # trains and saves
python examples/train_linen.py images linen.msgpack --test   # loads and tests
"""

import functools
import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from flax.training import train_state
from PIL import Image

MEAN, STD, EPOCHS, BATCH = 0.286, 0.353, 12, 128


class Network(nn.Module):
    """Two convolutions with batch normalization, and two dense layers."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, train=False):
        """Returns logits of normalized [B, 28, 28, 1] images."""
        for width in (16, 32):
            images = nn.Conv(width, (3, 3), use_bias=False)(images)
            images = nn.relu(nn.BatchNorm(use_running_average=not train)(images))
            images = nn.max_pool(images, (2, 2), (2, 2))
        hidden = nn.relu(nn.Dense(64)(images.reshape(len(images), -1)))
        return nn.Dense(self.num_classes)(hidden), hidden


class TrainState(train_state.TrainState):
    """Flax's state, with batch statistics."""

    batch_stats: dict


def read(folder, part):
    """Reads images and labels of a part."""
    files = sorted(pathlib.Path(folder, part).glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])[..., None]
    labels = np.array([int(file.parent.name.partition("_")[0]) for file in files])
    return (images / 255 - MEAN).astype(np.float32) / STD, labels


@jax.jit
def step(state, images, labels):
    """Takes one step of SGD."""

    def loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        (logits, _), updated = state.apply_fn(
            variables, images, train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), updated["batch_stats"]

    gradients, batch_stats = jax.grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=gradients, batch_stats=batch_stats)


def main(folder, path, test=False):
    """Trains and saves, or loads and tests."""
    images, labels = read(folder, "train")
    variables = Network().init(jax.random.key(0), images[:1])
    steps = EPOCHS * (len(images) // BATCH)
    descent = optax.sgd(optax.cosine_decay_schedule(0.1, steps), momentum=0.9)
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), descent)
    state = TrainState.create(apply_fn=Network().apply, tx=optimizer, **variables)
    if test:
        state = serialization.from_bytes(state, pathlib.Path(path).read_bytes())
    else:
        random = np.random.default_rng(0)
        for _ in range(EPOCHS):
            order = random.permutation(len(images))
            for batch in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
                state = step(state, images[batch], labels[batch])
        pathlib.Path(path).write_bytes(serialization.to_bytes(state))
    predict = jax.jit(functools.partial(Network().apply, train=False))
    for part in ("train", "test"):
        images, labels = read(folder, part)
        logits, _ = predict({"params": state.params, "batch_stats": state.batch_stats}, images)
        print(f"accuracy on {part}: {jnp.mean(logits.argmax(1) == labels):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:3], test="--test" in sys.argv)
