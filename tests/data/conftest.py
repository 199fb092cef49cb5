"""A small data set of which every image is known by its number."""

import numpy as np
import pytest


@pytest.fixture
def arrays():
    """40 training images, each filled with its number, class by class, and 8 test images."""
    random = np.random.default_rng(0)
    return {
        "train_images": np.tile(np.arange(40, dtype=np.uint8)[:, None, None, None], (1, 3, 4, 3)),
        "train_labels": np.repeat(np.arange(4), 10),
        "test_images": random.integers(0, 256, (8, 3, 4, 3)).astype(np.uint8),
        "test_labels": np.arange(8) % 4,
    }
