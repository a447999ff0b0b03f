"""Networks that fail, have no number, keep something, or would mix their items."""

import numpy as np
import pytest
import torch
from torch import nn

import embedsearch as es
from embedsearch.engine.building import build_with_report
from embedsearch.errors import ItemError, SourceError, UsageError


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Log(nn.Module):
    """Finite numbers in, NaN out for what is negative."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return torch.log(x.sum(dim=-1, keepdim=True)) + self.linear(x) * 0


@pytest.mark.parametrize("options", [{}, {"layer": ["output", "linear"]}])
def test_what_a_network_has_no_number_for_is_left_out_and_told(options, tmp_path, rng):
    x = rng.random((6, 4)).astype(np.float32)
    x[2] = -5
    report = build_with_report(x, tmp_path / "i", backbone=Log(), **options)
    assert report.reasons == {"the network gives NaN or infinity for it": 1} and report.n_items == 5
    with pytest.raises(ItemError, match="input 2: the network gives NaN"):
        es.Encoder(Log(), **options).encode(x)


class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        if (x > 100).any():
            raise ValueError("too big\nsecond line")
        return self.linear(x)


def test_an_item_for_which_the_network_fails_is_left_out_and_the_others_are_not(tmp_path, rng):
    x = rng.random((9, 4)).astype(np.float32)
    x[4, 1] = 1000
    net = Picky()
    report = build_with_report(x, tmp_path / "i", backbone=net)
    assert report.reasons == {"the network raises ValueError for 4 of float32: too big": 1} and report.n_items == 8
    good = [i for i in range(9) if i != 4]
    expected = unit(net.linear(torch.tensor(x[good])).detach().numpy())
    np.testing.assert_allclose(es.open(tmp_path / "i").vectors([str(i) for i in good]), expected, atol=1e-6)
    with pytest.raises(ItemError, match="input 4: the network raises ValueError") as caught:
        es.Encoder(net).encode(x)
    assert isinstance(caught.value.__cause__.__cause__, ValueError), "the network's own error is kept"


def test_nothing_is_built_where_the_network_fails_for_everything(tmp_path, rng):
    with pytest.raises(SourceError, match="all 3 inputs were left out.*mat1 and mat2"):
        es.build(rng.random((3, 7)), tmp_path / "i", backbone=nn.Linear(4, 3))


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        self.seen += len(x)
        self.register_buffer("last", x.mean(dim=0), persistent=False)
        if float(x.max()) > 100:
            raise ValueError("too big")
        return self.linear(x)


def test_buffers_are_what_they_were(rng):
    net = Remembering()
    buffer = net.seen
    es.Encoder(net, layer="linear").encode(rng.random((5, 4)))
    with pytest.raises(ItemError):
        es.Encoder(net, layer="linear").encode(rng.random((5, 4)) * 1000)
    assert net.seen is buffer and net.seen.tolist() == [0.0] and set(dict(net.named_buffers())) == {"seen"}


class Second(nn.Module):
    """Gives an LSTM that takes its batch second the items first; looks at values, so no copy can run."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = x * 2 if float(x.sum()) > 1e9 else x
        return self.head(self.lstm(x)[0].mean(dim=1))


def test_a_network_that_would_mix_its_items_is_refused_also_where_it_looks_at_values(rng):
    with pytest.raises(UsageError, match="'lstm' takes its batch second"):
        es.Encoder(Second(), layer="head").encode(rng.random((4, 4, 4)))


class Sly(nn.Module):
    """Changes a buffer past the counter that torch keeps of changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        self.seen.data.add_(1)
        return x + self.seen


def test_buffers_changed_behind_torchs_back_are_what_they_were(rng):
    net, x = Sly(), rng.random((3, 4)).astype(np.float32)
    first = es.Encoder(net).encode(x)
    np.testing.assert_array_equal(es.Encoder(net).encode(x), first)
    assert net.seen.tolist() == [0.0] * 4


def test_buffers_made_for_inference_only_do_no_harm(rng):
    net = nn.Sequential(nn.Linear(4, 3))
    with torch.inference_mode():
        net.register_buffer("made", torch.ones(2))
        net.append(nn.Linear(3, 2))
    assert es.Encoder(net).encode(rng.random((2, 4))).shape == (2, 2)
