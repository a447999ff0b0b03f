"""Indexes built with networks of the user's own, asked again here and in a fresh process."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from user_files import SEEDED, conv, fresh, write
from user_networks import Net, arrays, equal, unit

import embedsearch as es
from embedsearch.errors import CodeError, ContradictionError

pytestmark = pytest.mark.filterwarnings("ignore:.*gives other weights each time:UserWarning")  # most of these do


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
