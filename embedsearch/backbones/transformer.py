"""Encoders of the BERT family: whatever transformers' AutoModel opens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from embedsearch.backbones.aliases import hidden_aliases
from embedsearch.backbones.base import BackboneOptions
from embedsearch.backbones.cpu.int8 import fits_int8, int8_products
from embedsearch.backbones.cpu.packed_linear import pack_linears
from embedsearch.backbones.cpu.packed_texts import PackedTexts, depth_of, is_of_the_build
from embedsearch.backbones.files.weights import check_sha256, sha256_of
from embedsearch.backbones.hidden import hidden_state_layers
from embedsearch.backbones.hub import model_folder, weight_files
from embedsearch.backbones.layer_table import LayerTable
from embedsearch.backbones.module_state import forget
from embedsearch.backbones.named import NamedBackbone
from embedsearch.backbones.outputs import as_features
from embedsearch.backbones.precision import has_int8
from embedsearch.backbones.probe import PROBE_BATCH, probe
from embedsearch.backbones.tap import Inputs
from embedsearch.backbones.windows import Tokens, TokenSpan, check_overlap, merge, spans, tokenize
from embedsearch.errors import UsageError, WeightsError
from embedsearch.types import CONTENT, Features, LayerInfo, Modality

_PROBE_TOKENS = 128
_WINDOWS_AT_ONCE = 32
_RANDOM_TEXTS = (32, 30)  # by which the reach of channels is found; how many tokens each
_OVERLAP_PART = 8  # neighbouring windows share an eighth


class TransformerBackbone(NamedBackbone):
    """A text encoder with its tokenizer. Longer texts are read in windows of `max_tokens` that share
    `overlap` tokens, or cut."""

    modality = Modality.TEXT
    _packed: PackedTexts | None = None

    def __init__(self, name: str, options: BackboneOptions) -> None:
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
            table = _layers(config)
        forget(module, _absent(loaded))
        if not self._tokenizer.is_fast:
            raise WeightsError(f"{folder} has no fast tokenizer (tokenizer.json)")
        longest = min(self._tokenizer.model_max_length, _positions(config))
        if options.max_tokens is not None and options.max_tokens > longest:
            raise UsageError(f"max_tokens is {options.max_tokens}; {folder.name} reads at most {longest}")
        self.max_tokens = options.max_tokens or _usual_tokens(folder, longest)
        self.overlap = self.max_tokens // _OVERLAP_PART if options.overlap is None else options.overlap
        check_overlap(self.overlap, self.max_tokens, self._tokenizer.num_special_tokens_to_add())
        self.max_length = self.max_tokens
        self._all_of_it = options.windows
        self.default_layer = _default_layer(table.listed())
        super().__init__(module, table, options)
        self._tokenizing = threading.Lock()  # a tokenizer keeps what it truncates to, and can do one thing at a time

    @classmethod
    def describe(cls, name: str, *, weights: str, size: int | None, example: Any = None) -> tuple[list[LayerInfo], str]:
        if size is not None:
            raise UsageError(f"size is for pictures; {name} reads texts")
        folder = model_folder(name, weights)
        with _quiet(folder):
            infos = _layers(AutoConfig.from_pretrained(folder, local_files_only=True)).listed()
        return infos, _default_layer(infos)

    def prepare(self, values: Sequence[Any]) -> list[Any]:
        with self._tokenizing:
            return tokenize(
                self._tokenizer, values, int(self.max_tokens or 0), self.overlap or 0, all_of_it=self._all_of_it
            )

    def length(self, prepared: Any) -> int:
        return int(prepared.length)

    def is_long(self, prepared: Any) -> bool:
        return bool(prepared.is_long)

    def split(self, prepared: Any) -> list[tuple[Any, tuple[int, int]]]:
        return [(Tokens((replace(w, counted=[True] * len(w.ids)),), False), w.span) for w in prepared.windows]

    def token_spans(self, text: str, prepared: Any, part: int | None = None) -> list[TokenSpan]:
        with self._tokenizing:
            found = spans(
                self._tokenizer, text, int(self.max_tokens or 0), self.overlap or 0, all_of_it=self._all_of_it
            )
        if part is not None:
            return found[part]
        if len(found) == 1:
            return found[0]
        return [
            span
            for window, own in zip(prepared.windows, found, strict=True)
            for span, counted in zip(own, window.counted, strict=True)
            if counted
        ]

    def extract(self, batch: Sequence[Any], layers: Sequence[str]) -> dict[str, Features]:
        if all(len(tokens.windows) == 1 for tokens in batch):
            return self._extract_windows(batch, layers)
        rows = [Tokens((window,), False) for tokens in batch for window in tokens.windows]
        found: dict[str, list[Features]] = {layer: [] for layer in layers}
        at_once = max(_WINDOWS_AT_ONCE, len(batch))
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            for layer, features in self._extract_windows(part, layers).items():
                found[layer] += [_row(features, i, tokens.length) for i, tokens in enumerate(part)]
        return {layer: merge(windows, batch) for layer, windows in found.items()}

    def has_int8(self, layers: Sequence[str]) -> bool:
        module: Any = self._module
        if not has_int8(self._device) or not is_of_the_build(module) or not fits_int8(module.config):
            return False
        depths = [depth_of(layer, len(module.encoder.layer)) for layer in layers]
        is_whole = not any(name.startswith("encoder.") for name in self._absent)
        return is_whole and None not in depths and any(depths)

    def _go_over_to(self, precision: str) -> None:
        if self._device.type != "cpu":
            super()._go_over_to(precision)
            return
        self.precision = precision
        if precision == "bfloat16":  # norms and all; 8-bit weights are made of float32 ones, before the first pass
            self._module.to(torch.bfloat16)

    def make_ready(self) -> None:
        if self._device.type != "cpu":
            return
        products = None
        if self.precision == "int8":
            products = int8_products(self._module, (self.collate([tokens]) for tokens in self._random_texts()))
            self._module.to(torch.bfloat16)
        if pack_linears(self._module):
            self._packed = PackedTexts.of(self._module, products)
        if products is not None and self._packed is None:
            raise UsageError(
                f"the linear layers of {self.name} cannot be packed; take precision 'auto' instead of 'int8'"
            )

    def _random_texts(self) -> list[Any]:
        """The same for the same network, whatever it is opened to read."""
        drawn = np.random.default_rng(0).integers(self._tokenizer.vocab_size, size=_RANDOM_TEXTS)
        texts = [self._tokenizer.decode(row, skip_special_tokens=True) for row in drawn]
        longest = min(2 * _RANDOM_TEXTS[1], _positions(self._module.config))
        with self._tokenizing:
            return tokenize(self._tokenizer, texts, longest, 0, all_of_it=False)

    def _extract_windows(self, batch: Sequence[Tokens], layers: Sequence[str]) -> dict[str, Features]:
        """Features of texts of one window each."""
        self.ready()
        names = {layer: self._table.info(layer).name for layer in layers}
        packed = self._packed
        # a layer that is called several times is one that blocks share
        if packed is None or any(packed.depth(name) is None for name in layers):
            return super().extract(batch, layers)
        with torch.inference_mode():
            outputs = packed.run([tokens.windows[0].ids for tokens in batch], layers)
            width = max(tokens.length for tokens in batch)
            real = self._mask(batch)
            found = {}
            for layer, x in outputs.items():
                if real.all():
                    rows = x.view(len(batch), width, -1)
                else:
                    rows = x.new_zeros((len(batch), width, x.shape[1]))
                    rows[real] = x
                found[layer] = self.to_features(names[layer], rows, batch)
            return found

    def collate(self, batch: Sequence[Any]) -> Inputs:
        width = max(tokens.length for tokens in batch)
        ids = torch.full((len(batch), width), self._tokenizer.pad_token_id or 0)
        mask = self._mask(batch)
        ids[mask] = torch.tensor([token for tokens in batch for token in tokens.windows[0].ids])
        ids = self.to_device(ids)
        if bool(mask.all()):  # texts of one length; without a mask attention takes a faster way
            return Inputs(kwargs={"input_ids": ids})
        return Inputs(kwargs={"input_ids": ids, "attention_mask": self.to_device(mask)})

    @staticmethod
    def _mask(batch: Sequence[Tokens]) -> torch.Tensor:
        """Which places of a batch hold tokens: bool B x T."""
        lengths = torch.tensor([tokens.length for tokens in batch])
        return torch.arange(int(lengths.max())) < lengths[:, None]

    def to_features(self, layer: str, output: torch.Tensor, batch: Sequence[Any]) -> Features:
        width = max(tokens.length for tokens in batch)
        if output.ndim > 3 or (output.ndim == 3 and output.shape[1] != width):
            raise UsageError(f"layer {layer!r} gives {tuple(output.shape)}; take one that gives tokens or one vector")
        mask = self._mask(batch)
        roles = torch.zeros((len(batch), width), dtype=torch.int8)
        roles[mask] = torch.tensor([role for tokens in batch for role in tokens.windows[0].roles], dtype=torch.int8)
        return as_features(output, layer, mask=mask.to(output.device), roles=roles.to(output.device))

    def blank(self, layers: Sequence[str]) -> dict[str, Features]:
        found = {}
        for layer in layers:
            output = torch.zeros((1, *(self._table.info(layer).shape or ())))
            ones = torch.ones((1, output.shape[1]))
            found[layer] = as_features(output, layer, mask=ones.bool(), roles=ones.to(torch.int8) * CONTENT)
        return found


def _row(features: Features, row: int, length: int) -> Features:
    """One window of a batch without its padding."""
    if features.mask is None:
        return Features(features.values[row : row + 1])
    roles = None if features.roles is None else features.roles[row : row + 1, :length]
    return Features(features.values[row : row + 1, :length], roles=roles)


def _absent(loaded: Mapping[str, Any]) -> set[str]:
    """What transformers filled with random numbers, so that reaching it must be an error."""
    absent = {str(name) for name in loaded.get("missing_keys", ())}
    return absent | {str(entry[0]) for entry in loaded.get("mismatched_keys", ())}


def _layers(config: Any) -> LayerTable:
    try:
        with torch.device("meta"):
            return _probed(config)
    except (RuntimeError, NotImplementedError):
        return _probed(config)  # DeBERTa and others look at values while they run


def _probed(config: Any) -> LayerTable:
    skeleton = AutoModel.from_config(config).eval()
    inputs = Inputs(
        kwargs={"input_ids": torch.ones((PROBE_BATCH, min(_PROBE_TOKENS, _positions(config))), dtype=torch.long)}
    )
    return LayerTable(probe(skeleton, inputs), hidden_aliases(hidden_state_layers(skeleton, inputs)))


def _default_layer(infos: list[LayerInfo]) -> str:
    """The last block of the encoder, or what follows it when the network ends in a norm."""
    tokens = [info for info in infos if len(info.shape or ()) == 2]
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
