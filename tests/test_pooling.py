"""Every pooling is its definition, written out apart in numpy, and padding never counts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import UsageError
from embedsearch.pooling import average, pool
from embedsearch.pooling.maps import rmac_regions
from embedsearch.registry import POOLING
from embedsearch.types import CLASS, CONTENT, OTHER_SPECIAL, Features


def gem(x, p=3):
    return (np.maximum(x, 1e-6) ** p).mean(axis=0) ** (1 / p)


def crow(x):
    """Kalantidis et al., equations 3 to 6, with a = b = 2."""
    x = np.maximum(x, 0)
    total = x.sum(axis=1)
    spatial = np.sqrt(total / max(np.sqrt((total**2).sum()), 1e-6))
    share = (x > 0).mean(axis=0)
    channel = np.log((len(share) * 1e-6 + share.sum()) / (1e-6 + share))
    return channel * (spatial[:, None] * x).sum(axis=0)


# each: places x channels of one item -> vector
OF_PLACES = {
    "mean": lambda x: x.mean(axis=0),
    "mean-content": lambda x: x.mean(axis=0),
    "max": lambda x: x.max(axis=0),
    "gem": gem,
    "cls": lambda x: x[0],
    "crow": crow,
}
OF_MAPS = {"rmac", "grid2x2", "grid3x3", "gem-grid3x3", "flatten"}


def make(seed, b, t, c, masked):
    """Features with random values, and a mask that keeps at least the first place of each row."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(b, t, c, generator=generator)
    lengths = torch.randint(1, t + 1, (b,), generator=generator)
    mask = torch.arange(t)[None, :] < lengths[:, None]
    return Features(values, mask if masked else None), lengths if masked else torch.full((b,), t)


def as_map(images):
    """B x C x H x W as Features."""
    return Features(images.flatten(2).transpose(1, 2), grid=tuple(images.shape[2:]))


def test_every_registered_pooling_has_its_definition_here():
    assert set(POOLING) == set(OF_PLACES) | OF_MAPS


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.booleans())
@pytest.mark.parametrize("name", list(OF_PLACES))
def test_pooling_is_its_definition_over_the_real_places(name, seed, b, t, c, masked):
    features, lengths = make(seed, b, t, c, masked)
    before = features.values.clone()
    pooled = pool(features, name)
    assert pooled.shape == (b, c) and pooled.dtype == torch.float32
    assert torch.equal(features.values, before), "the input is not touched"
    for row in range(b):
        real = features.values[row, : int(lengths[row])].double().numpy()
        np.testing.assert_allclose(pooled[row].numpy(), OF_PLACES[name](real), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(OF_PLACES))
def test_padding_changes_nothing(name):
    features, _ = make(3, 3, 5, 4, True)
    roles = torch.zeros(3, 5, dtype=torch.int8)
    roles[:, 0] = CLASS
    expected = pool(Features(features.values, features.mask, roles=roles), name)
    for filler in (0.0, 1e6, -1e6):
        padded = torch.cat([features.values, torch.full((3, 7, 4), filler)], dim=1)
        mask = torch.cat([features.mask, torch.zeros(3, 7, dtype=torch.bool)], dim=1)
        more = torch.cat([roles, torch.full((3, 7), CLASS, dtype=torch.int8)], dim=1)
        torch.testing.assert_close(pool(Features(padded, mask, roles=more), name), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "max", "gem", "crow"])
def test_a_map_is_pooled_like_its_places(name):
    images = torch.rand(2, 3, 4, 5)
    pooled = pool(as_map(images), name)
    for b in range(2):
        expected = OF_PLACES[name](images[b].double().flatten(1).T.numpy())
        np.testing.assert_allclose(pooled[b].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [1.0, 3.0, 20.0, 100.0])
def test_gem_goes_from_mean_to_max_and_never_overflows(p):
    values = torch.rand(2, 50, 3) * 1000
    pooled = pool(Features(values), "gem", gem_p=p)
    assert torch.isfinite(pooled).all()
    assert (pooled >= values.mean(1) - 1e-2).all() and (pooled <= values.amax(1) * (1 + 1e-5)).all()
    if p == 1.0:
        torch.testing.assert_close(pooled, values.mean(1), rtol=1e-5, atol=1e-4)


def test_the_regions_of_rmac_are_those_of_the_paper():
    """On a square map 1 + 4 + 9 regions, 2 w / (l + 1) wide; written out for 6 x 6."""
    assert list(rmac_regions(6, 6)) == [
        (0, 0, 6),
        *[(top, left, 4) for top in (0, 2) for left in (0, 2)],
        *[(top, left, 3) for top in (0, 1, 3) for left in (0, 1, 3)],
    ]
    wide = list(rmac_regions(6, 10))  # two squares along the long side overlap by 2 of 6, three would by 4
    assert wide[:2] == [(0, 0, 6), (0, 4, 6)] and len(wide) == 2 + 2 * 3 + 3 * 4
    assert [(left, top, side) for top, left, side in rmac_regions(10, 6)] != [] and len(list(rmac_regions(10, 6))) == 20
    for height, width in [(1, 1), (1, 7), (2, 3), (5, 40), (28, 28)]:
        regions = list(rmac_regions(height, width))
        covered = np.zeros((height, width), bool)
        for top, left, side in regions:
            assert side >= 1 and 0 <= top <= height - side and 0 <= left <= width - side
            covered[top : top + side, left : left + side] = True
        assert covered.all(), "no place is left out"


