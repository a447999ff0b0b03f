"""Which precision is chosen, and that vectors in bfloat16 are those of float32 within what is promised."""

import json

import numpy as np
import pytest
import torch

import embedsearch as es
from embedsearch.backbones import named, open_backbone
from embedsearch.backbones.cpu.packed_texts import PackedTexts
from embedsearch.pipeline import precision
from embedsearch.pipeline.precision import choose_precision

TEXTS = [
    "a large dog", "the bank charged a fee for my card", "why", "an old church by the river, seen from the bridge",
    "how do I top up by cheque?", "cats", "to move fast by using one's feet, with one foot off the ground at any time",
    "red wine", "my card was swallowed by a machine", "a violin of the eighteenth century", "x " * 300,
]  # fmt: skip


@pytest.fixture
def has_bfloat16(monkeypatch):
    monkeypatch.setattr(named, "has_bfloat16", lambda device: True)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cosines(a, b):
    return (unit(a) * unit(b)).sum(axis=1)


@pytest.mark.parametrize(("rough", "chosen"), [(0.01, "bfloat16"), (0.2, "float32"), (float("nan"), "float32")])
def test_bfloat16_is_taken_only_where_every_vector_stays_what_it_is(rng, rough, chosen):
    exact = rng.normal(size=(8, 64)).astype(np.float32)
    other = exact.copy()
    other[3] += rough * np.float32(np.linalg.norm(exact[3])) * np.eye(64, dtype=np.float32)[0]
    choice = choose_precision(exact, other, centred=False)
    assert choice.precision == chosen
    assert f"{cosines(exact, other).min():.5f}" in choice.reason


def test_where_a_projection_follows_what_counts_is_the_difference_from_the_mean(rng):
    exact = (100 + 0.1 * rng.normal(size=(8, 64))).astype(np.float32)
    other = exact + 0.1 * rng.normal(size=exact.shape).astype(np.float32)
    assert choose_precision(exact, other, centred=False).precision == "bfloat16"
    assert choose_precision(exact, other, centred=True).precision == "float32"


@pytest.mark.parametrize("layer", ["encoder.layer.5", "embeddings", "encoder.layer.2.attention.output.dense"])
def test_texts_without_padding_have_the_vectors_of_a_plain_pass(layer, rng):
    exact = es.Encoder("minilm", layer=layer, precision="float32")
    rough = es.Encoder("minilm", layer=layer, precision="bfloat16")
    order = rng.permutation(len(TEXTS))
    x = exact.encode(TEXTS)
    alone = np.stack([plain_pass(text, layer) for text in TEXTS[:-1]])  # the last one is longer than a window
    np.testing.assert_allclose(x[:-1], alone, atol=2e-6)
    np.testing.assert_allclose(exact.encode([TEXTS[i] for i in order]), x[order], atol=2e-6)
    assert cosines(rough.encode(TEXTS), x).min() > 0.999


def plain_pass(text: str, layer: str) -> np.ndarray:
    """One text through transformers' own model, mean of its tokens, unit length."""
    from transformers import AutoModel, AutoTokenizer

    from embedsearch.backbones.packaged import minilm_folder

    model = AutoModel.from_pretrained(minilm_folder(), dtype=torch.float32).eval()
    found = []
    model.get_submodule(layer).register_forward_hook(lambda _m, _a, output: found.append(output))
    with torch.no_grad():
        model(**AutoTokenizer.from_pretrained(minilm_folder())([text], return_tensors="pt"))
    output = found[0] if isinstance(found[0], torch.Tensor) else found[0][0]
    return unit(output.reshape(-1, output.shape[-1]).mean(dim=0).numpy()[None])[0]


def test_plain_weights_are_not_kept_beside_the_packed_ones():
    backbone = open_backbone("minilm")
    backbone.extract(backbone.prepare(TEXTS[:2]), ["encoder.layer.5"])
    assert isinstance(backbone._packed, PackedTexts)
    assert backbone._module.encoder.layer[0].intermediate.dense.weight.is_meta


@pytest.mark.parametrize("n", [8, 20])
def test_compiled_attention_is_that_of_torch(rng, n):
    from embedsearch.backbones.cpu.packed_texts import _attention

    lengths = [int(length) for length in rng.integers(1, 70, n)]
    q, k, v = (torch.from_numpy(rng.normal(size=(sum(lengths), 4, 32)).astype(np.float32) * 3) for _ in range(3))
    starts = torch.tensor([0, *lengths]).cumsum(0)
    expected = _attention(q, k, v, lengths, starts, 0.17)
    found = _attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), lengths, starts, 0.17)
    assert torch.nn.functional.cosine_similarity(found.float(), expected, dim=-1).min() > 0.999


