"""Networks named by code (module:FILE:NAME), their weights, and indexes built with networks of the user's own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file, save_model
from torch import nn
from user_networks import Net, arrays, equal, unit

import embedsearch as es
from embedsearch.errors import CodeError, ContradictionError, EmbedSearchError, UsageError, WeightsError

pytestmark = pytest.mark.filterwarnings("ignore:.*gives other weights each time:UserWarning")  # most of these do

ROOT = Path(__file__).parent.parent
SEEDED = """
    import numpy as np, torch
    from torch import nn

    def make():
        torch.manual_seed(5)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(2))

    def small(picture):
        return np.asarray(picture.resize((16, 16))).transpose(2, 0, 1) / 255

    def with_preprocess():
        return make(), small
"""


def write(path, code):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(code))
    return path


def fresh(*arguments, code=None, cwd=None):
    """A process that knows nothing of this one: the command line, or a program."""
    command = [sys.executable, "-c", textwrap.dedent(code)] if code else [sys.executable, "-m", "embedsearch"]
    result = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def net_file(tmp_path):
    return write(tmp_path / "code" / "net.py", SEEDED)


def conv(seed=5):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.Flatten(2))


# ---- code by name ----------------------------------------------------------------------------------------------------


def test_a_factory_in_a_file_gives_the_network(net_file):
    items = arrays()
    plain = conv()
    expected = unit(plain[:3](torch.tensor(np.stack(items))).movedim(1, -1))
    equal(es.Encoder(f"module:{net_file}:make", layer="2").encode(items), expected)


@pytest.mark.parametrize(
    "code",
    [
        "from beside import width\ndef make():\n    return nn.Linear(4, width)",
        "def make():\n    from beside import width\n    return nn.Linear(4, width)",
        "import beside\nclass make(nn.Linear):\n    def __init__(self):\n        super().__init__(4, beside.width)",
        "import beside\nmake = nn.Linear(4, beside.width)",
        "make = lambda: (nn.Linear(4, 3), None)",
        "import dataclasses as d\n@d.dataclass\nclass C:\n    width: int = 3\nmake = lambda: nn.Linear(4, C().width)",
    ],
)
@pytest.mark.parametrize("kind", ["file", "relative file", "package"])
def test_what_names_a_network(tmp_path, monkeypatch, code, kind):
    folder = tmp_path / "own_pkg"
    write(folder / "net.py", f"from torch import nn\n{code}".replace("beside", "own_beside"))
    write(tmp_path / "own_beside.py" if kind == "package" else folder / "own_beside.py", "width = 3")
    monkeypatch.chdir(tmp_path)
    path = {"file": folder / "net.py", "relative file": "own_pkg/net.py", "package": "own_pkg.net"}[kind]
    before = list(sys.path)
    encoder = es.Encoder(f"module:{path}:make")
    assert encoder.encode([np.ones(4)]).shape == (1, 3) and sys.path == before
    absolute = "module:own_pkg.net:make" if kind == "package" else f"module:{folder / 'net.py'}:make"
    assert encoder.recipe.backbone == absolute
    for name in ("own_pkg.net", "own_pkg", "own_beside"):
        sys.modules.pop(name, None)


def test_a_factory_may_give_its_preprocess(net_file, emoji):
    paths = emoji["google"][:3]
    ours = es.Encoder(f"module:{net_file}:with_preprocess", layer="0", modality="image").encode(paths)
    pictures = [Image.open(path).convert("RGBA") for path in paths]
    white = [Image.alpha_composite(Image.new("RGBA", p.size, "white"), p).convert("RGB") for p in pictures]
    x = torch.stack([torch.tensor(np.asarray(p.resize((16, 16)))).permute(2, 0, 1) / 255 for p in white])
    expected = unit(conv()[0](x).movedim(1, -1))
    equal(ours, expected)
    for small in (f"module:{net_file}:small", lambda p: np.asarray(p.resize((16, 16))).transpose(2, 0, 1) / 255):
        encoder = es.Encoder(f"module:{net_file}:make", layer="0", modality="image", preprocess=small)
        equal(encoder.encode(paths), ours)
    raw = es.Encoder(
        f"module:{net_file}:with_preprocess", layer="0", modality="image", preprocess="raw", size=16
    ).encode(paths)
    assert not np.allclose(raw, ours, atol=1e-3)


@pytest.mark.parametrize(
    ("reference", "code", "told"),
    [
        ("missing.py:make", "", "missing.py does not exist"),
        ("net.py:mak", "def make(): ...", "'mak' is not known; did you mean 'make'"),
        ("net.py:make", "def make():\n    raise KeyError('deep')", "KeyError: 'deep'"),
        ("net.py:make", "def make(width): ...", "TypeError"),
        ("net.py:make", "import sys\ndef make():\n    sys.exit(0)", "SystemExit"),
        ("net.py:make", "import sys\nsys.exit('usage: train.py')", "SystemExit: usage: train.py"),
        ("net.py:make", "def make():\n    return 5", "gives int; it must give a torch.nn.Module"),
        ("net.py:make", "def make():\n    pass", "gives NoneType"),
        ("net.py:make", "from torch import nn\nmake = lambda: (nn.Linear(2, 2), 5)", "preprocess"),
        ("net.py:make", "from torch import nn\nmake = lambda: (nn.Linear(2, 2), 1, 2)", "gives tuple"),
        ("net.py:make", "make = 5", "is int; it must be a function"),
        ("net.py:make", "def make(:", "SyntaxError"),
        ("net.py:make", "import not_there_at_all", "No module named 'not_there_at_all'"),
        ("net.py:make", "1 / 0", "ZeroDivisionError"),
        ("net.py:make", "from torch import nn\nmake = lambda: nn.LazyLinear(3)", "run it once"),
        ("nopkg.net:make", "", "nopkg.net is not installed and not in the current folder"),
        ("net.py", "", "names no code"),
        ("net.py:", "", "names no code"),
        (":make", "", "names no code"),
    ],
)
def test_code_that_gives_no_network_is_told(tmp_path, monkeypatch, reference, code, told):
    write(tmp_path / "net.py", code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmbedSearchError, match=told):
        es.Encoder(f"module:{reference}").encode([np.ones(2)])


def test_a_network_without_weights_yet_is_told():
    with pytest.raises(UsageError, match="run it once"):
        es.Encoder(nn.Sequential(nn.LazyLinear(3), nn.ReLU()))


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_weights_from_a_file_take_the_place_of_the_factorys(tmp_path, net_file):
    other, items = conv(seed=6), arrays()
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    torch.save(other.state_dict(), tmp_path / "w.pt")
    expected = unit(other[:3](torch.tensor(np.stack(items))).movedim(1, -1))
    for weights in (tmp_path / "w.safetensors", tmp_path / "w.pt"):
        equal(es.Encoder(f"module:{net_file}:make", layer="2", weights=weights).encode(items), expected)
    with pytest.raises(UsageError, match="load them yourself"):
        es.Encoder(conv(), weights=tmp_path / "w.pt")


@pytest.mark.parametrize("missing", ["2.weight", "2.bias", "0.weight"])
def test_no_number_of_the_factory_is_used_where_weights_are_missing(tmp_path, net_file, missing):
    state = {name: tensor for name, tensor in conv(seed=6).state_dict().items() if name != missing}
    save_file(state, tmp_path / "w.safetensors")

    def encode(layer):
        return es.Encoder(f"module:{net_file}:make", layer=layer, weights=tmp_path / "w.safetensors").encode(arrays())

    if missing != "0.weight":
        equal(encode("0"), unit(conv(seed=6)[0](torch.tensor(np.stack(arrays()))).movedim(1, -1)))
        assert encode("1").shape == (5, 4)
    for layer in ("2", None) if missing != "0.weight" else ("0", "2"):
        with pytest.raises(WeightsError, match=f"do not reach layer.*they lack '{missing}'"):
            encode(layer)


def test_a_convolution_of_a_named_network_is_never_run_without_its_weights(tmp_path):
    """Torch gives what lies in memory for one whose weights are on the meta device, and no error."""
    state = torchvision.models.resnet18(weights=None).state_dict()
    del state["layer4.1.conv2.weight"]
    save_file(state, tmp_path / "w.safetensors")
    white = np.full((32, 32, 3), 255, np.uint8)
    for layer, reached in {"layer4.1.conv1": True, "layer4.1.conv2": False, "layer4.1.bn2": False}.items():
        encoder = es.Encoder("resnet18", weights=tmp_path / "w.safetensors", size=32, layer=layer)
        if reached:
            assert encoder.encode([white]).shape == (1, 512)
        else:
            with pytest.raises(WeightsError, match="they lack 'layer4.1.conv2.weight'"):
                encoder.encode([white])


def test_buffers_that_the_weights_lack_are_not_used_either(tmp_path):
    write(
        tmp_path / "net.py",
        """
        import torch
        from torch import nn
        class Hash(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("directions", torch.randn(4, 3))
                self.low = nn.Linear(4, 4)
                self.norm = nn.BatchNorm1d(3)
            def forward(self, x):
                return self.norm(self.low(x) @ self.directions)
        """,
    )
    torch.manual_seed(0)
    low = nn.Linear(4, 4)
    known = {"norm.weight": torch.ones(3), "norm.bias": torch.zeros(3), "norm.running_mean": torch.zeros(3),
             "norm.running_var": torch.ones(3), **{f"low.{k}": v for k, v in low.state_dict().items()}}  # fmt: skip
    save_file(known, tmp_path / "w.safetensors")
    options = {"weights": tmp_path / "w.safetensors"}
    item = arrays(2, (4,))
    equal(es.Encoder(f"module:{tmp_path}/net.py:Hash", layer="low", **options).encode(item),
          unit(low(torch.tensor(np.stack(item)))))  # fmt: skip
    with pytest.raises(WeightsError, match="they lack 'directions'"):
        es.Encoder(f"module:{tmp_path}/net.py:Hash", **options).encode(item)
    # num_batches_tracked, which old files lack, is in no vector
    save_file({**known, "directions": torch.eye(4, 3)}, tmp_path / "w.safetensors")
    assert es.Encoder(f"module:{tmp_path}/net.py:Hash", **options).encode(item).shape == (2, 3)


def test_tied_weights_are_stored_once_and_reach_both_layers(tmp_path):
    write(tmp_path / "net.py", """
        from torch import nn
        def make():
            net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
            net[2].weight = net[0].weight
            return net
    """)  # fmt: skip
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    save_model(net, str(tmp_path / "w.safetensors"))
    items = arrays(3, (4,))
    ours = es.Encoder(f"module:{tmp_path}/net.py:make", weights=tmp_path / "w.safetensors").encode(items)
    equal(ours, unit(net(torch.tensor(np.stack(items)))))


def test_weights_of_another_network_are_refused(tmp_path, net_file):
    save_file(nn.Linear(3, 3).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"do not belong to this network: it needs e\.g\. '0.weight'"):
        es.Encoder(f"module:{net_file}:make", weights=tmp_path / "w.safetensors")
    for weights, told in {"packaged": "give a file", str(tmp_path / "none.pt"): "do not exist"}.items():
        with pytest.raises(EmbedSearchError, match=told):
            es.Encoder(f"module:{net_file}:make", weights=weights)


def test_a_module_may_keep_more_than_tensors_in_its_state():
    class Versioned(nn.Linear):
        def get_extra_state(self):
            return {"version": 3}

        def set_extra_state(self, state): ...

    net, items = nn.Sequential(Versioned(4, 3)), arrays(2, (4,))
    equal(es.Encoder(net).encode(items), unit(net(torch.tensor(np.stack(items)))))


def test_files_of_one_name_beside_two_networks_are_two(tmp_path):
    for folder, width in (("a", 3), ("b", 5)):
        write(tmp_path / folder / "own_helper.py", f"width = {width}")
        write(
            tmp_path / folder / "net.py",
            "from torch import nn\nfrom own_helper import width\nmake = lambda: nn.Linear(4, width)",
        )
    dims = [es.Encoder(f"module:{tmp_path / folder}/net.py:make").encode([np.ones(4)]).shape[1] for folder in "ab"]
    assert "own_helper" not in sys.modules
    assert dims == [3, 5]


def test_random_numbers_that_no_file_keeps_are_warned_of(tmp_path):
    write(tmp_path / "net.py", """
        import torch
        from torch import nn
        class make(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("directions", torch.randn(4, 3), persistent=False)
            def forward(self, x):
                return x @ self.directions
    """)  # fmt: skip
    with pytest.warns(UserWarning, match="other weights each time"):
        es.Encoder(f"module:{tmp_path}/net.py:make")


# ---- indexes ---------------------------------------------------------------------------------------------------------


def test_an_index_of_pictures_is_asked_in_a_fresh_process(folder, net_file, tmp_path):
    name = f"module:{net_file}:with_preprocess"
    built = es.build(folder, tmp_path / "index", backbone=name, layer="2", modality="image")
    picture = sorted(folder.iterdir())[3]
    expected = es.Encoder(name, layer="2", modality="image").encode(sorted(folder.iterdir()))
    equal(built.vectors([path.name for path in sorted(folder.iterdir())]), expected)
    code, out, err = fresh("query", tmp_path / "index", picture, "--json", "-k", "3", cwd=tmp_path)
    assert code == 0, err
    hits = json.loads(out)[0]["hits"]
    assert hits[0]["id"] == picture.name and hits[0]["score"] == pytest.approx(1, abs=1e-5)
    # the code moves away: by id it goes on, by picture it says what to do, and where the code is now can be told
    moved = net_file.rename(tmp_path / "elsewhere.py")
    code, out, err = fresh("query", tmp_path / "index", picture, cwd=tmp_path)
    assert code == 1 and "net.py does not exist; name it where it is" in err and "Traceback" not in err
    assert es.open(tmp_path / "index").similar(picture.name, k=2)[0].id
    again = es.open(tmp_path / "index", backbone=f"module:{moved}:with_preprocess").search(picture, k=3)
    assert [hit.id for hit in again] == [hit["id"] for hit in hits]
    write(moved, SEEDED.replace("manual_seed(5)", "manual_seed(6)"))
    with pytest.raises(ContradictionError, match="built with weights of sha256"):
        es.open(tmp_path / "index", backbone=f"module:{moved}:with_preprocess").search(picture)


def test_an_index_of_tensors_is_asked_in_a_fresh_process(tmp_path, net_file):
    x = np.stack(arrays(12, (3, 9, 9)))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "one.npy", x[7])
    save_file(conv(seed=8).state_dict(), tmp_path / "w.safetensors")
    options = {"backbone": f"module:{net_file}:make", "layer": ["0", "2"], "weights": tmp_path / "w.safetensors"}
    built = es.build(tmp_path / "x.npy", tmp_path / "index", **options)
    assert len(built) == 12 and built.dim == 10
    options["weights"] = str(options["weights"])
    encoder = es.Encoder(options.pop("backbone"), **options)
    equal(built.vectors([str(i) for i in range(12)]), encoder.encode(list(x)))
    code, out, err = fresh("query", tmp_path / "index", tmp_path / "one.npy", "--json", "-k", "1", cwd=tmp_path)
    assert code == 0 and json.loads(out)[0]["hits"][0]["id"] == "7", err
    code, out, err = fresh(
        tmp_path / "index", tmp_path / "one.npy", cwd="/",
        code="""
            import sys, numpy as np, embedsearch as es
            index = es.open(sys.argv[1])
            print(index.search(np.load(sys.argv[2]), k=1)[0].id, index.search(sys.argv[2], k=1)[0].id)
        """,
    )  # fmt: skip
    assert out.split() == ["7", "7"], err


def test_an_index_built_with_a_network_in_memory_asks_for_it_again(tmp_path):
    net, x = conv(), np.stack(arrays(10))
    half = lambda item: item / 2  # noqa: E731
    built = es.build(x, tmp_path / "index", backbone=net, layer="1", preprocess=half)
    expected = unit(net[:2](torch.tensor(x / 2)).movedim(1, -1))
    equal(built.vectors([str(i) for i in range(10)]), expected)
    assert built.search(x[4], k=1)[0].id == "4"
    np.save(tmp_path / "one.npy", x[4])
    code, out, err = fresh("query", tmp_path / "index", "--id", "4", "--json", cwd=tmp_path)
    assert code == 0 and len(json.loads(out)[0]["hits"]) == 9, err
    code, out, err = fresh("query", tmp_path / "index", tmp_path / "one.npy", cwd=tmp_path)
    assert code == 1 and "give it again" in err and "backbone=" in err
    index = es.open(tmp_path / "index")
    assert index.similar("4", k=1) and index.search(vector=expected[4], k=1)[0].id == "4"
    with pytest.raises(CodeError, match=r"was given in Python.*open\(path, backbone="):
        index.search(x[4])
    with pytest.raises(CodeError, match="preprocess .* was given in Python"):
        es.open(tmp_path / "index", backbone=net).search(x[4])
    assert es.open(tmp_path / "index", backbone=net, preprocess=half).search(x[4], k=1)[0].id == "4"
    with pytest.raises(ContradictionError, match="built with weights of sha256"):
        es.open(tmp_path / "index", backbone=conv(seed=9), preprocess=half).search(x[4])
    with pytest.raises(ContradictionError, match="is found by its name|is not asked for"):
        es.open(tmp_path / "index", backbone="vgg16").search(x[4])


def test_items_that_a_preprocess_cannot_take_are_left_out(tmp_path):
    def positive(item):
        if item.sum() < 0:
            raise ValueError("negative")
        return item

    x = np.array([[1, 2], [-3, 1], [2, 2]], np.float32)
    index = es.build(x, tmp_path / "index", backbone=nn.Linear(2, 3), preprocess=positive)
    assert index.ids == ["0", "2"]
    assert "negative" in (tmp_path / "index" / "skipped.jsonl").read_text()


def test_the_network_of_an_index_is_not_changed_by_building_and_asking(tmp_path):
    from user_networks import snapshot, unchanged

    net = Net(lambda self, x: self.norm(self.low(x)), low=nn.Linear(4, 4), norm=nn.BatchNorm1d(4))
    before = snapshot(net)
    x = np.stack(arrays(10, (4,)))
    es.build(x, tmp_path / "index", backbone=net).search(x[0])
    unchanged(net, before)
