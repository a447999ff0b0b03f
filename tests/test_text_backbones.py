"""Encoders of the BERT family: any that AutoModel opens, cut texts, weights that are missing."""

import pytest
import torch
from networks import TEXTS, close
from safetensors.torch import save_file

from embedsearch.backbones import open_backbone
from embedsearch.backbones.packaged import minilm_folder
from embedsearch.errors import UsageError, WeightsError


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """Folders of small random encoders of several families, with MiniLM's tokenizer."""
    import shutil

    from transformers import AutoModel, BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

    made = {}
    common = {"vocab_size": 30522, "pad_token_id": 0}
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    configs = {
        "bert": BertConfig(**common, **small),
        "roberta": RobertaConfig(**common, **small, max_position_embeddings=130),
        "electra": ElectraConfig(**common, **small, embedding_size=16),
        "distilbert": DistilBertConfig(**common, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    }
    for name, config in configs.items():
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
        for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            shutil.copy(minilm_folder() / file, folder / file)
        made[name] = folder
    return made


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_any_encoder_that_automodel_opens(family, tiny_models):
    from transformers import AutoModel

    folder = tiny_models[family]
    backbone = open_backbone("bert", weights=str(folder))
    assert backbone.default_layer in ("encoder.layer.1", "transformer.layer.1")
    prepared = backbone.prepare(TEXTS)
    features = backbone.extract(prepared, [backbone.default_layer])[backbone.default_layer]
    inputs = backbone.collate(prepared).kwargs
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"].bool().unsqueeze(-1)
    close(features.values * mask, expected * mask)


def test_long_texts_are_told_and_cut_only_when_asked(minilm):
    short, long = minilm.prepare(["one", "word " * 1000])
    assert not minilm.is_long(short) and minilm.is_long(long)
    assert [len(window.ids) for window in long.windows] == [256, 256, 256, 256, 114]
    with pytest.raises(UsageError, match="at most 512"):
        open_backbone("minilm", max_tokens=1000)
    (cut,) = open_backbone("minilm", max_tokens=8, windows=False).prepare(["word " * 50])
    assert cut.is_long and [len(window.ids) for window in cut.windows] == [8]


def test_weights_that_a_text_model_lacks_are_never_random(tmp_path):
    import shutil

    from safetensors.torch import load_file

    folder = shutil.copytree(minilm_folder(), tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if "layer.5" not in k}, folder / "model.safetensors", {"format": "pt"})
    backbone = open_backbone("bert", weights=str(folder))
    prepared = backbone.prepare(["a text"])
    assert torch.isfinite(backbone.extract(prepared, ["encoder.layer.4"])["encoder.layer.4"].values).all()
    with pytest.raises(WeightsError, match=r"they lack 'encoder\.layer\.5"):
        backbone.extract(prepared, ["encoder.layer.5"])
    save_file({"other": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError):
        backbone = open_backbone("bert", weights=str(folder))
        backbone.extract(backbone.prepare(["a text"]), ["embeddings"])


def test_what_is_no_model_folder_is_told(tmp_path):
    with pytest.raises(WeightsError, match="neither"):
        open_backbone("bert", weights=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="no model that AutoModel opens"):
        open_backbone("bert", weights=str(tmp_path))
    with pytest.raises(WeightsError, match="no folder"):
        open_backbone("bert", weights=str(tmp_path / "nothing"))
