"""Embedding tables out of files and networks, against the embedding layers themselves."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from embedsearch.backbones.files.keras_file import import_keras
from embedsearch.errors import SourceError, UnknownNameError, UsageError, WeightsError
from embedsearch.pipeline.table import EmbeddingTable

keras = import_keras()
# of keras itself, which numpy 2 tells when keras saves a model of its torch backend
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

IDS = np.array([[3, 0], [6, 3]])


class Recommender(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = nn.Linear(4, 3)
        self.item_embedding = nn.Embedding(7, 4)
        self.bag = nn.EmbeddingBag(5, 2)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("codes", torch.arange(6).view(2, 3))


def keras_model():
    """Two embedding layers, one of them within a model that is a layer of the other."""
    inside = keras.Sequential([keras.layers.Input((2,), dtype="int32"), keras.layers.Embedding(4, 3, name="shops")])
    inputs = keras.layers.Input((2,), dtype="int32")
    x = keras.layers.Concatenate()([keras.layers.Embedding(7, 4, name="items")(inputs), inside(inputs)])
    return keras.Model(inputs, keras.layers.Dense(2, name="out")(keras.layers.Flatten()(x)))


@pytest.fixture
def model():
    torch.manual_seed(3)
    return Recommender()


def layer_answer(layer, ids):
    with torch.no_grad():
        return np.asarray(layer(torch.as_tensor(ids)).cpu())


def saved(model, folder):
    """The same weights in every format of torch, safetensors and numpy."""
    state = model.state_dict()
    torch.save(state, folder / "state.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, folder / "wrapped.pth")
    torch.save(model, folder / "whole.bin")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "a.safetensors")
    np.savez(folder / "a.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    np.savez_compressed(folder / "packed.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    return sorted(folder.iterdir())


def test_every_torch_format_answers_as_the_layer(tmp_path, model):
    wanted = layer_answer(model.item_embedding, IDS)
    for path in saved(model, tmp_path):
        for name in ("item_embedding.weight", "item_embedding"):
            table = EmbeddingTable.load(path, name)
            found = table.lookup(IDS)
            assert found.dtype == np.float32 and table.shape == (7, 4) and table.dim == 4 and len(table) == 7
            np.testing.assert_array_equal(found, wanted)
            assert table.location == f"{path}::item_embedding.weight"
        listed = EmbeddingTable.candidates(str(path))
        assert listed[0] == ("item_embedding.weight", (7, 4))
        assert sorted(listed) == [("bag.weight", (5, 2)), ("item_embedding.weight", (7, 4)), ("tower.weight", (3, 4))]


def test_networks_and_mappings_in_memory(model):
    wanted = layer_answer(model.item_embedding, IDS)
    for source, name in (
        (model, "item_embedding"), (model.item_embedding, "weight"), (model.item_embedding, None),
        (model.state_dict(), "item_embedding"), ({"x": model.item_embedding.weight}, "x"),
        ({"x": model.item_embedding.weight.detach().numpy(), "epoch": 3}, "x"),
    ):  # fmt: skip
        table = EmbeddingTable.load(source, name)
        np.testing.assert_array_equal(table.lookup(torch.as_tensor(IDS)), wanted)
        assert table.location == "<table>" and table.ids is None
        table.assign(3, np.zeros(4))
        np.testing.assert_array_equal(layer_answer(model.item_embedding, IDS), wanted)
    assert EmbeddingTable.candidates(model) == [
        ("item_embedding.weight", (7, 4)), ("bag.weight", (5, 2)), ("tower.weight", (3, 4)),
    ]  # fmt: skip


def test_keras_files_and_models_answer_as_the_layer(tmp_path):
    network = keras_model()
    network.save(tmp_path / "m.keras")
    network.save(tmp_path / "m.h5")
    items, ids = network.get_layer("items"), np.array([[3, 0], [6, 3]])
    wanted = keras.ops.convert_to_numpy(items(ids))
    for source in (tmp_path / "m.keras", tmp_path / "m.h5", network):
        for name in ("items", "items/embeddings"):
            table = EmbeddingTable.load(source, name)
            np.testing.assert_array_equal(table.lookup(ids), wanted)
        assert EmbeddingTable.load(source, "shops").shape == (4, 3)
        listed = EmbeddingTable.candidates(source)
        assert {shape for _, shape in listed[:2]} == {(7, 4), (4, 3)} and listed[2:] == [("out/kernel", (14, 2))]
        with pytest.raises(UnknownNameError, match="items/embeddings"):
            EmbeddingTable.load(source, "item")
    assert EmbeddingTable.load(tmp_path / "m.keras", "items").location == f"{tmp_path / 'm.keras'}::items/embeddings"
    np.testing.assert_array_equal(EmbeddingTable.load(items).lookup(ids), wanted)
    before = wanted.copy()
    EmbeddingTable.load(items).assign(3, np.zeros(4))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(items(ids)), before)
    with pytest.raises(UsageError, match="no floating parameter"):
        EmbeddingTable.load(keras.Sequential([keras.layers.Embedding(3, 2)]))


def test_a_keras_layer_with_lora_answers_as_it_computes():
    layer = keras.layers.Embedding(6, 3)
    layer.build()
    layer.enable_lora(2)
    layer.lora_embeddings_b.assign(np.ones((2, 3)))
    wanted = keras.ops.convert_to_numpy(layer(np.arange(6)))
    np.testing.assert_allclose(EmbeddingTable.load(layer).lookup(range(6)), wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_becomes_float32(tmp_path, dtype):
    weight = torch.randn(6, 3).to(dtype)
    weight[2, 1] = float("nan")
    save_file({"emb": weight}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(EmbeddingTable.load(tmp_path / "a.safetensors", "emb").rows, weight.float().numpy())


def test_arrays_of_numpy(tmp_path):
    x = np.asfortranarray(np.random.default_rng(1).normal(size=(5, 3))).astype(">f8")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", **{"a/emb": x, "one": x[0], "whole": np.eye(2, dtype=int)})
    for table in (EmbeddingTable.load(tmp_path / "x.npy"), EmbeddingTable.load(tmp_path / "x.npz", "a/emb")):
        np.testing.assert_array_equal(table.rows, x.astype(np.float32))
        assert table.rows.flags.c_contiguous and table.rows.dtype == np.dtype("=f4")
    assert EmbeddingTable.candidates(tmp_path / "x.npz") == [("a/emb", (5, 3))]
    assert EmbeddingTable.candidates(tmp_path / "x.npy") == [("vectors", (5, 3))]
    np.savez(tmp_path / "o.npz", o=np.array([[{}]], dtype=object), f=x)
    with pytest.raises(UsageError, match=r"object of shape 1 x 1.*it offers: f \(5 x 3\)"):
        EmbeddingTable.load(tmp_path / "o.npz", "o")


def test_names_that_are_missing_or_wrong_list_the_candidates(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "m.pt")
    path = tmp_path / "m.pt"
    offers = r"it offers: item_embedding\.weight \(7 x 4\), tower\.weight \(3 x 4\), bag\.weight \(5 x 2\)$"
    with pytest.raises(UsageError, match=f"say which parameter of {path} is the table; {offers}"):
        EmbeddingTable.load(path)
    with pytest.raises(
        UnknownNameError, match=rf"'item_embeding' is not in .*did you mean 'item_embedding\.weight'\? {offers}"
    ):
        EmbeddingTable.load(path, "item_embeding")
    for name, told in {"tower.bias": "float32 of shape 3;", "codes": "int64 of shape 2 x 3;"}.items():
        with pytest.raises(UsageError, match=f"parameter '{name}' of .* is {told} a table must be N x D"):
            EmbeddingTable.load(path, name)
    many = {f"layer{i}": np.eye(2) for i in range(20)}
    with pytest.raises(UsageError, match="and 8 more"):
        EmbeddingTable.load(many)
    with pytest.raises(UnknownNameError, match=r"'other' is not in .*vectors \(2 x 2\)"):
        np.save(tmp_path / "x.npy", np.eye(2))
        EmbeddingTable.load(tmp_path / "x.npy", "other")


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch: quantised tensors are deprecated
def test_quantised_and_empty_parameters_are_refused(tmp_path):
    quantised = torch.quantize_per_tensor(torch.ones(3, 2), 0.1, 0, torch.qint8)
    torch.save({"q": quantised, "f": torch.ones(1, 2)}, tmp_path / "q.pt")
    with pytest.raises(UsageError, match="qint8 of shape 3 x 2"):
        EmbeddingTable.load(tmp_path / "q.pt", "q")
    with pytest.raises(UsageError, match="meta device"):
        EmbeddingTable.load(nn.Embedding(3, 2, device="meta"))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("x.xyz", b"", UsageError, r"not a kind of file that holds a table; valid: \.pt"),
        ("x.npz", b"nonsense", SourceError, "not a .npz file"),
        ("x.npy", b"nonsense", SourceError, "not a .npy file"),
        ("x.pt", b"nonsense", WeightsError, "cannot be read"),
        ("x.npz", None, SourceError, "does not exist"),
        ("x.npy", None, SourceError, "does not exist"),
        ("x.pt", None, WeightsError, "do not exist"),
    ],
)
def test_files_that_hold_no_table(tmp_path, name, content, error, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        EmbeddingTable.load(tmp_path / name, "x")


def test_sources_of_other_kinds_are_refused():
    for source, message in (
        (np.eye(2), "needs no loading"),
        (5, "cannot be read from int"),
        ("s3://a/b.pt", "local path"),
    ):
        with pytest.raises(UsageError, match=message):
            EmbeddingTable.load(source, "x")


def test_a_state_dict_under_a_key_of_the_users_own_is_found(tmp_path):
    weight = torch.randn(5, 3)
    optimizer = {"state": {0: {"exp_avg": weight}}, "param_groups": [{"lr": 1}]}
    torch.save({"epoch": 3, "model_state": {"items.weight": weight}, "opt": optimizer}, tmp_path / "nest.pt")
    assert EmbeddingTable.candidates(tmp_path / "nest.pt") == [("items.weight", (5, 3))]
    np.testing.assert_array_equal(EmbeddingTable.load(tmp_path / "nest.pt", "items").rows, weight.numpy())
    beside = {"best_loss": torch.tensor(0.3), "rng": torch.get_rng_state(), "norm": {"mean": torch.ones(3)}}
    torch.save({"model": {"name": "x"}, "net": {"items.weight": weight}, **beside}, tmp_path / "beside.pt")
    np.testing.assert_array_equal(EmbeddingTable.load(tmp_path / "beside.pt", "items").rows, weight.numpy())
    torch.save({"a": {"x": weight}, "b": {"y": weight}}, tmp_path / "two.pt")
    with pytest.raises(WeightsError, match="several state dicts, under a, b"):
        EmbeddingTable.load(tmp_path / "two.pt", "x")
