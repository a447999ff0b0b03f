"""8-bit products of BERT's blocks: the bytes and the products by an oracle in float64, the vectors by float32's."""

import json

import numpy as np
import pytest
import torch

import embedsearch as es
from embedsearch.backbones import open_backbone, transformer
from embedsearch.backbones.cpu.int8 import Int8Linear, can_multiply_int8
from embedsearch.backbones.precision import has_int8
from embedsearch.engine.building import build_with_report
from embedsearch.errors import ItemError, UsageError
from tests.test_precision import TEXTS, cosines

needs_vnni = pytest.mark.skipif(not can_multiply_int8(), reason="this processor has no AVX-512-VNNI")
needs_int8 = pytest.mark.skipif(
    not has_int8(torch.device("cpu")),
    reason="AVX-512-VNNI is not what this processor is fastest with, or it has no bfloat16",
)


def bits(x: torch.Tensor) -> np.ndarray:
    return x.view(torch.uint16).numpy()


def rows_of(rng, n: int, width: int) -> torch.Tensor:
    """With a channel that reaches far, as networks have."""
    x = torch.from_numpy(rng.normal(size=(n, width)).astype(np.float32))
    x[:, 3] *= 20
    return x.bfloat16()


def as_bytes(x: torch.Tensor, shrink: np.ndarray, apart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from embedsearch.backbones.cpu.int8_rows import PARTS, to_bytes

    values, parts = np.empty(x.shape, np.uint8), np.empty((PARTS, len(x)), np.float32)
    to_bytes(bits(x), shrink, apart, values, parts)
    return values, parts


@pytest.mark.parametrize(("n", "width"), [(1, 16), (7, 64), (200, 384)])
def test_bytes_are_off_by_half_a_step_and_channels_apart_by_nothing(rng, n, width):
    x, shrink = rows_of(rng, n, width), rng.uniform(0.5, 2, width).astype(np.float32)
    apart = np.array([3, 0, 9, 5])
    values, parts = as_bytes(x, shrink, apart)
    exact = x.float().numpy() * shrink
    exact[:, apart] = 0
    off = np.abs(parts[1][:, None] + parts[0][:, None] * (values.astype(np.float64) - 128) - exact)
    assert (off <= 0.501 * parts[0][:, None]).all()
    np.testing.assert_array_equal(parts[2:], x.float().numpy()[:, apart].T)
    assert values.min() <= 1  # the whole range of a byte is used
    assert values.max() == 255


@needs_vnni
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [2, 40])  # one apart, and one among the bytes
def test_a_channel_that_is_not_finite_makes_its_row_so(rng, value, channel):
    from embedsearch.backbones.cpu.int8 import Rows

    linear, apart = torch.nn.Linear(64, 64).requires_grad_(False), torch.tensor([2, 1, 0, 3])
    x = rows_of(rng, 7, 64)
    x[4, channel] = value
    ours, rows = Int8Linear(linear, torch.ones(64), apart), Rows(*as_bytes(x, np.ones(64, np.float32), apart.numpy()))
    for found in (ours(rows), ours.with_gelu(rows), ours.plus(rows, torch.zeros(7, 64).bfloat16())):
        assert found[4].isnan().all()
        assert torch.isfinite(found[[0, 1, 2, 3, 5, 6]].float()).all()


def test_a_row_of_one_value_is_that_value():
    values, parts = as_bytes(torch.zeros((2, 16)).bfloat16(), np.ones(16, np.float32), np.arange(4))
    np.testing.assert_allclose(parts[1][:, None] + parts[0][:, None] * (values.astype(np.float64) - 128), 0, atol=1e-18)


@needs_vnni
@pytest.mark.parametrize("n", [1, 5, 6, 7, 193, 400])  # less than a tile, a tile, and more, and more than a block
@pytest.mark.parametrize("kind", ["plain", "plus", "gelu"])
def test_products_are_those_of_the_bytes(rng, n, kind):
    from embedsearch.backbones.cpu.int8 import Rows

    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 192).requires_grad_(False)
    linear.weight[:, 3] *= 5
    stretch, apart = torch.rand(128) + 0.5, torch.tensor([3, 1, 100, 64])
    x = rows_of(rng, n, 128)
    other = torch.from_numpy(rng.normal(size=(n, 192)).astype(np.float32)).bfloat16()
    values, parts = as_bytes(x, (1 / stretch).numpy(), apart.numpy())
    ours = Int8Linear(linear, stretch, apart)
    found = {
        "plain": lambda rows: ours(rows),
        "plus": lambda rows: ours.plus(rows, other),
        "gelu": lambda rows: ours.with_gelu(rows),
    }[kind](Rows(values, parts))

    weight = (linear.weight * stretch).double()
    weight[:, apart] = 0
    steps = weight.abs().amax(dim=1, keepdim=True) / 127
    read = torch.from_numpy(parts[1][:, None] + parts[0][:, None] * (values.astype(np.float64) - 128))
    expected = read @ ((weight / steps).round() * steps).T + linear.bias.double()
    expected += x.double()[:, apart] @ linear.weight.double()[:, apart].T
    if kind == "plus":
        expected += other.double()
    if kind == "gelu":
        expected = torch.nn.functional.gelu(expected)
    # bfloat16 keeps 8 digits; GELU is a polynomial, off by 8e-5
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=2e-4)
    # and what 8 bits do to the layer itself
    plain = linear(x.float()) + (other.float() if kind == "plus" else 0)
    plain = torch.nn.functional.gelu(plain) if kind == "gelu" else plain
    assert torch.nn.functional.cosine_similarity(found.float(), plain, dim=1).min() > 0.9995