def test_auto_takes_bfloat16_says_so_and_a_query_is_encoded_the_same_way(tmp_path, emoji, has_bfloat16):
    from embedsearch.engine.building import build_with_report

    (tmp_path / "faq.txt").write_text("\n".join(TEXTS))
    report = build_with_report(tmp_path / "faq.txt", tmp_path / "index", index="flat")
    assert "in bfloat16 (cosine to float32 0.99" in report.encoder
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert manifest["recipe"]["precision"] == "bfloat16"
    index = es.open(tmp_path / "index")
    assert index.search(TEXTS[1], k=1)[0].score > 0.9999
    exact = es.Encoder("minilm", precision="float32").encode(TEXTS)
    assert cosines(index.vectors([str(i + 1) for i in range(len(TEXTS))]), exact).min() > 0.999
    # what was built goes on being built so
    again = build_with_report(tmp_path / "faq.txt", tmp_path / "index", precision="bfloat16")
    assert again.up_to_date


def test_a_network_that_bfloat16_changes_too_much_stays_in_float32_and_says_so(tmp_path, has_bfloat16, monkeypatch):
    from embedsearch.engine.building import build_with_report

    monkeypatch.setattr(precision, "LEAST_COSINE", 0.9999999)
    (tmp_path / "faq.txt").write_text("\n".join(TEXTS))
    report = build_with_report(tmp_path / "faq.txt", tmp_path / "index", index="flat")
    assert "in float32 (bfloat16 changes vectors too much: a cosine to float32 of 0.99" in report.encoder
    assert json.loads((tmp_path / "index" / "manifest.json").read_text())["recipe"]["precision"] == "float32"
    np.testing.assert_allclose(
        es.open(tmp_path / "index").vectors(["1"]),
        es.Encoder("minilm", precision="float32").encode(TEXTS[:1]),
        atol=1e-5,
    )


def test_an_index_keeps_its_precision_when_it_is_built_on(tmp_path, monkeypatch):
    (tmp_path / "faq.txt").write_text("\n".join(TEXTS[:4]))
    es.build(tmp_path / "faq.txt", tmp_path / "index", index="flat")  # in float32, as tests are
    monkeypatch.setattr(named, "has_bfloat16", lambda device: True)
    (tmp_path / "faq.txt").write_text("\n".join(TEXTS))
    index = es.build(tmp_path / "faq.txt", tmp_path / "index", index="flat")
    assert index.info()["recipe"]["precision"] == "float32"
    assert len(index) == len(TEXTS)


def test_a_build_that_stored_nothing_does_not_hand_on_its_precision(tmp_path, emoji, has_bfloat16, monkeypatch):
    import embedsearch.pipeline.build as build
    from embedsearch.engine.building import build_with_report

    def stop(*_arguments):
        raise KeyboardInterrupt

    source = str(emoji["google"][0].parent)
    options = {"weights": "packaged", "size": 32, "layer": "features.4"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build, "shards", stop)
        es.build(source, tmp_path / "index", precision="float32", **options)
    report = build_with_report(source, tmp_path / "index", **options)
    assert "in bfloat16 (cosine to float32" in report.encoder


def test_a_network_of_ones_own_goes_on_in_the_precision_that_was_asked_for(tmp_path, rng):
    from embedsearch.engine.building import build_with_report

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8))
    x = rng.normal(size=(12, 16)).astype(np.float32)
    options = {"backbone": network, "layer": "2", "modality": "tensor", "index": "flat"}
    es.build(x[:10], tmp_path / "index", precision="bfloat16", **options)
    report = build_with_report(x, tmp_path / "index", **options)
    assert report.n_new == 2
    assert "in bfloat16 (as what is stored was)" in report.encoder
    rough = es.Encoder(network, layer="2", precision="bfloat16").encode(x)
    vectors = es.open(tmp_path / "index", backbone=network).vectors([str(i) for i in range(12)])
    np.testing.assert_allclose(vectors, rough, atol=2e-3)
    assert np.abs(vectors - es.Encoder(network, layer="2", precision="float32").encode(x)).max() > 1e-4
