"""Encoders of the BERT family: whatever transformers' AutoModel opens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from embedsearch.backbones.base import Backbone, BackboneOptions
from embedsearch.backbones.hub import model_folder, weight_files
from embedsearch.backbones.probe import PROBE_BATCH, probe
from embedsearch.backbones.weights import check_sha256, sha256_of
from embedsearch.errors import UsageError, WeightsError
from embedsearch.types import Features, LayerInfo, Modality

_PROBE_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text as token ids, special tokens included; cut: the text was longer than the network reads."""

    ids: list[int]
    cut: bool


class TransformerBackbone(Backbone):
    """A text encoder with its tokenizer. Texts longer than `max_tokens` are cut there."""

    modality = Modality.TEXT

    def __init__(self, name: str, options: BackboneOptions) -> None:
        if options.size is not None:
            raise UsageError(f"size is for pictures; {name} reads texts")
        self.name = name
        folder = model_folder(name, options.weights)
        self.weights_sha256, self.weights_origin = sha256_of(weight_files(folder)), str(folder)
        check_sha256(self.weights_sha256, options.expect_sha256, str(folder))
        with _quiet(folder):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
            module, loaded = AutoModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        _forget(module, loaded)
        if not self._tokenizer.is_fast:
            raise WeightsError(f"{folder} has no fast tokenizer (tokenizer.json)")
        longest = min(self._tokenizer.model_max_length, _positions(config))
        if options.max_tokens is not None and options.max_tokens > longest:
            raise UsageError(f"max_tokens is {options.max_tokens}; {folder.name} reads at most {longest}")
        self.max_tokens = options.max_tokens or _usual_tokens(folder, longest)
        infos = _layers(config)
        self.default_layer = _default_layer(infos)
        super().__init__(module, infos, options)

    @classmethod
    def describe(cls, name: str, *, weights: str, size: int | None) -> tuple[list[LayerInfo], str]:
        if size is not None:
            raise UsageError(f"size is for pictures; {name} reads texts")
        folder = model_folder(name, weights)
        with _quiet(folder):
            infos = _layers(AutoConfig.from_pretrained(folder, local_files_only=True))
        return infos, _default_layer(infos)

    def prepare(self, values: Sequence[Any]) -> list[Any]:
        encoded = self._tokenizer(list(values), truncation=True, max_length=self.max_tokens)
        cuts = [bool(encoding.overflowing) for encoding in encoded.encodings]
        return [Tokens(ids, cut) for ids, cut in zip(encoded["input_ids"], cuts, strict=True)]

    def length(self, prepared: Any) -> int:
        return len(prepared.ids)

    def is_cut(self, prepared: Any) -> bool:
        return bool(prepared.cut)

    def collate(self, batch: Sequence[Any]) -> dict[str, Any]:
        width = max(len(tokens.ids) for tokens in batch)
        ids = torch.full((len(batch), width), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens.ids)] = torch.tensor(tokens.ids)
            mask[row, : len(tokens.ids)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def to_features(self, layer: str, output: torch.Tensor, inputs: Mapping[str, Any]) -> Features:
        mask = inputs["attention_mask"].bool()
        if output.ndim == 2:
            return Features(output.unsqueeze(1))
        if output.ndim == 3 and output.shape[:2] == mask.shape:
            return Features(output, mask)
        raise UsageError(f"layer {layer!r} gives {tuple(output.shape)}; take one that gives tokens or one vector")

    def n_channels(self, layer: str) -> int:
        return self._infos[layer].shape[-1]


def _forget(module: nn.Module, loaded: Mapping[str, Any]) -> None:
    """Takes away what transformers filled with random numbers, so that reaching it is an error."""
    absent = {str(name) for name in loaded.get("missing_keys", ())}
    absent |= {str(entry[0]) for entry in loaded.get("mismatched_keys", ())}
    for name in absent:
        owner, _, leaf = name.rpartition(".")
        parameters = module.get_submodule(owner)._parameters
        parameter = parameters.get(leaf)
        if parameter is not None:
            parameters[leaf] = nn.Parameter(parameter.to("meta"), requires_grad=False)


def _layers(config: Any) -> list[LayerInfo]:
    with torch.device("meta"):
        skeleton = AutoModel.from_config(config)
        ids = torch.ones((PROBE_BATCH, min(_PROBE_TOKENS, _positions(config))), dtype=torch.long)
    return probe(skeleton, {"input_ids": ids})


def _default_layer(infos: list[LayerInfo]) -> str:
    """The last block of the encoder, or what follows it when the network ends in a norm."""
    tokens = [info for info in infos if len(info.shape) == 2]
    blocks = [info.name for info in tokens if info.name.rpartition(".")[2].isdigit()]
    outside = [info.name for info in tokens if "." not in info.name]
    # containers answer right after their last block; anything else outside has computed something more
    return blocks[-1] if blocks and blocks[-1].startswith(f"{outside[-1]}.") else outside[-1]


def _positions(config: Any) -> int:
    """The longest input in tokens that the network has places for; 512 where it does not say."""
    places = getattr(config, "max_position_embeddings", None)
    # RoBERTa and its kin count places from pad_token_id + 1
    offset = 2 if config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet") else 0
    return 512 if not places else int(places) - offset


@contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """transformers without its reports on stderr, and its errors as ours."""
    before = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{folder} is no model that AutoModel opens: {str(error).splitlines()[0]}") from error
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()


def _usual_tokens(folder: Path, longest: int) -> int:
    """The limit that sentence-transformers recorded with the model, else the network's own."""
    path = folder / "sentence_bert_config.json"
    recorded = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length") if path.is_file() else None
    return min(int(recorded), longest) if recorded else longest
