"""A model trained without rumjax: an NNX network, by optax, saved by Orbax.

python examples/train_nnx.py images nnx_model          # trains and saves
python examples/train_nnx.py images nnx_model --test   # loads and tests
"""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from PIL import Image

EPOCHS, BATCH = 12, 128


class Network(nnx.Module):
    """Two convolutions with batch normalization, dropout, and two dense layers."""

    def __init__(self, num_classes=10, *, rngs):
        """Draws the parameters."""
        self.conv1 = nnx.Conv(1, 16, (3, 3), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(16, rngs=rngs)
        self.conv2 = nnx.Conv(16, 32, (3, 3), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(32, rngs=rngs)
        self.hidden = nnx.Linear(7 * 7 * 32, 64, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(64, num_classes, rngs=rngs)

    def __call__(self, images):
        """Returns logits of [B, 28, 28, 1] images of 0…1."""
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            images = nnx.max_pool(nnx.relu(norm(conv(images))), (2, 2), (2, 2))
        hidden = nnx.relu(self.hidden(images.reshape(len(images), -1)))
        return self.head(self.drop(hidden))


def read(folder, part):
    """Reads images and labels of a part."""
    files = sorted(pathlib.Path(folder, part).glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(file)) for file in files])[..., None]
    labels = np.array([int(file.parent.name.partition("_")[0]) for file in files])
    return (images / 255).astype(np.float32), labels


@nnx.jit
def step(model, optimizer, images, labels):
    """Takes one step of SGD."""

    def loss(model):
        losses = optax.softmax_cross_entropy_with_integer_labels(model(images), labels)
        return losses.mean()

    optimizer.update(model, nnx.grad(loss)(model))


def main(folder, path, test=False):
    """Trains and saves, or loads and tests."""
    images, labels = read(folder, "train")
    model = Network(rngs=nnx.Rngs(0))
    place = pathlib.Path(path).absolute()
    if test:
        graph, state = nnx.split(model)
        model = nnx.merge(graph, ocp.StandardCheckpointer().restore(place, state))
    else:
        schedule = optax.cosine_decay_schedule(0.1, EPOCHS * (len(images) // BATCH))
        descent = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(schedule, momentum=0.9))
        optimizer = nnx.Optimizer(model, descent, wrt=nnx.Param)
        random = np.random.default_rng(0)
        model.train()
        for _ in range(EPOCHS):
            order = random.permutation(len(images))
            for batch in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
                step(model, optimizer, images[batch], labels[batch])
        checkpointer = ocp.StandardCheckpointer()
        checkpointer.save(place, nnx.state(model))
        checkpointer.wait_until_finished()
    model.eval()
    predict = nnx.jit(lambda model, images: model(images))
    for part in ("train", "test"):
        images, labels = read(folder, part)
        right = predict(model, images).argmax(1) == labels
        print(f"accuracy on {part}: {jnp.mean(right):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:3], test="--test" in sys.argv)
