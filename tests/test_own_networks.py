"""What may go wrong between a network of the user's own and the index that was built with it."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import embedsearch as es
from embedsearch.errors import CodeError, ContradictionError, ItemError, UsageError

NET = """
import os
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

def with_preprocess():
    return make(), lambda picture: torch.ones(3, 8, 8) * picture.size[0]

def reading_paths():
    torch.manual_seed(0)
    return nn.Linear(2, 3), lambda path: torch.tensor([float(os.path.getsize(path)), 1.0])
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_changed_code_is_warned_of_by_a_query_and_refused_by_a_build(net, folder, tmp_path):
    options = {"backbone": f"module:{net}:make", "layer": "1", "size": 16}
    es.build(folder, tmp_path / "i", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        es.open(tmp_path / "i").search(next(iter(folder.iterdir())))
    net.write_text(NET + "\n# changed\n")
    with pytest.warns(UserWarning, match="is not what it was when the index was built"):
        es.open(tmp_path / "i").search(next(iter(folder.iterdir())))
    with pytest.raises(ContradictionError, match="code_sha256"):
        es.build(folder, tmp_path / "i", **options)


def test_a_preprocess_that_comes_with_its_factory_comes_again(net, folder, tmp_path):
    built = es.build(folder, tmp_path / "i", backbone=f"module:{net}:with_preprocess", layer="0")
    assert built.info()["recipe"]["preprocess"] == "factory"
    picture = next(iter(folder.iterdir()))
    assert es.open(tmp_path / "i").search(picture, k=1)[0].score == pytest.approx(1, abs=1e-5)
    net.write_text(NET.replace("def with_preprocess", "def gone").replace("def make", "def with_preprocess"))
    with pytest.raises(CodeError, match="gives none now"):
        es.open(tmp_path / "i").search(picture)


def test_a_preprocess_of_tensors_is_given_the_item_itself(net, tmp_path):
    np.save(tmp_path / "x.npy", np.ones(5))
    path = tmp_path / "x.npy"
    ours = es.Encoder(f"module:{net}:reading_paths").encode_one(str(path))
    torch.manual_seed(0)
    plain = nn.Linear(2, 3)(torch.tensor([float(path.stat().st_size), 1.0])).detach().numpy()
    np.testing.assert_allclose(ours, unit(plain), atol=1e-6)


def test_a_query_cannot_be_read_otherwise_than_the_index_was(net, folder, tmp_path):
    es.build(folder, tmp_path / "i", backbone=f"module:{net}:make", preprocess="unit", size=16)
    picture = next(iter(folder.iterdir()))
    for other in ("caffe", lambda x: x):
        with pytest.raises(ContradictionError, match="preprocess 'unit'"):
            es.open(tmp_path / "i", preprocess=other).search(picture)
    with pytest.raises(ContradictionError, match="found by its name"):
        es.open(tmp_path / "i", backbone="vgg16").search(picture)
    assert es.open(tmp_path / "i", preprocess="unit").search(picture, k=1)[0].score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("vgg16", {"preprocess": "caffe", "weights": "packaged"}, "vgg16 knows its own"),
        ("minilm", {"channels": "last"}, "minilm knows its own"),
        (nn.Linear(2, 2), {"preprocess": "cafe"}, "did you mean 'caffe'"),
        (nn.Linear(2, 2), {"modality": "text"}, "how to read a text"),
        (nn.Linear(2, 2), {"modality": "image"}, "cannot read a picture of 224 px"),
        (nn.Conv2d(3, 2, 3), {"modality": "image", "preprocess": torch.as_tensor, "scales": [1, 2]}, "scales cannot"),
        (nn.Conv2d(3, 2, 3), {"modality": "image", "preprocess": torch.as_tensor, "size": 64}, "leave size out"),
        (nn.Linear(2, 2), {"modality": "vector"}, "vector"),
        (nn.Linear(2, 2), {"weights": "w.safetensors"}, "load them yourself"),
        (nn.Linear(2, 2), {"channels": "middle"}, "auto, first, last"),
        (42, {}, "a torch.nn.Module or a Keras model, not int"),
    ],
)
def test_what_cannot_be_is_told(backbone, options, message):
    with pytest.raises(UsageError, match=message):
        es.Encoder(backbone, **options)


def test_where_channels_are_can_be_named():
    net = nn.Sequential(nn.Conv1d(2, 5, 3), nn.GELU())
    x = torch.randn(4, 2, 9)
    plain = net(x).detach().numpy()  # B x C x L
    np.testing.assert_allclose(
        es.Encoder(net, layer="1", channels="first").encode(x), unit(plain.mean(axis=2)), atol=1e-6
    )
    np.testing.assert_allclose(
        es.Encoder(net, layer="1", channels="last").encode(x), unit(plain.mean(axis=1)), atol=1e-6
    )
    last = nn.Sequential(nn.Linear(3, 6), nn.GELU())  # on B x H x W x C
    y = torch.randn(2, 4, 5, 3)
    expected = unit(last(y).detach().numpy().mean(axis=(1, 2)))
    np.testing.assert_allclose(es.Encoder(last, layer="1", channels="last").encode(y), expected, atol=1e-6)
    np.testing.assert_allclose(es.Encoder(last, layer="0").encode(y).shape, (2, 6))


