"""Networks named by code (module:FILE:NAME), and code that gives none."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from user_files import conv, write
from user_networks import arrays, equal, unit

import embedsearch as es
from embedsearch.errors import EmbedSearchError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:.*gives other weights each time:UserWarning")  # most of these do


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
