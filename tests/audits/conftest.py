"""Makes populations of models whose margins are known Gaussians."""

import numpy as np
import pytest

from rumjax.audits.population import FORGOTTEN, IN, OUT, Population


@pytest.fixture
def population():
    """Makes populations in which each example has all worlds, φ of them Gaussian and apart."""

    def made(models, examples, seed=0, *, forgotten=0.0, kept=2.0, spread=1.0):
        random = np.random.default_rng(seed)
        worlds = np.stack(
            [random.permutation(np.arange(models) % 3) for _ in range(examples)], axis=1
        )
        means = np.zeros(3)
        means[[OUT, IN, FORGOTTEN]] = 0.0, kept, forgotten
        own = random.normal(0, 3, examples)  # examples differ in how hard they are
        margins = own + means[worlds] + spread * random.normal(size=worlds.shape)
        return Population(margins.astype(np.float32), worlds.astype(np.int8))

    return made