class Packing(nn.Module):
    """Reads up to the first zero of each item, as networks for texts of many lengths do."""

    def __init__(self, batch_first):
        super().__init__()
        self.first = batch_first
        self.lstm = nn.LSTM(2, 4, batch_first=batch_first)

    def forward(self, x):
        lengths = (x.abs().sum(dim=2) > 0).sum(dim=1)
        x = x if self.first else x.transpose(0, 1)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=self.first, enforce_sorted=False)
        return self.lstm(packed)[1][0][0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_packed_sequence_is_pooled_over_its_own_steps(batch_first):
    torch.manual_seed(0)
    net = Packing(batch_first)
    x = torch.randn(3, 6, 2)
    for row, length in enumerate((6, 2, 4)):
        x[row, length:] = 0
    ours = es.Encoder(net, layer="lstm").encode(x)
    for row, length in enumerate((6, 2, 4)):
        steps = x[row, :length]
        with torch.no_grad():
            alone = net.lstm(steps[None] if batch_first else steps[:, None])[0].reshape(length, 4).numpy()
        np.testing.assert_allclose(ours[row], unit(alone.mean(axis=0)), atol=1e-5)


def test_a_network_made_without_numbers_takes_them_from_its_weights(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    save_file(plain.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "meta.py").write_text(
        "import torch\nfrom torch import nn\n\ndef make():\n    with torch.device('meta'):\n"
        "        return nn.Sequential(nn.Linear(3, 4), nn.ReLU())\n"
    )
    x = np.eye(3, dtype=np.float32) + 1
    ours = es.Encoder(f"module:{tmp_path}/meta.py:make", weights=str(tmp_path / "w.safetensors")).encode(x)
    np.testing.assert_allclose(ours, unit(plain(torch.tensor(x)).detach().numpy()), atol=1e-6)


def test_a_factory_of_random_weights_is_warned_of(tmp_path):
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Linear(3, 2)\n")
    with pytest.warns(UserWarning, match=r"other weights each time.*--weights FILE"):
        es.Encoder(f"module:{tmp_path}/net.py:make")


def test_a_network_that_learns_on_does_not_answer_for_an_index(tmp_path, rng):
    x, net = rng.random((5, 4)), nn.Linear(4, 3)
    index = es.build(x, tmp_path / "i", backbone=net)
    assert index.search(x[1], k=1)[0].id == "1"
    before = net.weight.detach().clone()
    torch.optim.SGD(net.parameters(), 0.1).zero_grad()
    net(torch.rand(2, 4)).sum().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    with pytest.raises(ContradictionError, match="give the network as it was"):
        index.search(x[1])
    with torch.no_grad():
        net.weight.copy_(before)
    with pytest.raises(ContradictionError):
        index.search(x[1])  # its bias is still another


def test_code_that_has_moved_is_named_to_a_query_and_is_another_to_a_build(net, folder, tmp_path):
    options = {"preprocess": "unit", "size": 16, "layer": "1"}
    es.build(folder, tmp_path / "i", backbone=f"module:{net}:make", **options)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    net.rename(moved / "net.py")
    with pytest.raises(ContradictionError, match="backbone: .*now .*elsewhere/net.py"):
        es.build(folder, tmp_path / "i", backbone=f"module:{moved}/net.py:make", **options)
    picture = next(iter(folder.iterdir()))
    with pytest.raises(CodeError, match="--backbone module:FILE.py:NAME"):
        es.open(tmp_path / "i").search(picture)
    assert es.open(tmp_path / "i", backbone=f"module:{moved}/net.py:make").search(picture, k=1)[0].score > 0.9999


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("net.py:make", "write module:FILE.py:FACTORY"),
        ("model.keras", "write keras:model.keras"),
        ("net.pth", "given with --weights"),
    ],
)
def test_a_file_given_as_a_backbone_says_what_to_write(name, fix):
    with pytest.raises(UsageError, match=fix):
        es.Encoder(name)


def test_an_embedding_layer_itself_is_a_table(tmp_path):
    layer = nn.Embedding(6, 3)
    for source in (layer, layer.weight):
        np.testing.assert_array_equal(
            es.build(source, tmp_path / type(source).__name__, metric="ip").vectors(["4"])[0], layer.weight[4].detach()
        )


TOWER = """
import torch
from torch import nn

class make(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.emb = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 6, batch_first=True)

    def forward(self, ids):
        return self.lstm(self.emb(ids))[0][:, -1]
"""


def test_the_layers_of_a_network_that_reads_no_pictures_are_seen_with_an_example(tmp_path, capsys):
    from embedsearch.cli.main import run

    (tmp_path / "tower.py").write_text(TOWER)
    np.save(tmp_path / "one.npy", np.arange(5))
    name = f"module:{tmp_path}/tower.py:make"
    for arguments, told in (
        (["--input", f"{tmp_path}/one.npy"], "lstm             LSTM       5 x 6   0.000         324"),
        ([], "give --input"),
    ):
        with pytest.raises(SystemExit) as end:
            run(["layers", name, *arguments])
        assert end.value.code == 0 and told in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        run(["layers", "vgg16", "--input", f"{tmp_path}/one.npy"])
    assert end.value.code == 2 and "for networks of your own" in capsys.readouterr().err
    encoder = es.Encoder(name)
    encoder.encode_one(np.arange(5))
    assert {info.name: info.shape for info in encoder.layers()}["emb"] == (5, 4)


def test_pictures_are_taken_for_pictures_in_the_shell(net, emoji, capsys):
    from embedsearch.cli.main import run

    with pytest.raises(SystemExit) as end:
        run(["embed", f"module:{net}:make", str(emoji["google"][0]), "--size", "16", "--layer", "0"])
    assert end.value.code == 0 and '"vector": [' in capsys.readouterr().out
    with pytest.raises(ItemError, match="--modality image"):
        es.Encoder(nn.Conv2d(3, 2, 3), preprocess=torch.as_tensor).encode([str(emoji["google"][0])])
