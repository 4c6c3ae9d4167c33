"""What the tests of prada share."""

import numpy as np

AUTHORS = {"interval": 10, "class_distances": 10, "counted": "after"}


def images(seed, n, d=36, classes=3):
    """Images of 8 bits, each class about a centre, with distances that are nearly normal."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(20, d))
    labels = rng.integers(classes, size=n)
    x = rng.uniform(90, 160, (classes, d))[labels] + 6 * rng.normal(size=(n, 20)) @ basis
    return x.clip(0, 255).astype(np.uint8).astype(np.float32) / np.float32(255), labels


def synthetic(seed, n, d=36, classes=3, step=0.1):
    """Seeds, then rows one step of a fixed length from a row before, as Jacobian-based augmentation makes them."""
    rng = np.random.default_rng(seed)
    x, labels = images(seed, n, d, classes)
    for i in range(n // 4, n):
        parent = rng.integers(i)
        x[i] = (x[parent] + np.float32(step) * rng.choice(np.float32([-1, 1]), d)).clip(0, 1)
        labels[i] = labels[parent]
    return x, labels


def statistic(settings, state):
    return state.pasts[0].D.w(settings._is_enough)