def test_rmac_by_hand():
    """A 2 x 2 map of two channels: the whole, four single places (level 2), and nine of level 3."""
    image = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]], [[4.0, 0.0], [0.0, 2.0]]]])
    whole = np.array([3, 4]) / 5
    places = {(0, 0): np.array([3, 4]) / 5, (0, 1): np.zeros(2), (1, 0): np.zeros(2), (1, 1): np.array([0.0, 1.0])}
    # level 3 has sides of 1 as well, starting at floor(0), floor(0.5), floor(1) along each side
    third = sum(places[(top, left)] for top in (0, 0, 1) for left in (0, 0, 1))
    expected = whole + sum(places.values()) + third
    np.testing.assert_allclose(pool(as_map(image), "rmac")[0].numpy(), expected, rtol=1e-6)


def test_rmac_is_the_sum_of_normalised_maxima(rng):
    images = torch.from_numpy(rng.normal(size=(2, 5, 9, 7)).astype(np.float32))
    pooled = pool(as_map(images), "rmac").numpy()
    for image, ours in zip(images.double().numpy(), pooled, strict=True):
        total = np.zeros(5)
        for top, left, side in rmac_regions(9, 7):
            top_values = image[:, top : top + side, left : left + side].max(axis=(1, 2))
            total += top_values / np.linalg.norm(top_values)
        np.testing.assert_allclose(ours, total, rtol=1e-5, atol=1e-5)


def test_crow_by_hand():
    """Two places, two channels: the first channel responds at both, the second at one."""
    features = Features(torch.tensor([[[3.0, 1.0], [3.0, 0.0]]]), grid=(1, 2))
    spatial = np.sqrt(np.array([4.0, 3.0]) / 5)
    channel = np.log(np.array([1.5 / 1.0, 1.5 / 0.5]))
    expected = channel * np.array([3 * spatial.sum(), spatial[0]])
    np.testing.assert_allclose(pool(features, "crow")[0].numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(("name", "n"), [("grid2x2", 2), ("grid3x3", 3)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (6, 6), (7, 5), (14, 14)])
def test_a_grid_is_torchs_adaptive_mean_cell_by_cell(name, n, size):
    images = torch.rand(2, 3, *size)
    expected = torch.nn.functional.adaptive_avg_pool2d(images, n).permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(pool(as_map(images), name), expected)


def test_a_grid_of_gem_is_gem_of_each_cell_at_unit_length():
    images = torch.rand(2, 4, 6, 6)
    pooled = pool(as_map(images), "gem-grid3x3", gem_p=4).unflatten(1, (9, 4)).numpy()
    for b in range(2):
        for cell in range(9):
            top, left = 2 * (cell // 3), 2 * (cell % 3)
            expected = gem(images[b, :, top : top + 2, left : left + 2].double().flatten(1).T.numpy(), 4)
            np.testing.assert_allclose(pooled[b, cell], expected / np.linalg.norm(expected), rtol=1e-5)


def test_flatten_keeps_everything():
    vector, image = torch.rand(2, 1, 5), torch.rand(2, 3, 4, 4)
    assert torch.equal(pool(Features(vector), "flatten"), vector[:, 0])
    assert torch.equal(pool(as_map(image), "flatten"), image.permute(0, 2, 3, 1).flatten(1))


def test_special_tokens_are_told_from_the_texts_own():
    values = torch.arange(12.0).reshape(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]).bool()
    own, cls, sep = CONTENT, CLASS, OTHER_SPECIAL
    roles = torch.tensor([[cls, own, own, cls, sep, own], [cls, sep, own, own, own, own]], dtype=torch.int8)
    features = Features(values, mask, roles=roles)
    assert pool(features, "mean-content").flatten().tolist() == [1.5, 6.5]  # the second has special tokens only
    assert pool(features, "cls").flatten().tolist() == [1.5, 6.0]  # of two windows the mean of both
    assert pool(features, "max").flatten().tolist() == [4.0, 7.0]


def test_bfloat16_is_pooled_in_float32():
    values = torch.rand(1, 1000, 2).to(torch.bfloat16)
    torch.testing.assert_close(pool(Features(values), "mean"), values.float().mean(1))


@pytest.mark.parametrize("name", sorted(OF_MAPS - {"flatten"}))
def test_what_needs_a_map_says_so(name):
    with pytest.raises(UsageError, match="needs a map"):
        pool(Features(torch.rand(1, 4, 2)), name)


def test_cls_of_a_map_and_flatten_of_tokens_are_refused():
    with pytest.raises(UsageError, match="mean, max or gem"):
        pool(Features(torch.rand(1, 4, 2), grid=(2, 2)), "cls")
    with pytest.raises(UsageError, match="one size"):
        pool(Features(torch.rand(1, 4, 2), torch.ones(1, 4).bool()), "flatten")


def test_an_average_of_layers_is_weighted_place_by_place():
    a, b = torch.rand(2, 4, 3), torch.rand(2, 4, 3)
    mean = average([Features(a, grid=(2, 2)), Features(b, grid=(2, 2))], [1.0, 3.0])
    torch.testing.assert_close(mean.values, (a + 3 * b) / 4)
    assert mean.grid == (2, 2)
    with pytest.raises(UsageError, match=r"4 x 3 and 4 x 5 *\)|\(4 x 3 and 4 x 5\)"):
        average([Features(a), Features(torch.rand(2, 4, 5))], [1.0, 1.0])
