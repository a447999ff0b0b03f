"""Torch modules of the user's own: the vectors are those of a plain forward hook."""

import copy
import dataclasses
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from user_networks import Net, arrays, cnn, equal, hooked, places, unit

import embedsearch as es
from embedsearch.backbones.packaged import minilm_folder
from embedsearch.errors import UnknownNameError, UsageError

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass
class Answer:
    note: str
    values: torch.Tensor
    other: torch.Tensor


# ---- every layer equals a plain hook ---------------------------------------------------------------------------------


def test_every_layer_of_a_cnn_equals_a_plain_hook_alone_and_together():
    net, items = cnn(), arrays()
    names = [name for name, _ in net.named_modules() if name]
    batch = torch.tensor(np.stack(items))
    alone = []
    for name in names:
        alone.append(es.Encoder(net, layer=name).encode(items))
        equal(alone[-1], unit(places(hooked(net, name, batch)[0])))
    together = es.Encoder(net, layer=names).encode(items)
    equal(together, np.concatenate(alone, axis=1) / np.sqrt(len(names)))
    equal(es.Encoder(net).encode(items), unit(copy.deepcopy(net).eval()(batch)))
    equal(es.Encoder(net, layer="output").encode(items), alone[-1])


def test_one_pass_tells_the_widths_of_all_layers():
    passes = []

    def forward(self, x):
        passes.extend([] if x.is_meta else [len(x)])
        return self.high(self.low(x))

    net = Net(forward, low=nn.Conv2d(3, 4, 3), high=nn.Conv2d(4, 5, 3))
    encoder = es.Encoder(net, layer=["low", "high"], modality="image", size=16)
    assert encoder.dim == 9 and passes == [1]


def test_a_layer_equals_a_cut_that_torch_fx_made():
    net, items = cnn(), arrays()
    graph = torch.fx.symbolic_trace(copy.deepcopy(net).eval())
    for layer in ("1", "4.0"):
        cut = copy.deepcopy(graph)
        node = next(node for node in cut.graph.nodes if node.op == "call_module" and node.target == layer)
        next(node for node in cut.graph.nodes if node.op == "output").args = (node,)
        cut.graph.eliminate_dead_code()
        cut.recompile()
        equal(es.Encoder(net, layer=layer).encode(items), unit(places(cut(torch.tensor(np.stack(items))))))


def sequence_nets():
    torch.manual_seed(2)
    lstm, attention = nn.LSTM(4, 6, batch_first=True), nn.MultiheadAttention(4, 2, batch_first=True)
    block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    return {
        "lstm": (nn.Sequential(lstm), "0", lambda out: out[0]),
        "two-way lstm of two layers": (
            nn.Sequential(nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True, dropout=0.5)), "0", lambda out: out[0]
        ),
        "gru": (nn.Sequential(nn.GRU(4, 5, batch_first=True)), "0", lambda out: out[0]),
        "sequence first": (
            Net(lambda self, x: self.lstm(x.transpose(0, 1))[0].mean(0), lstm=nn.LSTM(4, 6)),
            "lstm", lambda out: out[0].transpose(0, 1)
        ),
        "sequence first gru": (
            Net(lambda self, x: self.gru(x.transpose(0, 1))[1][0], gru=nn.GRU(4, 6)),
            "gru", lambda out: out[0].transpose(0, 1)
        ),
        "attention": (
            Net(lambda self, x: self.attention(x, x, x)[0], attention=attention), "attention", lambda out: out[0]
        ),
        "sequence first attention": (
            Net(lambda self, x: self.attention(*[x.transpose(0, 1)] * 3)[0].mean(0),
                attention=nn.MultiheadAttention(4, 2)),
            "attention", lambda out: out[0].transpose(0, 1)
        ),
        "transformer": (
            nn.Sequential(nn.TransformerEncoder(block, 2, enable_nested_tensor=False)), "0.layers.0", lambda out: out
        ),
        "transformer's attention": (
            nn.Sequential(nn.TransformerEncoder(block, 2, enable_nested_tensor=False)), "0.layers.1.norm1",
            lambda out: out
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", sequence_nets())
@pytest.mark.parametrize(("n", "length"), [(1, 7), (3, 3), (2, 5), (5, 2)])
def test_layers_over_sequences_equal_a_plain_hook(name, n, length):
    net, layer, tokens = sequence_nets()[name]
    items = arrays(n, (length, 4))

    seen = hooked(net, layer, torch.tensor(np.stack(items)))
    equal(es.Encoder(net, layer=layer).encode(items), unit(tokens(seen[-1])))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_recurrent_layer_as_the_whole_network_keeps_items_apart(kind, batch_first):
    torch.manual_seed(3)
    net = kind(4, 6, batch_first=batch_first)
    items = arrays(5, (5, 4))
    theirs = np.concatenate([unit(net(torch.tensor(item))[0][None]) for item in items])
    equal(es.Encoder(net).encode(items), theirs)
    equal(es.Encoder(net, batch_size=2).encode(items), theirs)


def test_an_embedding_is_looked_up():
    torch.manual_seed(4)
    table = nn.Embedding(9, 4)
    rows = table.weight.detach()
    equal(es.Encoder(table).encode([3, np.int64(5), torch.tensor(7)]), unit(rows[[3, 5, 7]]))
    equal(es.Encoder(table).encode([[1, 2], [3, 3]]), unit(rows[torch.tensor([[1, 2], [3, 3]])]))
    net = nn.Sequential(table, nn.LSTM(4, 3, batch_first=True))
    equal(es.Encoder(net, layer="0").encode([[1, 2, 8]]), unit(rows[None, [1, 2, 8]]))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: {"a": x, "b": x + 1},
        lambda x: {"note": "text", "x": x},
        lambda x: Answer("text", x, x + 1),
        lambda x: Pair(x, x + 1),
        lambda x: ("text", ((None, x), x + 1)),
        lambda x: [x, [x + 1]],
    ],
)
def test_layers_that_give_more_than_a_tensor_give_its_first(wrap):
    torch.manual_seed(5)
    part = Net(lambda self, x: wrap(self.linear(x)), linear=nn.Linear(4, 3))
    net = Net(lambda self, x: torch.zeros(len(x), 1) if self.part(x) is not None else x, part=part)
    items = arrays(3, (4,))
    equal(es.Encoder(net, layer="part").encode(items), unit(part.linear(torch.tensor(np.stack(items)))))


