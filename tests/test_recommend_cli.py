"""`embedsearch recommend`, as somebody at a shell meets it."""

import io
import json

import numpy as np
import pytest

import embedsearch as es
from embedsearch.cli.main import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """50 items with two columns, whose ids hold all sorts of signs."""
    root = tmp_path_factory.mktemp("cli")
    x = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    ids = [*(f"i{n}" for n in range(49)), "a=2"]
    metadata = {"shop": [n % 3 for n in range(50)], "name": [f"thing {n}" for n in range(50)]}
    es.build(x, root / "x", ids=ids, metadata=metadata)
    es.build(x[:20, :3], root / "y", ids=ids[:20], metric="ip")
    return root


def asked(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        run(["recommend", *map(str, arguments)])
    told = capsys.readouterr()
    return end.value.code, told.out, told.err


def test_json_is_what_the_api_gives(folder, capsys):
    code, out, _ = asked(
        capsys, folder / "x", "--liked", "i1=5", "--liked", "i2", "--disliked", "i3", "--exclude", "i4", "-k", 4,
        "--where", "shop < 2", "--diversity", 0.2, "--strategy", "max", "--because", 1, "--json",
    )  # fmt: skip
    truth = es.Recommender(es.open(folder / "x")).recommend(
        {"i1": 5, "i2": 1}, ["i3"], None, 4, ["i4"], "shop < 2", 0.2, "max", because=1
    )
    (entry,) = json.loads(out)
    assert code == 0 and entry["query"] == "i1, i2" and entry["note"] is None
    assert [hit["id"] for hit in entry["hits"]] == truth.ids.tolist()
    np.testing.assert_allclose([hit["score"] for hit in entry["hits"]], truth.scores, atol=1e-6)
    assert [hit["because"] for hit in entry["hits"]] == truth.because[0]
    assert [hit["rank"] for hit in entry["hits"]] == [1, 2, 3, 4]
    assert all(hit["metadata"]["shop"] < 2 for hit in entry["hits"])


def test_the_table(folder, capsys):
    code, out, _ = asked(capsys, folder / "x", "--liked", "i1", "-k", 2, "--because", 2)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "i1" and len(lines) == 4
    assert lines[1].split() == ["rank", "score", "id", "because", "name", "shop"] and " i1 " in lines[2]


def test_lines_from_stdin_and_an_id_with_a_sign(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\ni1=3\n  \na=2\n\n"))
    code, out, _ = asked(capsys, folder / "x", "--liked", "-", "-k", 3, "--format", "jsonl")
    truth = es.Recommender(es.open(folder / "x")).recommend({"i1": 3, "a=2": 1}, k=3)
    assert code == 0 and [hit["id"] for hit in json.loads(out)["hits"]] == truth.ids.tolist()


def test_caps_blends_and_notes(folder, capsys):
    code, out, _ = asked(capsys, folder / "x", "--liked", "i1", "-k", 9, "--max-per", "shop=2", "--json")
    (entry,) = json.loads(out)
    assert code == 0 and len(entry["hits"]) == 6 and "within max_per, 9 were asked for" in entry["note"]
    code, out, _ = asked(
        capsys, folder / "x", "--and", folder / "y", "--weight", 1, "--weight", 2, "--fusion", "score",
        "--strategy", "max", "--strategy", "centroid", "--liked", "i1", "-k", 5, "--json",
    )  # fmt: skip
    both = es.Recommender([es.open(folder / "x"), es.open(folder / "y")], weights=[1, 2], fusion="score")
    truth = both.recommend(["i1"], k=5, strategy=["max", "centroid"])
    assert code == 0 and [hit["id"] for hit in json.loads(out)[0]["hits"]] == truth.ids.tolist()
    assert json.loads(out)[0]["hits"][0]["metadata"]["name"].startswith("thing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--liked'"),
        (["--liked", "none"], "id 'none' is not known"),
        (["--liked", "i1=nan"], "weights hold nan"),
        (["--liked", "i1", "--disliked", "i1"], "both liked and disliked"),
        (["--liked", "i1", "-k", "0"], "k is 0"),
        (["--liked", "i1=abc"], "--liked 'i1=abc': 'abc' is no weight; give ID=NUMBER, such as i1=2"),
        (["--liked", "i1", "--max-per", "shop=²"], "--max-per 'shop=²' is not valid; give COLUMN=N"),
        (["--liked", "i1", "--max-per", "shop"], "--max-per 'shop' is not valid; give COLUMN=N"),
        (["--liked", "i1", "--strategy", "best"], "strategy 'best' is not known"),
        (["--liked", "i1", "--fusion", "sum"], "fusion 'sum' is not known"),
        (["--liked", "i1", "--format", "xml"], "format 'xml' is not known"),
        (["--liked", "i1", "--because", "-1"], "--because is -1"),
        (["--liked", "i1", "--diversity", "7"], "diversity is 7"),
    ],
)
def test_wrong_usage(arguments, message, folder, capsys):
    code, out, err = asked(capsys, folder / "x", *arguments)
    assert code == 2 and out == "" and message in err and len(err.splitlines()) == 1


def test_no_index(folder, capsys):
    code, _, err = asked(capsys, folder / "none", "--liked", "i1")
    assert code == 1 and "there is no index" in err
