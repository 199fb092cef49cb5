"""RUM without rumjax: train, score memorization, refine the forget set, unlearn it, compare.

Its images are so noisy that a network can only memorize many of them. Keys, batches and steps are
those of rumjax: from equal initial parameters it makes equal models, up to rounding.
"""

import sys

import jax
import numpy as np
from optax import softmax_cross_entropy_with_integer_labels as cross_entropy

COUNT, EPOCHS, MODELS = map(int, sys.argv[1:] or (1000, 20, 40))
CLASSES, BATCH, UNLEARNING = 10, 64, [0.1, 0.1, 0.1]  # the rate of each epoch


def apply(params, images):
    """Returns the logits of a network with one hidden layer."""
    return jax.nn.relu(images @ params["hidden"]) @ params["output"]


@jax.jit
def step(params, velocity, images, labels, rate):
    """Takes a step of SGD, with momentum and weight decay, down the cross-entropy of a batch."""
    gradient = jax.grad(lambda p: cross_entropy(apply(p, images), labels).mean())(params)
    velocity = jax.tree.map(lambda v, g, p: 0.9 * v + g + 5e-4 * p, velocity, gradient, params)
    return jax.tree.map(lambda p, v: p - rate * v, params, velocity), velocity


def descend(key, params, examples, rates, wrong=()):
    """Runs an epoch at each of the rates; examples in `wrong` get new wrong labels every time."""
    velocity, given = jax.tree.map(np.zeros_like, params), labels.copy()
    for rate in rates:
        if len(wrong):
            key, label_key = jax.random.split(key)
            shifts = jax.random.randint(label_key, len(wrong), 1, CLASSES)
            given[wrong] = (labels[wrong] + shifts) % CLASSES
        key, epoch_key = jax.random.split(key)
        noise = jax.random.uniform(jax.random.fold_in(epoch_key, 0), len(examples))
        order = examples[np.argsort(noise, kind="stable")]
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            params, velocity = step(params, velocity, images[batch], given[batch], rate)
    return params


def train(key, examples):
    """Trains a new network on some examples, half of the epochs at a rate of 0.1, half at 0.01."""
    init_key, key = jax.random.split(jax.random.fold_in(key, 0))
    hidden = jax.nn.initializers.he_normal()(init_key, (64, 256))
    params = {"hidden": hidden, "output": np.zeros((256, CLASSES), np.float32)}
    return descend(key, params, examples, np.where(np.arange(EPOCHS) < EPOCHS / 2, 0.1, 0.01))


# The first half of the images is D, on which the original model is trained; the second is T.
random = np.random.default_rng(0)
labels = random.integers(0, CLASSES, 2 * COUNT)
images = 0.3 * random.normal(size=(CLASSES, 64))[labels] + random.normal(size=(2 * COUNT, 64))
everything, test = np.split(np.arange(2 * COUNT), 2)
original = train(jax.random.key(0), everything)

# An image is memorized as far as models that saw it are right oftener (Feldman & Zhang, 2020).
member, correct = np.zeros((2, MODELS, COUNT), bool)
for m in range(MODELS):
    member[m, np.random.default_rng((0, m)).permutation(COUNT)[: COUNT // 2]] = True
    model = train(jax.random.fold_in(jax.random.key(1), m), np.flatnonzero(member[m]))
    correct[m] = apply(model, images[:COUNT]).argmax(axis=1) == labels[:COUNT]
seen = (member & correct).sum(axis=0) / member.sum(axis=0)
scores = np.float32(seen - (~member & correct).sum(axis=0) / (~member).sum(axis=0))

# S is a tenth of D. Its thirds have low, medium and high memorization; chance breaks ties.
forget = np.sort(np.random.default_rng(0).choice(COUNT, COUNT // 10, replace=False))
retain = np.setdiff1d(everything, forget)
ties = np.random.default_rng(0).permutation(len(forget))
low, medium, high = np.array_split(forget[np.lexsort((ties, scores[forget]))], 3)

# RUM gives high random labels, then fine-tunes without medium, and leaves low as it is.
first, second = (jax.random.fold_in(jax.random.key(2), turn) for turn in range(2))
kept = np.setdiff1d(everything, high)
rum = descend(first, original, np.append(kept, high), UNLEARNING, high)
rum = descend(second, rum, np.union1d(retain, low), UNLEARNING)
relabelled = descend(first, original, np.append(retain, forget), UNLEARNING, forget)

# ToW compares accuracies on S, R and T with those of an oracle, which is retrained without S.
oracle = train(jax.random.key(3), retain)
models = {"oracle": oracle, "original": original, "random labels": relabelled, "RUM": rum}
right = np.array([apply(params, images).argmax(axis=1) == labels for params in models.values()])
accuracies = np.stack([right[:, part].mean(axis=1) for part in (forget, retain, test)], axis=1)
for name, row in zip(models, accuracies, strict=True):
    tow = np.prod(1 - np.abs(row - accuracies[0]))
    print(f"{name:13}", "  S {:.3f}  R {:.3f}  T {:.3f}".format(*row), f"  ToW {tow:.3f}")
