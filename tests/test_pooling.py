import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import UsageError
from embedsearch.pooling import pool
from embedsearch.registry import POOLING
from embedsearch.types import Features


def make(seed, b, t, c, masked):
    """Features with random values, and a mask that keeps at least the first place of each row."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(b, t, c, generator=generator)
    lengths = torch.randint(1, t + 1, (b,), generator=generator)
    mask = torch.arange(t)[None, :] < lengths[:, None]
    return Features(values, mask if masked else None), lengths if masked else torch.full((b,), t)


ORACLES = {
    "mean": lambda x: x.mean(axis=0),
    "max": lambda x: x.max(axis=0),
    "gem": lambda x: (np.maximum(x, 1e-6) ** 3).mean(axis=0) ** (1 / 3),
    "cls": lambda x: x[0],
}


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.booleans())
@pytest.mark.parametrize("name", list(POOLING))
def test_pooling_is_its_definition_over_the_real_places(name, seed, b, t, c, masked):
    features, lengths = make(seed, b, t, c, masked)
    before = features.values.clone()
    pooled = pool(features, name)
    assert pooled.shape == (b, c) and pooled.dtype == torch.float32
    assert torch.equal(features.values, before), "the input is not touched"
    for row in range(b):
        real = features.values[row, : int(lengths[row])].double().numpy()
        np.testing.assert_allclose(pooled[row].numpy(), ORACLES[name](real), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(POOLING))
def test_padding_changes_nothing(name):
    features, _ = make(3, 3, 5, 4, True)
    for filler in (0.0, 1e6, -1e6):
        padded = torch.cat([features.values, torch.full((3, 7, 4), filler)], dim=1)
        mask = torch.cat([features.mask, torch.zeros(3, 7, dtype=torch.bool)], dim=1)
        torch.testing.assert_close(pool(Features(padded, mask), name), pool(features, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "max", "gem"])
def test_a_map_is_pooled_like_its_places(name):
    images = torch.rand(2, 3, 4, 5)
    places = Features(images.flatten(2).transpose(1, 2), grid=(4, 5))
    pooled = pool(places, name)
    for b in range(2):
        for c in range(3):
            expected = ORACLES[name](images[b, c].double().numpy().reshape(-1, 1))[0]
            assert abs(float(pooled[b, c]) - expected) < 1e-5


@pytest.mark.parametrize("p", [1.0, 3.0, 20.0, 100.0])
def test_gem_goes_from_mean_to_max_and_never_overflows(p):
    values = torch.rand(2, 50, 3) * 1000
    pooled = pool(Features(values), "gem", gem_p=p)
    assert torch.isfinite(pooled).all()
    assert (pooled >= values.mean(1) - 1e-2).all() and (pooled <= values.amax(1) * (1 + 1e-5)).all()
    if p == 1.0:
        torch.testing.assert_close(pooled, values.mean(1), rtol=1e-5, atol=1e-4)


def test_bfloat16_is_pooled_in_float32():
    values = torch.rand(1, 1000, 2).to(torch.bfloat16)
    torch.testing.assert_close(pool(Features(values), "mean"), values.float().mean(1))


def test_cls_of_a_map_is_refused():
    with pytest.raises(UsageError, match="mean, max or gem"):
        pool(Features(torch.rand(1, 4, 2), grid=(2, 2)), "cls")
