"""The gradients of algorithms that learn from a teacher, step by step, in NumPy and float64."""

import numpy as np

from tests.references.network import Network, softmax


def towards(network, images, targets):
    """From parameters to the gradient of the mean KL(targets‖student)."""

    def gradient(params):
        logits, pullback = network(params, images)
        return pullback((softmax(logits) - targets) / len(images))

    return gradient


def answers(variables, images):
    """Logits of a teacher, with running statistics."""
    params, stats = variables
    return Network(stats, update=False)(params, images)[0]


def accuracy(variables, images, labels):
    return np.mean(answers(variables, images).argmax(axis=1) == labels)


def bad_teacher(student, good, bad, images, forgotten):
    """A step on S ∪ R′: the bad teachers' mean on S, the good one's answers elsewhere."""
    classes = answers(good, images).shape[1]
    ignorant = [softmax(answers(one, images)) for one in bad] or [np.full(classes, 1 / classes)]
    targets = np.where(
        forgotten[:, None], np.mean(ignorant, axis=0), softmax(answers(good, images))
    )
    return towards(student, images, targets)


def delete(student, teacher, images, labels):
    """A step on S: the teacher's answers without the true class."""
    logits = answers(teacher, images)
    others = np.exp(logits - logits.max(axis=1, keepdims=True))
    others[np.arange(len(labels)), labels] = 0
    return towards(student, images, others / others.sum(axis=1, keepdims=True))


def lotus(student, teacher, images, forgotten, noise, temperature):
    """A step on S ∪ R′: softened noisy answers on S, drawn classes elsewhere."""
    raised = answers(teacher, images) + noise
    drawn = np.eye(raised.shape[1])[raised.argmax(axis=1)]
    targets = np.where(forgotten[:, None], softmax(raised / temperature), drawn)
    return towards(student, images, targets)
