"""PyTorch on the same networks: what the other benchmarks measure rumjax against.

    python benchmarks/peers.py --network cnn --loop tensors --data images.npz

Answers with a JSON line when it is ready, then trains as many models as each line of its input
says, one after another, and answers with the seconds they took. `images.npz` holds uint8 images
[N, H, W, C], labels [N], and the mean and std of each channel. Two ways of training:

- tensors: all images in memory as one uint8 tensor, normalized batch by batch; the faster of
  PyTorch's two memory layouts, by an epoch of each.
- dataloader: a `DataLoader` with two persistent workers and a transform of one image at a time.

The networks are those of rumjax with as many parameters, in PyTorch's own initialization.
"""

import argparse
import json
import sys
import time

import numpy as np

NETWORKS = ("cnn", "resnet18")
LOOPS = ("tensors", "dataloader")
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, BATCH_SIZE = 0.1, 0.9, 5e-4, 128
WIDTH = 16
"""of resnet18"""


def cnn(channels=1, classes=10):
    """`rumjax.models.Cnn` for images of 28×28."""
    from torch import nn

    layers = []
    for before, after in ((channels, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    head = (nn.Flatten(), nn.Linear(4 * 4 * 64, 128), nn.ReLU(), nn.Linear(128, classes))
    return nn.Sequential(*layers, *head)


def resnet18(channels=1, classes=10, width=WIDTH):
    """`rumjax.models.ResNet` with basic blocks, two in each of its four stages."""
    import torch
    from torch import nn

    def convolve(before, after, size, stride):
        convolution = nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(after))

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.first = convolve(before, after, 3, stride)
            self.second = convolve(after, after, 3, 1)
            same = before == after and stride == 1
            self.shortcut = nn.Identity() if same else convolve(before, after, 1, stride)

        def forward(self, images):
            found = self.second(torch.relu(self.first(images)))
            return torch.relu(found + self.shortcut(images))

    layers, before = [convolve(channels, width, 3, 1), nn.ReLU()], width
    for stage in range(4):
        for position in range(2):
            after = width * 2**stage
            layers.append(Block(before, after, 2 if stage and not position else 1))
            before = after
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
    return nn.Sequential(*layers, *head)


def parameter_count(network):
    return sum(each.numel() for each in network.parameters())


def from_cnn(params):
    """Parameters of our `Cnn` for 28×28 images, or anything alike, in the order of PyTorch's.

    Where a stride of 2 leaves the padding uneven, "SAME" puts it at the end and PyTorch at the
    beginning: the network is the same if images and kernels are both turned by half a circle, and
    so are the rows of the first dense kernel. Give it images of `turned`.
    """
    found = []
    for layer in ("Conv_0", "Conv_1", "Conv_2"):
        kernel = np.asarray(params[layer]["kernel"])[::-1, ::-1].transpose(3, 2, 0, 1)
        found += [kernel, np.asarray(params[layer]["bias"])]
    kernel = np.asarray(params["Dense_0"]["kernel"])
    kernel = kernel.reshape(4, 4, 64, -1)[::-1, ::-1].transpose(3, 2, 0, 1)
    found += [kernel.reshape(len(kernel), -1), np.asarray(params["Dense_0"]["bias"])]
    found += [np.asarray(params["Dense_1"]["kernel"]).T, np.asarray(params["Dense_1"]["bias"])]
    return [np.ascontiguousarray(each) for each in found]


def network_of(parameters):
    """The PyTorch `cnn` with parameters that `from_cnn` has made of ours."""
    import torch

    network = cnn()
    with torch.no_grad():
        for here, value in zip(network.parameters(), parameters, strict=True):
            here.copy_(torch.from_numpy(value.copy()))
    return network


def turned(images):
    """uint8[N, H, W, C] by half a circle, as float32 tensor [N, C, H, W], not yet normalized."""
    import torch

    turned = np.asarray(images)[:, ::-1, ::-1].transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(turned)).float()


class Decoded:
    """Images one at a time, as a `Dataset` of the usual kind has them once they are decoded."""

    def __init__(self, images, labels, mean, std):
        self.images, self.labels, self.mean, self.std = images, labels, mean, std

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        import torch

        image = torch.from_numpy(self.images[index]).permute(2, 0, 1).contiguous().float().div(255)
        return image.sub_(self.mean).div_(self.std), self.labels[index]


def dataloader(images, labels, mean, std, layout):
    """A function that gives the batches of an epoch, made by two worker processes."""
    import torch

    del layout
    dataset = Decoded(images, labels, mean, std)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=2, persistent_workers=True
    )
    return lambda: iter(loader)


def tensors(images, labels, mean, std, layout):
    """A function that gives the batches of an epoch, made of one tensor."""
    import torch

    images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    images, labels = images.contiguous(memory_format=layout), torch.from_numpy(labels)

    def batches():
        order = torch.randperm(len(images))
        for begin in range(0, len(order), BATCH_SIZE):
            chosen = order[begin : begin + BATCH_SIZE]
            batch = images[chosen].float().div_(255).sub_(mean).div_(std)
            yield batch.contiguous(memory_format=layout), labels[chosen]

    return batches


def train(network, batches, epochs, steps):
    """SGD with momentum and weight decay, the rate by a cosine to 0, step by step."""
    import torch

    network.train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for _ in range(epochs):
        for images, labels in batches():
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            schedule.step()
    return network


def serve(network, loop, data, epochs):
    """Gets ready, then trains as many models as each line of the input says."""
    import torch

    images, labels = data["images"], data["labels"].astype(np.int64)
    steps = -(-len(images) // BATCH_SIZE)
    build = {"cnn": cnn, "resnet18": resnet18}[network]
    classes = int(labels.max()) + 1
    mean, std = (
        torch.from_numpy(data[key].astype(np.float32)).reshape(-1, 1, 1) for key in ("mean", "std")
    )

    def prepare(layout):
        source = {"tensors": tensors, "dataloader": dataloader}[loop]
        batches = source(images, labels, mean, std, layout)

        def train_some(count, epochs):
            begin = time.perf_counter()
            for _ in range(count):
                model = build(images.shape[-1], classes).to(memory_format=layout)
                train(model, batches, epochs, steps)
            return time.perf_counter() - begin

        train_some(1, 1)
        return train_some

    layouts = {"default": torch.contiguous_format}
    if loop == "tensors":
        layouts["channels last"] = torch.channels_last
    prepared = {name: prepare(layout) for name, layout in layouts.items()}
    epoch_seconds = {name: train_some(1, 1) for name, train_some in prepared.items()}
    best = min(epoch_seconds, key=epoch_seconds.get)
    answer = {"parameters": parameter_count(build(images.shape[-1], classes)), "layout": best}
    answer |= {"epoch_seconds": epoch_seconds, "torch": torch.__version__}
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": prepared[best](int(line), epochs)}), flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, default="cnn")
    parser.add_argument("--loop", choices=LOOPS, default="tensors")
    parser.add_argument("--data", required=True, help="the .npz file")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None, help="all cores if not given")
    arguments = parser.parse_args()
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with np.load(arguments.data) as data:
        serve(arguments.network, arguments.loop, dict(data), arguments.epochs)


if __name__ == "__main__":
    main()