def test_layers_over_one_axis_of_places_are_pooled_over_their_places():
    """Of B x C x L, which convolutions over one axis give, L are the places."""
    torch.manual_seed(6)
    net = nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(15, 2))
    items = arrays(4, (3, 8))
    for layer in ("0", "1", "2"):
        out = hooked(net, layer, torch.tensor(np.stack(items)))[0]
        equal(es.Encoder(net, layer=layer).encode(items), unit(out.transpose(1, 2)))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_padding_between_the_layers_of_a_transformer_is_no_token():
    torch.manual_seed(12)
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2)
    lengths, tokens = (2, 5, 3), arrays(3, (5, 4))
    named = [{"src": x, "src_key_padding_mask": np.arange(5) >= n} for x, n in zip(tokens, lengths, strict=True)]
    for layer in ("layers.0", "layers.1.norm1"):
        alone = [hooked(net, layer, torch.tensor(x[None, :n]))[0] for x, n in zip(tokens, lengths, strict=True)]
        equal(es.Encoder(net, layer=layer).encode(named), np.concatenate([unit(x) for x in alone]))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_weights_that_are_made_in_the_forward_pass():
    torch.manual_seed(13)
    items = arrays(3, (4,))
    for norms in (nn.utils.parametrizations, nn.utils):
        net = nn.Sequential(norms.weight_norm(nn.Linear(4, 5)), norms.spectral_norm(nn.Linear(5, 3))).eval()
        for layer, plain in {
            "0": net[0](torch.tensor(np.stack(items))),
            "1": net(torch.tensor(np.stack(items))),
        }.items():
            equal(es.Encoder(net, layer=layer).encode(items), unit(plain))


def test_a_language_model_in_memory_equals_the_one_known_by_name():
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(minilm_folder()), AutoModel.from_pretrained(minilm_folder())
    texts = ["a man is eating", "x", "hello there, you", "a b c"]
    for layer in ("encoder.layer.2", None):
        expected = es.Encoder("minilm", layer=layer).encode(texts)
        for options in ({}, {"padding": "max_length", "max_length": 12}):

            def tokens(text, options=options):
                return {name: x[0] for name, x in tokenizer(text, return_tensors="pt", **options).items()}

            ours = es.Encoder(model, layer=layer, preprocess=tokens, modality="text")
            np.testing.assert_allclose(ours.encode(texts), expected, atol=1e-5)
    with pytest.raises(UsageError, match="must be told how to read a text"):
        es.Encoder(model, modality="text")


# ---- modules that are called several times ---------------------------------------------------------------------------


def shared():
    torch.manual_seed(7)
    return Net(
        lambda self, x: self.head(self.block(torch.relu(self.block(torch.relu(self.block(x)))))),
        block=nn.Linear(4, 4), head=nn.Linear(4, 2),
    )  # fmt: skip


