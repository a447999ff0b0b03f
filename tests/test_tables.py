"""Embedding tables against the embedding layers themselves, and against numpy."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file
from torch import nn

from embedsearch.backbones.files.keras_file import import_keras, load_keras_model
from embedsearch.errors import MissingExtraError, SourceError, UnknownNameError, UsageError, WeightsError
from embedsearch.pipeline.table import EmbeddingTable
from embedsearch.sources import ArraySource

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


def test_keras_files_that_cannot_be_opened(tmp_path, monkeypatch):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    for name, layer in (("own.keras", Mine()), ("lambda.keras", keras.layers.Lambda(lambda x: x))):
        keras.Sequential([keras.layers.Input((3,)), layer]).save(tmp_path / name)
    keras_model().save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "bad.keras").write_bytes(b"x")
    (tmp_path / "bad.h5").write_bytes(b"x")
    for name, message in {
        "own.keras": "Could not locate class 'Mine'.*; open the model where its classes are imported",
        "lambda.keras": "`Lambda`.*; a file's own code is never run",
        "w.weights.h5": "No model config.*weights alone",
        "bad.keras": "no zip", "bad.h5": "keras cannot open", "none.keras": "does not exist",
    }.items():  # fmt: skip
        with pytest.raises(WeightsError, match=message) as told:
            load_keras_model(tmp_path / name)
        assert str(tmp_path / name) in str(told.value) and "\n" not in str(told.value)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedsearch\[keras\]'"):
        load_keras_model(tmp_path / "own.keras")


def test_keras_on_another_backend_is_told(monkeypatch):
    code = "from embedsearch.backbones.files.keras_file import import_keras\n"
    code += "try: import_keras()\nexcept ValueError as e: print(e)"
    env = os.environ | {"KERAS_BACKEND": "jax"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert "jax" in out and "KERAS_BACKEND=torch" in out
    monkeypatch.setattr(keras.config, "backend", lambda: "tensorflow")
    with pytest.raises(
        UsageError, match="keras runs on its backend 'tensorflow', needed is 'torch'; start Python with"
    ):
        import_keras()


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


# ---- looking up ----------------------------------------------------------------------------------------------------

TABLE = np.random.default_rng(5).normal(size=(9, 3)).astype(np.float32)
WORDS = list("abcdefghi")
INTEGERS = st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"])


@given(
    hnp.arrays(INTEGERS, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), elements=st.integers(0, 8)),
)
def test_lookup_is_take(ids):
    table = EmbeddingTable(TABLE, WORDS)
    wanted = TABLE.take(ids.astype(int), axis=0)
    for asked in (ids, ids.tolist(), np.array(WORDS)[ids.astype(int)], np.array(WORDS)[ids.astype(int)].tolist()):
        found = table.lookup(asked)
        assert found.dtype == np.float32
        if np.size(asked) or isinstance(asked, np.ndarray):
            np.testing.assert_array_equal(found, wanted)
        found += 1
    np.testing.assert_array_equal(table.rows, TABLE)


@given(
    st.integers(-(2**70), 2**70).filter(lambda n: not 0 <= n < 9), st.sampled_from(["list", "int64", "uint64", "int8"])
)
def test_rows_outside_are_named(bad, kind):
    if kind != "list":
        limits = np.iinfo(kind)
        bad = max(limits.min, min(limits.max, bad))
        if 0 <= bad < 9:
            return
    ids = [3, bad] if kind == "list" else np.array([[3], [bad]], kind)
    table = EmbeddingTable(TABLE)
    for act in (table.lookup, lambda ids: table.assign(np.ravel(ids), TABLE[:2])):
        with pytest.raises(UsageError, match=rf"row {bad} is not in the table; valid: 0\.\.8"):
            act(ids)
    np.testing.assert_array_equal(table.rows, TABLE)


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (1.0, "float"), ([1, 2.0], "float, int"), (np.array([1.0]), "float64"), (np.array([]), "float64"),
        (True, "bool"), ([True, 2], "bool, int"), (np.array([True]), "bool"), (np.bool_(True), "bool"),
        ([1, "a"], "int, str"), (None, "NoneType"), ({1}, "set"), ([[1], [2, 3]], "list|one shape"),
        (torch.tensor([0.5]), "float32"), (b"a", "bytes"), (slice(3), "slice"),
    ],
)  # fmt: skip
def test_what_is_no_id_is_refused(ids, told):
    with pytest.raises(UsageError, match=told):
        EmbeddingTable(TABLE, WORDS).lookup(ids)


def test_ids_that_are_not_there():
    with pytest.raises(UnknownNameError, match="id 'aple' is not known; did you mean 'apple'"):
        EmbeddingTable(TABLE[:2], ["apple", "pear"]).lookup(["pear", "aple"])
    with pytest.raises(UsageError, match="this table has no ids"):
        EmbeddingTable(TABLE).lookup("apple")
    with pytest.raises(UnknownNameError, match="the table has 30000 ids, e.g. '0'"):
        EmbeddingTable(np.ones((30_000, 1)), map(str, range(30_000))).lookup("x")
    with pytest.raises(UsageError, match="the table has no rows"):
        EmbeddingTable(np.ones((0, 2))).lookup(0)


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (np.ones(3), None, "matrix N x D"), (np.ones((2, 0)), None, "matrix N x D"), (np.ones((1, 1, 1)), None, "x D"),
        (np.ones((2, 2), complex), None, "real numbers"), (np.ones((2, 1)), ["a"], "1 ids were given for 2 rows"),
        (np.ones((2, 1)), ["a", "a"], "'a' is given twice"), (np.ones((2, 1)), [1, "a"], "strings, not int 1"),
        (np.ones((2, 1)), "ab", "not one string"), ([[1], [1, 2]], None, "real numbers"),
    ],
)  # fmt: skip
def test_rows_and_ids_that_do_not_fit(rows, ids, message):
    with pytest.raises(UsageError, match=message):
        EmbeddingTable(rows, ids)
    if ids is not None:
        with pytest.raises(UsageError, match=message):
            EmbeddingTable.load({"x": rows}, "x", ids=ids)


# ---- changing ------------------------------------------------------------------------------------------------------


@given(st.data())
def test_assign_changes_those_rows_alone(data):
    numbers = data.draw(st.lists(st.integers(0, 8), unique=True))
    rows = data.draw(hnp.arrays(np.float32, (len(numbers), 3), elements=st.floats(-9, 9, width=32)))
    given_rows, changed = TABLE.copy(), rows.copy()
    table, wanted = EmbeddingTable(given_rows, WORDS), TABLE.copy()
    wanted[numbers] = rows
    asked = data.draw(st.sampled_from([numbers, np.array(numbers, np.uint8), [WORDS[n] for n in numbers]]))
    table.assign(asked, rows)
    np.testing.assert_array_equal(table.rows, wanted)
    np.testing.assert_array_equal(given_rows, TABLE)
    rows += 1
    np.testing.assert_array_equal(table.lookup(numbers), changed)


def test_assign_takes_one_row_and_tensors():
    table = EmbeddingTable(torch.tensor(TABLE, requires_grad=True), WORDS)
    table.assign("b", [1, 2, 3])
    table.assign(2, torch.ones(3, requires_grad=True, dtype=torch.float64))
    table.assign([4], np.zeros(3))
    assert table.lookup(["b", "c", "e"]).tolist() == [[1, 2, 3], [1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        ([1, 2], np.ones((2, 4)), "rows are 2 x 4, for 2 ids they must be 2 x 3"),
        ([1, 2], np.ones((1, 3)), "must be 2 x 3"),
        ([1, 2], np.ones(3), "must be 2 x 3"),
        ([1, 2], [[1, 2, 3], [1, 2, np.nan]], "NaN or infinity, first in row 1"),
        ([1, 2], [[1, 2, 3], [1, 2, 1e300]], "NaN or infinity, first in row 1"),
        ([1, 2, 1], np.ones((3, 3)), "row 1 is given twice"),
        (["b", "c", "b"], np.ones((3, 3)), "row 1 is given twice"),
        ([[1], [2]], np.ones((2, 3)), "one or a list"),
        ([1, 9], np.ones((2, 3)), "row 9 is not"),
        (["a", "z"], np.ones((2, 3)), "'z' is not known"),
        ([1, 2], [["a"] * 3] * 2, "real numbers"),
    ],
)
def test_nothing_is_changed_when_anything_is_wrong(ids, rows, message):
    table = EmbeddingTable(TABLE, WORDS)
    with pytest.raises(UsageError, match=message):
        table.assign(ids, rows)
    np.testing.assert_array_equal(table.rows, TABLE)


def test_the_table_is_a_copy_and_its_view_is_read_only():
    given_rows = TABLE.copy()
    table = EmbeddingTable(given_rows, WORDS)
    given_rows[:] = 0
    np.testing.assert_array_equal(table.rows, TABLE)
    with pytest.raises(ValueError, match="read-only"):
        table.rows[0] = 0
    table.ids.append("x")
    assert len(table.ids) == 9 and repr(table) == "EmbeddingTable(9 x 3, with ids, <table>)"


def test_a_table_is_a_source_of_a_build(tmp_path):
    save_file({"emb": torch.tensor(TABLE)}, tmp_path / "a.safetensors")
    table = EmbeddingTable.load(tmp_path / "a.safetensors", "emb", ids=WORDS)
    table.assign("c", [7, 8, 9])
    source = table.as_source()
    assert isinstance(source, ArraySource) and source.location == f"{tmp_path / 'a.safetensors'}::emb"
    ids, rows, _ = next(source.blocks(100))
    assert ids == WORDS and rows[2].tolist() == [7, 8, 9]
    np.testing.assert_array_equal(rows, table.rows)
    assert next(EmbeddingTable(TABLE).as_source().blocks(2))[0] == ["0", "1"]


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
