"""Torch modules of the user's own: they are left as they were, run no further than needed, and keep items apart."""

import copy
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from user_networks import Net, arrays, cnn, equal, hooked, snapshot, unchanged, unit

import embedsearch as es
from embedsearch.errors import ItemError, UsageError


class Counting(nn.Module):
    """Counts its calls; can be told to fail from the call of a number on."""

    def __init__(self, inner, fail_at=0):
        super().__init__()
        self.inner, self.fail_at, self.calls = inner, fail_at, 0

    def forward(self, x):
        self.calls += 1
        if self.fail_at and self.calls >= self.fail_at:
            raise RuntimeError("broken on purpose")
        return self.inner(x)


class Stubborn(nn.Dropout):
    """Cannot be put into evaluation mode by the usual method."""

    def train(self, mode=True):
        raise AssertionError("nobody may call train() or eval() on this")


class Chatty(nn.Linear):
    """Remembers what it saw, and changes its own flag in its forward pass."""

    def forward(self, x):
        self.train()
        return super().forward(x)


# ---- nothing above the layer is computed -----------------------------------------------------------------------------


def test_nothing_above_the_deepest_layer_is_computed():
    net = nn.Sequential(*(Counting(nn.Linear(4, 4)) for _ in range(5)))
    fired = []
    for upper in (net[3], net[4].inner, net):
        upper.register_forward_hook(lambda m, a, out: fired.append(m))
    net[3].register_forward_pre_hook(lambda m, a: fired.append(m))
    es.Encoder(net, layer=["0", "2.inner"], batch_size=2).encode(arrays(4, (4,)))
    assert [part.calls for part in net] == [2, 2, 2, 0, 0] and fired == []
    es.Encoder(net, layer="1@1").encode(arrays(4, (4,)))
    assert [part.calls for part in net] == [3, 3, 2, 0, 0] and fired == []


def test_a_call_that_is_named_ends_the_pass_also_where_values_decide_how_many_there_are():
    def run(self, x):
        x = self.low(x)
        if float(x.sum()) > 1e9:
            x = self.low(x)
        return self.high(x)

    net = Net(run, low=Counting(nn.Linear(4, 4)), high=Counting(nn.Linear(4, 4), fail_at=1))
    items = arrays(3, (4,))
    equal(es.Encoder(net, layer="low@1").encode(items), unit(net.low.inner(torch.tensor(np.stack(items)))))
    assert net.high.calls == 0
    with pytest.raises(UsageError, match=r"'low' is called 1 times in a pass; @2 is not valid"):
        net.high.fail_at = 0
        es.Encoder(net, layer="low@2").encode(items)
    # how often the layer is called only the whole pass can tell
    net.high.fail_at = net.high.calls + 1
    with pytest.raises(ItemError, match="RuntimeError for .*on purpose"):
        es.Encoder(net, layer="low").encode(items)


def test_an_except_clause_of_the_network_does_not_stop_the_tap():
    def run(self, x):
        try:
            x = self.low(x)
        except Exception:
            x = x * 0
        return self.high(x)

    net = Net(run, low=nn.Linear(4, 4), high=Counting(nn.Linear(4, 4)))
    items = arrays(3, (4,))
    equal(es.Encoder(net, layer="low").encode(items), unit(net.low(torch.tensor(np.stack(items)))))
    assert net.high.calls == 0


# ---- the module is left as it was ------------------------------------------------------------------------------------


def delicate():
    """A network in which everything that could be disturbed is set to something unusual."""
    net = cnn()
    net.add_module("8", Stubborn(0.9))
    net.add_module("9", Chatty(6, 6))
    net[1].eval()
    net[4].training, net[4][1].training = False, True
    net[0].weight.requires_grad_(False)
    net[3].register_forward_hook(lambda m, a, out: out * 2)
    net[0].register_forward_pre_hook(lambda m, a: None)
    net[7].register_full_backward_hook(lambda m, a, out: None)
    net[9].training = False
    return net


