"""What can be indexed: every line of the README's table and every example of its page runs, and gives what it says."""

import re
import shlex
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_docs import PAGES, README
from test_windows import text_of

import embedsearch as es
from embedsearch.backbones.aliases import AVERAGES
from embedsearch.backbones.own.pixels import MODES
from embedsearch.cli.main import run
from embedsearch.registry import POOLING

pytestmark = pytest.mark.filterwarnings("ignore:.*__array__.*:DeprecationWarning")  # Keras saving under numpy 2

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=4)
        self.block = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(5))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in self.block:
            x = block(x)
        return self.head(x.mean(dim=(2, 3)))

def make():
    torch.manual_seed(0)
    return Net()
"""
TOWER = """
import torch
from torch import nn

class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.item_embedding = nn.Embedding(30, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True)

    def forward(self, ids):
        return self.lstm(self.item_embedding(ids))[0][:, -1]

def make():
    torch.manual_seed(0)
    return Tower()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory, emoji):
    """A folder with everything that the README's table and docs/vectors.md speak of."""
    from embedsearch.backbones.files.keras_file import import_keras

    root = tmp_path_factory.mktemp("files")
    (root / "photos").mkdir()
    (root / "letters").mkdir()
    for path in emoji["twitter"][:4]:
        shutil.copy(path, root / "photos")
    shutil.copy(emoji["google"][2], root / "cat.jpg")
    for n in (5, 600):
        (root / "letters" / f"{n}.txt").write_text(text_of(n))
    (root / "faq.txt").write_text("where is my card?\nhow do I pay?\nI want my money back\n")
    (root / "net.py").write_text(NET)
    (root / "tower.py").write_text(TOWER)
    made: dict[str, object] = {}
    exec(NET, made)
    save_file(made["make"]().state_dict(), root / "net.safetensors")
    torch.save({"item_embedding.weight": torch.randn(30, 8)}, root / "model.pt")
    (root / "items.txt").write_text("".join(f"sku-{n}\n" for n in range(30)))
    (root / "words.vec").write_text("2 3\nking 1 0 0\nqueen 1 1 0\n")
    rng = np.random.default_rng(0)
    np.save(root / "rows.npy", rng.integers(0, 30, (9, 5)))
    np.save(root / "one.npy", rng.integers(0, 30, 5))
    np.save(root / "vectors.npy", rng.normal(size=(40, 20)))
    keras = import_keras()
    convs = [keras.layers.Conv2D(n, 3, name=f"conv_{i}") for i, n in ((1, 8), (2, 12))]
    keras.Sequential([keras.Input((None, None, 3)), *convs]).save(root / "model.keras")
    return root


@pytest.fixture
def inside(files, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.syspath_prepend(str(files))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(files / "hub"))
    monkeypatch.setattr("embedsearch.backbones.vision_weights._downloaded", lambda entry: None)
    return files


TABLE = re.findall(
    r"^\| (.+?) \| `(embedsearch .+?)` \| ([\d,]+) \|$",
    README.split("## What can be indexed")[1].split("\n## ")[0],
    re.MULTILINE,
)


def test_the_table_is_there():
    assert len(TABLE) == 13


@pytest.mark.parametrize(("what", "command", "dim"), TABLE, ids=[what for what, _, _ in TABLE])
def test_a_line_of_the_table_does_what_it_says(what, command, dim, inside, tmp_path, capsys):
    program, *arguments = shlex.split(command)
    assert program == "embedsearch"
    with pytest.raises(SystemExit) as end:
        run([*arguments, "--out", str(tmp_path / "index")])
    assert end.value.code == 0, capsys.readouterr().err
    index = es.open(tmp_path / "index")
    assert index.dim == int(dim.replace(",", "")) and len(index) >= 2
    first = index.ids[0]
    assert index.similar(first, k=1)[0].id in set(index.ids) - {first}


def test_the_python_of_the_page_runs(inside, monkeypatch):
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGES["vectors.md"], re.DOTALL):
        exec(compile(code, "vectors.md", "exec"), names)
    assert (names["x"].shape, names["y"].shape, names["z"].shape) == ((512,), (384,), (6,))
    assert names["v"].shape == (2, 16) and names["w"].shape == (1, 16) and names["rows"].shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(names["items"].vectors(["0"])), 1, atol=1e-5)


@pytest.mark.parametrize("line", re.findall(r"`(embedsearch embed .+?)`", PAGES["vectors.md"], re.DOTALL))
def test_one_instance_in_the_shell(line, inside, capsys):
    with pytest.raises(SystemExit) as end:
        run(shlex.split(line)[1:])
    assert end.value.code == 0 and '"vector": [' in capsys.readouterr().out


def test_the_page_names_what_there_is():
    page = PAGES["vectors.md"]
    table = page.split("## Poolings")[1].split("## ")[0]
    assert set(re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))) - {
        "--pooling"
    } == set(POOLING)
    for name, states in AVERAGES.items():
        assert f"`{name}` is `{states[0]}`" in page and f"`{states[-1]}`" in page
    assert all(f"`{mode}`" in page for mode in MODES)
