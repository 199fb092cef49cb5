"""PyTorch's per-example gradients and influence solve, for `influence.py`, which starts it.

    python benchmarks/peer_gradients.py --problem problem.npz

Reads lines of "gradients" or "solve" and a way, "loop" (autograd, one example after another, as
research code does) or "vmap" (`torch.func`), and answers each with a line of JSON when it is done:
`found` is the number of gradients, or the path of the solution. Gradients are taken with one thread
or with one a core, whichever is faster.
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import peers


def loop(network, images, labels):
    """Gradients float32[B, d], by a backward pass an example."""
    import torch

    parameters, found = list(network.parameters()), []
    for image, label in zip(images, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(network(image[None]), label[None])
        gradient = torch.autograd.grad(loss, parameters)
        found.append(torch.cat([each.flatten() for each in gradient]))
    return torch.stack(found)


def vmap(network, images, labels):
    """Gradients float32[B, d], of all examples at once."""
    import torch

    parameters = {name: each.detach() for name, each in network.named_parameters()}

    def loss(parameters, image, label):
        logits = torch.func.functional_call(network, parameters, (image[None],))
        return torch.nn.functional.cross_entropy(logits, label[None])

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    found = gradients(parameters, images, labels).values()
    return torch.cat([each.flatten(1) for each in found], dim=1)


def solved(rows, vector, damping):
    """(λI + GᵀG/N)⁻¹ v by the Gram matrix of float32[N, d] rows G."""
    import torch

    system = rows @ rows.T + damping * len(rows) * torch.eye(len(rows))
    factor = torch.linalg.cholesky(system)
    weights = torch.cholesky_solve((rows @ vector)[:, None], factor)[:, 0]
    return (vector - weights @ rows) / damping


def best_threads(take):
    """How many threads take gradients fastest: one, or as many as PyTorch has by itself."""
    import torch

    seconds = {}
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        take()
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            take()
            times.append(time.perf_counter() - begin)
        seconds[threads] = min(times)
    return min(seconds, key=seconds.get)


def serve(given, arguments):
    """Answers line by line, once it has made sure that the network is rumjax's."""
    import torch

    network = peers.network_of([given[f"parameter{i}"] for i in range(10)])
    mean, std = (torch.from_numpy(given[k]).float().reshape(-1, 1, 1) for k in ("mean", "std"))
    images = (peers.turned(given["images"]) / 255 - mean) / std
    labels = torch.from_numpy(given["labels"].astype(np.int64))
    vector = torch.from_numpy(given["vector"])
    found = network(images).detach().numpy()
    np.testing.assert_allclose(found, given["logits"], rtol=1e-3, atol=1e-3)
    cores, ways = torch.get_num_threads(), {"loop": loop, "vmap": vmap}
    threads = {}
    for name, way in ways.items():
        threads[name] = best_threads(lambda way=way: way(network, images[:64], labels[:64]))
        torch.set_num_threads(cores)
    print(json.dumps({"torch": torch.__version__, "threads": threads}), flush=True)
    for line in sys.stdin:
        what, way = line.split()
        count = arguments.fisher if what == "solve" else arguments.examples
        torch.set_num_threads(threads[way])
        rows = ways[way](network, images[:count], labels[:count])
        torch.set_num_threads(cores)
        answer = len(rows)
        if what == "solve":
            answer = str(pathlib.Path(arguments.problem).with_name(f"{way}.npy"))
            np.save(answer, solved(rows, vector, arguments.damping).numpy())
        print(json.dumps({"found": answer}), flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problem", required=True, help="what influence.py has saved")
    parser.add_argument("--fisher", type=int, default=1000)
    parser.add_argument("--examples", type=int, default=256)
    parser.add_argument("--damping", type=float, default=1e-3)
    arguments = parser.parse_args()
    with np.load(arguments.problem) as given:
        serve(dict(given), arguments)


if __name__ == "__main__":
    main()