@pytest.mark.parametrize("layer", ["0", "4", "4.1", "9", "output"])
def test_a_module_is_as_it_was_and_can_be_trained(layer):
    net = delicate()
    before = snapshot(net)
    ours = es.Encoder(net, layer=layer).encode(arrays())
    unchanged(net, before)
    batch = torch.tensor(np.stack(arrays()))
    if layer == "4":  # the hook of the user's own counts
        features = net[:5](batch)
        equal(ours, unit(features.movedim(1, -1)))
    net[1].training = True
    net(batch).sum().backward()
    assert net[7].weight.grad is not None and net[0].weight.grad is None
    assert int(net[1].num_batches_tracked) == 2


@pytest.mark.parametrize("seen", [True, False])
def test_a_module_is_as_it_was_when_its_forward_pass_raises(seen):
    net = delicate()
    broken = Counting(nn.Identity(), fail_at=0)
    net[4].add_module("2", broken)
    if not seen:  # and so that its calls cannot be counted beforehand
        net.add_module("10", Net(lambda self, x: x if float(x.sum()) > -1e9 else x * 2))
    encoder = es.Encoder(net, layer=["1", "7"], batch_size=2)
    encoder.encode(arrays(2))
    broken.fail_at = broken.calls + 2
    before = snapshot(net)
    with pytest.raises(ItemError, match="broken on purpose"):
        encoder.encode(arrays(5))
    unchanged(net, before)
    broken.fail_at = 0
    encoder.encode(arrays(5))


def test_a_module_is_as_it_was_when_a_preprocess_raises():
    net = delicate()
    before = snapshot(net)

    def preprocess(value):
        if value == 3:
            raise KeyError("no three")
        return np.full((3, 8, 8), value)

    encoder = es.Encoder(net, layer="4", preprocess=preprocess)
    with pytest.raises(ItemError, match="input 2: preprocess raises KeyError: 'no three'"):
        encoder.encode([1.0, 2.0, 3])
    unchanged(net, before)
    assert encoder.encode([1.0, 2.0]).shape == (2, 5)


def test_what_a_caller_set_around_a_call_stays():
    net = cnn()
    encoder = es.Encoder(net, layer="4")
    plain = encoder.encode(arrays())
    with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        equal(encoder.encode(arrays()), plain)
        assert torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    with torch.no_grad():
        encoder.encode(arrays())
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        equal(encoder.encode(arrays()), plain)


def test_what_a_module_keeps_in_its_forward_pass_can_be_trained_with_later():
    def run(self, x):
        if not hasattr(self, "kept"):
            self.kept = torch.arange(4.0)
        return self.linear(x) * self.kept

    net = Net(run, linear=nn.Linear(4, 4))
    es.Encoder(net).encode(arrays(2, (4,)))
    net(torch.ones(1, 4)).sum().backward()
    assert net.linear.weight.grad is not None


def test_items_are_not_written_into():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())
    items = [arrays(1, (4,))[0], torch.randn(4)]
    before = copy.deepcopy(items)
    es.Encoder(net).encode(items)
    es.Encoder(net).encode(items[:1])
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(items, before, strict=True))


def test_encoders_in_many_threads_share_a_module_and_its_parts():
    """Hooks of one never answer for another, also where the other runs a part, or the user runs the module."""
    net = cnn()
    whole = nn.Sequential(net, nn.Flatten())
    encoders = [es.Encoder(net, layer="4"), es.Encoder(net, layer=["1", "4.1"]), es.Encoder(net[4], layer="0"),
                es.Encoder(whole, layer="0.4.0"), es.Encoder(net)]  # fmt: skip
    items = [arrays(6), arrays(6), arrays(6, (4, 6, 6)), arrays(6), arrays(6)]
    before = snapshot(net)
    expected = [encoder.encode(x) for encoder, x in zip(encoders, items, strict=True)]
    wrong = []

    def run(i):
        for _ in range(15):
            try:
                equal(encoders[i].encode(items[i]), expected[i])
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(encoders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    unchanged(net, before)


# ---- items are kept apart, in whatever form they come ----------------------------------------------------------------


SEQUENCES = nn.Sequential(nn.Linear(4, 5), nn.GRU(5, 6, batch_first=True))


@settings(max_examples=25)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=9), st.integers(1, 5), st.randoms())
def test_order_batches_and_company_change_nothing(lengths, batch_size, random):
    items = [np.random.default_rng(i).normal(size=(length, 4)) for i, length in enumerate(lengths)]
    alone = np.concatenate(
        [unit(hooked(SEQUENCES, "1", torch.tensor(item[None], dtype=torch.float32))[0][0]) for item in items]
    )
    order = random.sample(range(len(items)), len(items))
    ours = es.Encoder(SEQUENCES, layer="1", batch_size=batch_size).encode([items[i] for i in order])
    equal(ours, alone[order])