@needs_int8
def test_vectors_are_those_of_float32_alone_and_among_others(rng):
    exact = es.Encoder("minilm", precision="float32").encode(TEXTS)
    rough = es.Encoder("minilm", precision="int8")
    assert cosines(rough.encode(TEXTS), exact).min() > 0.999
    order = rng.permutation(len(TEXTS))
    assert cosines(rough.encode([TEXTS[i] for i in order]), exact[order]).min() > 0.999
    assert cosines(np.stack([rough.encode_one(text) for text in TEXTS]), exact).min() > 0.999
    assert rough.recipe.precision == rough.backbone.precision == "int8"
    with pytest.raises(UsageError, match="whole blocks"):
        rough.tap(["encoder.layer.2.attention.output.dense"])
    # what is no whole block is computed too, in bfloat16
    inside = rough.backbone.extract(rough.backbone.prepare(TEXTS[:1]), ["encoder.layer.2.attention.output.dense"])
    assert torch.isfinite(inside["encoder.layer.2.attention.output.dense"].values.float()).all()


@needs_int8
def test_another_network_finds_its_own_reach(tmp_path):
    """Random weights, RoBERTa's positions, and a reach that random texts tell."""
    folder = tmp_path / "roberta"
    roberta(folder)
    vectors = {p: es.Encoder("bert", weights=folder, precision=p).encode(TEXTS) for p in ("float32", "int8")}
    assert cosines(vectors["int8"], vectors["float32"]).min() > 0.999


@needs_int8
def test_how_far_channels_reach_does_not_depend_on_what_is_read_at_once():
    short = es.Encoder("minilm", precision="int8", max_tokens=8, overlap=0, long_texts="cut")
    usual = es.Encoder("minilm", precision="int8")
    np.testing.assert_array_equal(short.encode(["a dog", "why"]), usual.encode(["a dog", "why"]))


@needs_int8
def test_what_is_not_a_number_does_not_become_one(tmp_path):
    folder = tmp_path / "roberta"
    roberta(folder)
    backbone = open_backbone("bert", weights=str(folder))
    drawn = backbone._random_texts()[3].windows[0].ids[5]  # which tells how far channels reach
    broken = backbone._tokenizer.convert_ids_to_tokens(drawn)
    roberta(folder, broken)
    encoder = es.Encoder("bert", weights=folder, precision="int8")
    exact = es.Encoder("bert", weights=folder, precision="float32")
    assert cosines(encoder.encode(["a dog"]), exact.encode(["a dog"])).min() > 0.999
    with pytest.raises(ItemError, match="NaN"):
        encoder.encode([f"two {broken}"])


def roberta(folder, broken: str | None = None) -> None:
    """broken: a word whose embedding is NaN."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    from embedsearch.backbones.packaged import minilm_folder

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=300, pad_token_id=0,
    )  # fmt: skip
    model = RobertaModel(config)
    if broken is not None:
        model.embeddings.word_embeddings.weight.data[tokenizer.convert_tokens_to_ids(broken)] = torch.nan
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@needs_int8
def test_a_build_says_what_int8_does_and_a_query_is_encoded_the_same_way(tmp_path):
    source, out = tmp_path / "faq.txt", tmp_path / "index"
    source.write_text("\n".join(TEXTS[:-1]))
    report = build_with_report(source, out, index="flat", precision="int8")
    assert "in int8 (as asked for; cosine to float32 0.999" in report.encoder
    assert json.loads((out / "manifest.json").read_text())["recipe"]["precision"] == "int8"
    assert es.open(out).search(TEXTS[1], k=1)[0].score > 0.9999
    source.write_text("\n".join(TEXTS))
    report = build_with_report(source, out, index="flat")  # without the option it goes on as it was
    assert report.n_new == 1
    assert "in int8 (as what is stored was)" in report.encoder


@needs_int8
def test_int8_elsewhere_is_refused_by_a_build_and_answered_by_a_query(tmp_path, monkeypatch):
    source, out = tmp_path / "faq.txt", tmp_path / "index"
    source.write_text("\n".join(TEXTS[:4]))
    es.build(source, out, index="flat", precision="int8")
    monkeypatch.setattr(transformer, "has_int8", lambda device: False)
    index = es.open(out)
    assert index.search(TEXTS[1], k=1)[0].score > 0.999
    more = tmp_path / "more.txt"
    more.write_text(TEXTS[5])
    with pytest.raises(UsageError, match="faster in bfloat16; minilm"):
        index.add(more)
    source.write_text("\n".join(TEXTS))
    with pytest.raises(UsageError, match="faster in bfloat16; minilm at encoder.layer.5 has it not here"):
        es.build(source, out, index="flat")
    with pytest.raises(UsageError, match="build with precision 'auto'"):
        es.Encoder("minilm", precision="int8")
    with pytest.raises(UsageError, match="build with precision 'auto'"):
        es.build(source, tmp_path / "new", precision="int8")


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "vgg16", "weights": "packaged", "size": 64},
        {"layer": "encoder.layer.2.attention"},
        {"layer": "embeddings"},
    ],
)
def test_what_has_no_8_bit_products_says_so(options):
    options = {"backbone": "minilm", **options}
    with pytest.raises(UsageError, match="precision 'int8' is for whole blocks of BERT"):
        es.Encoder(options.pop("backbone"), precision="int8", **options)
