"""A model that was trained without rumjax, its images, and the command that has some forgotten."""

import contextlib
import json
import pathlib
import shutil

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rumjax import forget

SIZE, UNSEEN, TESTS, CLASSES = 96, 60, 45, 3
CONFIG = """
from ml_collections import ConfigDict

from rumjax.lab.methods import rum, vanilla


def get_config():
    config = ConfigDict()
    config.name = "foreign"
    config.data = {"name": "npz", "data_dir": FOLDER + "/data.npz"}
    config.model = {"name": "tests.lab.forgetting.offices:Network", "mean": 0.5, "std": 0.25}
    config.training = {"epochs": 4, "batch_size": 32, "learning_rate": 0.1}
    config.original = {"path": FOLDER + "/model.msgpack"}
    config.forgetting = {"validation_drop": 1.0, "retained_drop": 1.0, "p_value": 0.0}
    config.forgetting.relearning = 0
    config.forgetting.budget = 0.9
    finetune = {"algorithm": "finetune", "epochs": 1, "learning_rate": 0.02}
    config.forgetting.candidates = {"finetune": vanilla(finetune)}
    # MORE
    return config
"""


class Network(nn.Module):
    """A hidden layer, as somebody writes it who knows nothing of rumjax."""

    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Dense(16)(images.reshape(images.shape[0], -1)))
        return nn.Dense(self.num_classes)(hidden)


def write_data(path, size=SIZE, **changes):
    """Noisy images of three prototypes, of which some training images have a wrong label."""
    random = np.random.default_rng(0)
    prototypes = random.integers(0, 256, (CLASSES, 8, 8, 1))
    arrays = {}
    for split, count in (("train", size), ("validation", UNSEEN), ("test", TESTS)):
        labels = np.arange(count) % CLASSES
        images = prototypes[labels] / 2 + random.normal(64, 70, (count, 8, 8, 1))
        arrays[f"{split}_images"] = np.clip(images, 0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    arrays["train_labels"][::10] = random.integers(0, CLASSES, len(range(0, size, 10)))
    # An image that is there twice, with another label too.
    arrays["train_images"][7] = arrays["train_images"][5]
    np.savez(path, **(arrays | changes))


def train(path, data):
    """Trains a network by Flax and Optax, and writes it as Flax does."""
    with np.load(data) as archive:
        images = jnp.asarray(archive["train_images"] / 255, jnp.float32)
        labels = jnp.asarray(archive["train_labels"])
    images, network = (images - 0.5) / 0.25, Network()
    params = network.init(jax.random.key(1), images[:1])["params"]
    optimizer = optax.sgd(0.1, momentum=0.9)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = network.apply({"params": params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(40):
        params, state = step(params, state)
    pathlib.Path(path).write_bytes(flax.serialization.to_bytes(params))


def write_config(folder, name="foreign.py", more="", data=None):
    """Writes the configuration, with lines before its last."""
    text = CONFIG.replace("FOLDER", repr(str(data or folder))).replace("# MORE", more.strip())
    (folder / name).write_text(text)
    return folder / name


def write_requests(path, *rows, columns="request,received,index"):
    path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows), ""]))
    return path


def asked(path, **requests):
    """Writes a table of requests by their rows in the source."""
    rows = [(name, "2026-11-26", row) for name, some in requests.items() for row in some]
    return write_requests(path, *rows)


def start(config, requests, work, *arguments):
    """The exit status of the command."""
    return forget.main(
        [f"--config={config}", f"--requests={requests}", f"--workdir={work}", *arguments]
    )


def verify(work, batch, *arguments, name="certificate.json"):
    """The exit status of looking at a certificate."""
    file = work / f"requests/batch_{batch:04d}/{name}"
    return forget.main([f"--verify={file}", *arguments])


def log(work):
    """The lines of the log."""
    text = (work / "requests/log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def states(work):
    return [(line["state"], line["batch"]) for line in log(work)]


def certificate(work, batch, name="certificate.json"):
    return json.loads((work / f"requests/batch_{batch:04d}/{name}").read_text())


def copied(work, target):
    return pathlib.Path(shutil.copytree(work, target))


@contextlib.contextmanager
def changed(path, change):
    """Changes the bytes of a file, and puts them back."""
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        yield
    finally:
        path.write_bytes(before)


def flipped(content):
    """Other bytes in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