def test_networks_that_would_mix_the_items_of_a_batch_are_refused():
    """Torch's own default reads L x B x C; items are stacked as B x L x C."""
    torch.manual_seed(0)
    for net in (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 1, enable_nested_tensor=False),
        nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)),
    ):
        with pytest.raises(UsageError, match="batch_first"):
            es.Encoder(net, layer="0" if isinstance(net, nn.Sequential) else None).encode(arrays(3, (5, 4)))


def test_a_norm_over_the_batch_is_refused():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False))
    items = arrays(6, (4,))
    with pytest.raises(UsageError, match=r"layer '1' normalises over the batch"):
        es.Encoder(net).encode(items)
    equal(es.Encoder(net, layer="0").encode(items), unit(hooked(net, "0", torch.tensor(np.stack(items)))[0]))
    assert not net[1]._forward_pre_hooks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_numbers_take_the_type_of_the_module(dtype):
    net = cnn().to(dtype)
    for items in (arrays(), [x.astype(np.float64) for x in arrays()], [torch.tensor(x).half() for x in arrays()]):
        batch = torch.stack([torch.as_tensor(item).to(dtype) for item in items])
        equal(es.Encoder(net, layer="4").encode(items), unit(hooked(net, "4", batch)[0].movedim(1, -1)))


@pytest.mark.parametrize(
    "turn",
    [
        lambda x: x.tolist(), lambda x: x.astype(">f4"), lambda x: x[::-1].copy()[::-1], torch.tensor,
        lambda x: torch.tensor(x, requires_grad=True), lambda x: list(torch.tensor(x)), np.asfortranarray,
        lambda x: (np.array(x).setflags(write=False), np.frombuffer(x.tobytes(), np.float32).reshape(x.shape))[1],
        lambda x: [torch.tensor(row, requires_grad=True) for row in x],
    ],
)  # fmt: skip
def test_an_item_may_come_in_any_form(turn):
    net = nn.Sequential(nn.Linear(4, 3))
    items = arrays(3, (5, 4))
    expected = unit(net(torch.tensor(np.stack(items))))
    equal(es.Encoder(net).encode([turn(item) for item in items]), expected)


def test_tuples_are_arguments_and_mappings_are_names():
    net = Net(lambda self, ids, scale=None, *, shift=0.0: self.table(ids) * scale + shift, table=nn.Embedding(9, 4))
    ids, scale = [np.array([1, 2]), np.array([3, 8])], [torch.rand(1, 4), torch.rand(1, 4)]
    shift = [np.ones((2, 4)), np.zeros((2, 4))]
    rows = net.table.weight.detach()[torch.tensor(np.stack(ids))] * torch.stack(scale)
    equal(es.Encoder(net).encode(list(zip(ids, scale, strict=True))), unit(rows))
    named = [{"shift": c, "ids": a, "scale": b} for a, b, c in zip(ids, scale, shift, strict=True)]
    equal(es.Encoder(net).encode(named), unit(rows + torch.tensor(np.stack(shift), dtype=torch.float32)))
    equal(es.Encoder(net).encode(list(zip(ids, scale, strict=True)) + named)[:2], unit(rows))


@pytest.mark.parametrize("item", ["a text", b"bytes", None, [[1.0], [2.0, 3.0]], {"x": "text"}, (1.0, object())])
def test_an_item_that_is_no_array_is_named(item):
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(ItemError, match="input 1.*an array or tensor of the network's own input shape is needed"):
        es.Encoder(net).encode([np.ones((2, 2)), item])
