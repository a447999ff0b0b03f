"""Texts longer than the network: windows pooled into one vector, chunks as items, or cut."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

import embedsearch as es
from embedsearch.backbones import open_backbone
from embedsearch.backbones.packaged import minilm_folder
from embedsearch.errors import ItemError, UsageError

WORDS = ["time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school"]


def text_of(n, seed=0):
    return " ".join(np.random.default_rng(seed).choice(WORDS, n))


@pytest.fixture(scope="module")
def plain():
    return AutoTokenizer.from_pretrained(minilm_folder()), AutoModel.from_pretrained(minilm_folder()).eval()


def windows_by_hand(plain, text, size, overlap):
    """Last hidden states of every window and, for each, which of its tokens count; written out apart."""
    tokenizer, model = plain
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    step = size - 2 - overlap
    starts = [0]
    while starts[-1] + size - 2 < len(ids):
        starts.append(starts[-1] + step)
    states, counted = [], []
    for number, start in enumerate(starts):
        own = ids[start : start + size - 2]
        window = torch.tensor([[tokenizer.cls_token_id, *own, tokenizer.sep_token_id]])
        with torch.no_grad():
            states.append(model(input_ids=window, attention_mask=torch.ones_like(window)).last_hidden_state[0])
        keep = np.ones(len(own) + 2, bool)
        if number > 0:
            keep[1 : 1 + overlap // 2] = False
        if number < len(starts) - 1:
            keep[len(own) + 1 - (overlap - overlap // 2) : len(own) + 1] = False
        counted.append(keep)
    return states, counted


@pytest.mark.parametrize(("size", "overlap"), [(16, 0), (16, 5), (16, 4), (32, 13)])
def test_a_long_text_is_pooled_over_all_tokens_each_once(plain, size, overlap):
    text = text_of(77)
    states, counted = windows_by_hand(plain, text, size, overlap)
    kept = torch.cat([state[torch.from_numpy(keep)] for state, keep in zip(states, counted, strict=True)])
    assert len(kept) == 77 + 2 * len(states), "every word once, and two special tokens a window"
    common = {"max_tokens": size, "overlap": overlap, "normalize": False}
    np.testing.assert_allclose(es.Encoder("minilm", **common).encode_one(text), kept.mean(dim=0).numpy(), atol=1e-5)
    np.testing.assert_allclose(
        es.Encoder("minilm", pooling="max", **common).encode_one(text), kept.amax(dim=0).numpy(), atol=1e-5
    )
    words = torch.cat([state[1:-1][torch.from_numpy(keep[1:-1])] for state, keep in zip(states, counted, strict=True)])
    np.testing.assert_allclose(
        es.Encoder("minilm", pooling="mean-content", **common).encode_one(text), words.mean(dim=0).numpy(), atol=1e-5
    )
    first = torch.stack([state[0] for state in states]).mean(dim=0)
    np.testing.assert_allclose(es.Encoder("minilm", pooling="cls", **common).encode_one(text), first.numpy(), atol=1e-5)


def test_what_a_long_text_says_at_its_end_changes_its_vector():
    encoder, cutting = es.Encoder("minilm"), es.Encoder("minilm", long_texts="cut")
    one, other = text_of(600) + " apples", text_of(600) + " volcano " * 30
    assert encoder.encode_one(one) @ encoder.encode_one(other) < 0.995
    np.testing.assert_allclose(cutting.encode_one(one), cutting.encode_one(other), atol=1e-6)


def test_cutting_is_what_sentence_transformers_does():
    from sentence_transformers import SentenceTransformer

    texts = [text_of(900), "short"]
    theirs = SentenceTransformer(str(minilm_folder()), device="cpu").encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(es.Encoder("minilm", long_texts="cut").encode(texts), theirs, atol=1e-5)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=7), st.integers(1, 5), st.randoms())
def test_batch_size_order_and_neighbours_change_nothing(lengths, batch_size, random):
    texts = [text_of(n, n) for n in lengths]
    alone = np.stack([_small.encode_one(text) for text in texts])
    order = list(range(len(texts)))
    random.shuffle(order)
    _small._network._batch_size = batch_size
    np.testing.assert_allclose(_small.encode([texts[i] for i in order]), alone[order], atol=1e-5)


_small = es.Encoder("minilm", max_tokens=12, overlap=3, layer="hidden.2")


def test_a_pooler_gives_one_vector_a_window():
    backbone = open_backbone("minilm", max_tokens=16, overlap=0)
    features = backbone.extract(backbone.prepare([text_of(40), "short"]), ["pooler"])["pooler"]
    assert features.values.shape == (2, 3, 384) and features.mask.sum(dim=1).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 300}, "can share 0 to 253"),
        ({"overlap": -1}, "at least 0"),
        ({"max_tokens": 2}, "special tokens, so give 3"),
        ({"long_texts": "ignore"}, "windows, chunk, cut"),
    ],
)
def test_windows_that_cannot_be_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        es.Encoder("minilm", **options)


def test_a_text_too_long_to_be_held_at_once_is_refused_and_told(monkeypatch):
    monkeypatch.setattr("embedsearch.backbones.windows.MAX_TOKENS_A_TEXT", 100)
    with pytest.raises(ItemError, match="--chunk"):
        es.Encoder("minilm", max_tokens=32).encode([text_of(200)])
