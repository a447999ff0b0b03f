"""What the tests of networks share."""

from __future__ import annotations

import numpy as np

SIZE = 64
TEXTS = ["a short text", "", "x", "a text of many more words than the others have, to be padded against " * 3]


def pixels(rng, n=2, size=SIZE):
    return [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(n)]


def close(ours, plain):
    """Largest difference at most 1e-5 of the largest activation."""
    assert ours.shape == plain.shape
    assert float((ours - plain).abs().max()) <= 1e-5 * float(plain.abs().max())
