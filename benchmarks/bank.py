"""Models per hour of a bank, against PyTorch on the same network, images and epochs.

    python benchmarks/bank.py [--network cnn|resnet18] [--peer tensors|processes|dataloader|all]

Trains a few models by `rumjax.ensemble`, one device a core, and as many in PyTorch, in turn and
never at the same time. Peers: "tensors", one process with a thread a core and all images in memory;
"processes", one such process a core with one thread each, at the same time, the fastest way we know
in PyTorch; "dataloader", the usual script with two loading workers. Prints seconds per model, and
as its last line a JSON object with the ratio peer/rumjax: above 1, rumjax is faster. Neither counts
what comes before training; rumjax's compilation is reported apart. Let nothing else run meanwhile:
PyTorch with several threads suffers from it more than rumjax does.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pairs

from rumjax import data, ensemble, models, retrain
from rumjax.types import Dataset

PEERS = ("tensors", "processes", "dataloader")
IMAGES = {"cnn": 3000, "resnet18": 1280}
EPOCHS = {"cnn": 10, "resnet18": 1}


class Peers:
    """PyTorch in one process, or in one a core.

    OpenMP's threads wait as PyTorch has it, awake for some milliseconds: that is quicker on a
    machine with nothing else to do, and costs rumjax nothing.
    """

    def __init__(self, kind, arguments, path):
        cores = os.cpu_count()
        options = ["--network", arguments.network, "--epochs", arguments.epochs, "--data", path]
        options += ["--loop", "dataloader" if kind == "dataloader" else "tensors"]
        options += ["--threads", 1 if kind == "processes" else cores]
        script = pathlib.Path(__file__).with_name("peers.py")
        count = cores if kind == "processes" else 1
        self.each = [pairs.Peer(script, *options) for _ in range(count)]
        self.about = self.each[0].about
        print(f"{kind}: {json.dumps(self.about)}", flush=True)

    def train(self, models):
        """Seconds per model."""
        for peer in self.each:
            peer.tell(models // len(self.each))
        return max(peer.answer()["seconds"] for peer in self.each) / models

    def close(self):
        for peer in self.each:
            peer.close()


def ours(network, arguments, dataset, moments):
    """A function that trains some models and gives seconds per model, and their parameters."""
    mean, std = moments
    options = {"width": 16} if network == "resnet18" else None
    model = models.build(network, 10, mean=mean, std=std, options=options)
    recipe = retrain(model, epochs=arguments.epochs, batch_size=128, learning_rate=0.1)
    count = len(dataset.images)
    on_device = Dataset(jnp.asarray(dataset.images), jnp.asarray(dataset.labels))
    devices, _ = ensemble.at_once()
    shapes = jax.eval_shape(model.init, jax.random.key(0), dataset.images[:1])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))

    def train(wanted):
        order = np.stack([np.random.default_rng(i).permutation(count) for i in range(wanted)])
        keys = jax.random.split(jax.random.key(0), wanted)
        works = (
            ensemble.training(
                recipe,
                [f"model {i}" for i in range(first, first + len(devices))],
                keys[first : first + len(devices)],
                order[first : first + len(devices)].astype(np.int32),
            )
            for first in range(0, wanted, len(devices))
        )
        made = list(ensemble.run(works, on_device, read=ensemble.whole))
        return sum(each.seconds for each in made) / len(made), made[0].compile_seconds

    return train, parameters


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=tuple(IMAGES), default="cnn")
    parser.add_argument("--peer", choices=(*PEERS, "all"), default="tensors")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--models", type=int, help="a run; as many as there are cores")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--images", type=int)
    arguments = parser.parse_args()
    cores = os.cpu_count()
    arguments.models = arguments.models or cores
    arguments.epochs = arguments.epochs or EPOCHS[arguments.network]
    arguments.images = arguments.images or IMAGES[arguments.network]
    if arguments.models % cores:
        parser.error(f"--models: wanted a multiple of {cores}, the number of cores")

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", cores)
    train = data.load("fashion_mnist_mini").train
    dataset = Dataset(train.images[: arguments.images], train.labels[: arguments.images])
    moments = models.channel_statistics(dataset.images)
    train_ours, parameters = ours(arguments.network, arguments, dataset, moments)
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder, "images.npz"))
        np.savez(path, **dataset._asdict(), mean=moments[0], std=moments[1])
        kinds = PEERS if arguments.peer == "all" else (arguments.peer,)
        peers = {kind: Peers(kind, arguments, path) for kind in kinds}
    for peer in peers.values():
        assert peer.about["parameters"] == parameters, (peer.about["parameters"], parameters)
    print(f"{arguments.network}: {parameters} parameters on both sides")
    _, compile_seconds = train_ours(arguments.models)
    print(f"rumjax: compilation {compile_seconds:.1f} s, once for all models", flush=True)
    own_seconds = {kind: [] for kind in peers}
    peer_seconds = {kind: [] for kind in peers}
    for run in range(arguments.runs):
        for kind, peer in peers.items():
            own = train_ours(arguments.models)[0]
            other = peer.train(arguments.models)
            own_seconds[kind].append(own)
            peer_seconds[kind].append(other)
            print(
                f"run {run + 1}: rumjax {own:.2f} s, {kind} {other:.2f} s per model, "
                f"{3600 / own:.0f} and {3600 / other:.0f} models per hour",
                flush=True,
            )
    for peer in peers.values():
        peer.close()
    digests = [pairs.ratios(own_seconds[kind], peer_seconds[kind]) for kind in peers]
    ratio, spread = (
        {kind: digest[part] for kind, digest in zip(peers, digests, strict=True)}
        for part in ("ratio", "spread")
    )
    if len(peers) == 1:
        ((ratio,), (spread,)) = ratio.values(), spread.values()
    every = {"rumjax": np.ravel([*own_seconds.values()]).tolist(), **peer_seconds}
    pairs.finish(
        "bank",
        ratio=ratio,
        spread=spread,
        seconds_per_model={who: round(statistics.median(each), 3) for who, each in every.items()},
        network=arguments.network,
        models=arguments.models,
        epochs=arguments.epochs,
        images=len(dataset.images),
        parameters=parameters,
        compile_seconds=round(compile_seconds, 1),
        layouts={kind: peer.about["layout"] for kind, peer in peers.items()},
        runs=arguments.runs,
        torch=next(iter(peers.values())).about["torch"],
    )


if __name__ == "__main__":
    main()