def test_the_calls_of_a_shared_module_have_names():
    net, items = shared(), arrays(4, (4,))
    calls = hooked(net, "block", torch.tensor(np.stack(items)))
    assert len(calls) == 3
    for name, call in {"block": 2, "block@1": 0, "block@2": 1, "block@3": 2}.items():
        equal(es.Encoder(net, layer=name).encode(items), unit(calls[call]))
    both = es.Encoder(net, layer=["block@1", "block"]).encode(items)
    equal(both, np.concatenate([unit(calls[0]), unit(calls[2])], axis=1) / np.sqrt(2))
    with pytest.raises(UsageError, match=r"'block' is called 3 times in a pass; @9 is not valid, use @1 to @3"):
        es.Encoder(net, layer="block@9").encode(items)
    for wrong in ("block@0", "block@x", "block@", "block@-1", "block@1@2"):
        if wrong != "block@":
            with pytest.raises(UsageError, match="a call is a number from 1 on"):
                es.Encoder(net, layer=wrong)
    with pytest.raises(UnknownNameError, match="did you mean 'block'"):
        es.Encoder(net, layer="blok@1")


def test_a_module_of_two_names_is_one_module():
    torch.manual_seed(8)
    layer = nn.Linear(4, 4)
    net, items = nn.Sequential(layer, nn.Tanh(), layer), arrays(3, (4,))
    calls = hooked(net, "0", torch.tensor(np.stack(items)))
    for name, call in {"0": 1, "2": 1, "0@1": 0, "2@1": 0, "2@2": 1}.items():
        equal(es.Encoder(net, layer=name).encode(items), unit(calls[call]))


def over_time(self, x):
    h = torch.zeros(x.shape[0], 4)
    for step in range(x.shape[1]):
        h = self.cell(x[:, step] + h)
    return self.head(h)


def until_small(self, x):
    x = self.block(x)
    while float(x.abs().max()) > 0.1:
        x = self.block(x) * 0.3
    return self.head(x)


def test_calls_that_depend_on_the_length_of_the_input():
    torch.manual_seed(9)
    net = Net(over_time, cell=nn.Linear(4, 4), head=nn.Linear(4, 2))
    items = [np.random.default_rng(i).normal(size=(length, 4)) for i, length in enumerate([3, 1, 6, 3, 2])]
    for call in (None, 1):
        ours = es.Encoder(net, layer="cell" if call is None else "cell@1").encode(items)
        for item, vector in zip(items, ours, strict=True):
            seen = hooked(net, "cell", torch.tensor(item[None], dtype=torch.float32))
            equal(vector[None], unit(seen[-1 if call is None else call - 1]))
    with pytest.raises(UsageError, match=r"called 1 times in a pass; @2"):
        es.Encoder(net, layer="cell@2").encode(items)


def test_calls_that_depend_on_values():
    torch.manual_seed(10)
    net = Net(until_small, block=nn.Linear(4, 4, bias=False), head=nn.Linear(4, 2))
    for scale in (0.01, 1, 50):
        item = arrays(1, (4,))[0] * np.float32(scale)
        seen = hooked(net, "block", torch.tensor(item[None]))
        equal(es.Encoder(net, layer="block").encode([item]), unit(seen[-1]))
        equal(es.Encoder(net, layer="block@1").encode([item]), unit(seen[0]))
        with pytest.raises(UsageError, match=f"called {len(seen)} times.*@{len(seen) + 1} is not valid"):
            es.Encoder(net, layer=f"block@{len(seen) + 1}").encode([item])


def test_calls_whose_answer_has_no_batch_are_counted_too():
    """A projection of the network's own positions first, and of the items afterwards."""
    torch.manual_seed(11)
    positions = torch.randn(3, 4)
    net = Net(lambda self, x: self.head(self.proj(x) + self.proj(positions.to(x.device))),
              proj=nn.Linear(4, 4), head=nn.Linear(4, 2))  # fmt: skip
    reverse = Net(lambda self, x: self.proj(positions.to(x.device)) + self.proj(x), proj=nn.Linear(4, 4))
    items = arrays(3, (3, 4))
    batch = torch.tensor(np.stack(items))
    equal(es.Encoder(net, layer="proj@1").encode(items), unit(hooked(net, "proj", batch)[0]))
    equal(es.Encoder(reverse, layer="proj").encode(items), unit(hooked(reverse, "proj", batch)[1]))
    with pytest.raises(UsageError, match="first axis is the batch"):
        es.Encoder(net, layer="proj").encode(items)  # three positions, three items: as many by chance


def test_layers_without_an_answer_are_told():
    never = Net(lambda self, x: self.used(x), used=nn.Linear(4, 4), unused=nn.Linear(4, 4))
    with pytest.raises(UsageError, match="'unused' is not reached in a forward pass"):
        es.Encoder(never, layer="unused").encode(arrays(2, (4,)))
    with pytest.raises(UsageError, match="'unused' is not reached in a forward pass"):
        es.Encoder(never, layer=["used", "unused@1"]).encode(arrays(2, (4,)))
    silent = Net(lambda self, x: (self.part(x), x)[1], part=Net(lambda self, x: None))
    with pytest.raises(UsageError, match="gives NoneType, in which no tensor is found"):
        es.Encoder(silent, layer="part").encode(arrays(2, (4,)))
    number = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    with pytest.raises(UsageError, match="one number an item"):
        es.Encoder(number).encode(arrays(2, (4,)))
