"""What embeddings are extracted with elsewhere, each as its documentation shows it, from files or texts to a matrix."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torchvision.models as models
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers.utils import logging as transformers_logging

import embedsearch as es
from embedsearch.backbones.cpu.threads import passes_apart
from embedsearch.backbones.packaged import minilm_folder, packaged_vgg16

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()

THREADS = len(os.sched_getaffinity(0))
LAYER = "features.29"  # relu5_3
SIZE = 224
TORCH_BATCH = 32
SECONDS = 0.5  # that a peak is kept up for
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Encodes(Protocol):
    """name: for the table."""

    name: str

    def encode(self, items: Sequence[Any]) -> np.ndarray: ...


def vgg16() -> nn.Module:
    """torchvision's VGG16 with the weights that all are given; its fc layers, whose weights are not packaged, are
    random and take the same time."""
    module = models.vgg16(weights=None)
    module.load_state_dict(packaged_vgg16().state, strict=False)
    return module.eval()


class OursImages:
    name = "embedsearch"

    def __init__(
        self, precision: str = "auto", network: str = "vgg16", weights: str = "packaged", layer: str | None = LAYER
    ) -> None:
        self.encoder = es.Encoder(network, weights=weights, layer=layer, size=SIZE, precision=precision)

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        return self.encoder.encode(items)


class TorchvisionLoop:
    """The loop of the tutorials: PIL, the weights' transforms, batches of 32, a hook on the layer, no gradients."""

    name = "torchvision loop"

    def __init__(self, network: str = "vgg16", model: nn.Module | None = None, layer: str = LAYER) -> None:
        self._model, self._layer = model or vgg16(), layer
        self._transforms = models.get_model_weights(network).DEFAULT.transforms()

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        rows: list[np.ndarray] = []

        def keep(_module: nn.Module, _args: Any, output: torch.Tensor) -> None:
            rows.append(output.flatten(2).mean(dim=2).numpy())  # of tokens it means nothing, and takes the same time

        handle = self._model.get_submodule(self._layer).register_forward_hook(keep)
        with torch.no_grad():
            for start in range(0, len(items), TORCH_BATCH):
                pictures = [Image.open(path).convert("RGB") for path in items[start : start + TORCH_BATCH]]
                self._model(torch.stack([self._transforms(picture) for picture in pictures]))
        handle.remove()
        return np.concatenate(rows)


def random_network(name: str, folder: Path) -> tuple[OursImages, TorchvisionLoop]:
    """A network of torchvision as both extract from it, with the same random weights: what it takes does not depend on
    them."""
    torch.manual_seed(0)
    model = models.get_model(name, weights=None).eval()
    path = folder / f"{name}.safetensors"
    save_file(model.state_dict(), path)
    ours = OursImages(network=name, weights=str(path), layer=None)
    return ours, TorchvisionLoop(name, model, ours.encoder.recipe.layers[0])


def named_by(name: str, precision: str) -> str:
    return name if precision == "auto" else f"{name}, {precision}"


class Img2VecLoop:
    """img2vec_pytorch's `get_vec` over lists of 32; its VGG gives the layer before the last, and so the whole pass."""

    name = "img2vec_pytorch"

    def __init__(self) -> None:
        from img2vec_pytorch import Img2Vec, img_to_vec

        # it would download a VGG16 with batch norms; given the same weights as the others it has less to do
        img_to_vec.vgg16_bn = lambda weights=None: vgg16()
        self._img2vec = Img2Vec(cuda=False, model="vgg16", layer_output_size=4096)

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        starts = range(0, len(items), TORCH_BATCH)
        lists = ([Image.open(path).convert("RGB") for path in items[s : s + TORCH_BATCH]] for s in starts)
        return np.concatenate([self._img2vec.get_vec(pictures) for pictures in lists])


class OursTexts:
    def __init__(self, precision: str = "auto") -> None:
        self.name = named_by("embedsearch", precision)
        self.encoder = es.Encoder("minilm", weights="packaged", precision=precision)

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        return self.encoder.encode(items)


class OneByOne:
    """Each item alone, as queries come."""

    def __init__(self, encoder: Encodes) -> None:
        self.name = f"{encoder.name}, one by one"
        self._encoder = encoder

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        return np.concatenate([self._encoder.encode([item]) for item in items])


class SentenceTransformers:
    """`SentenceTransformer.encode`."""

    def __init__(self, batch_size: int = 32) -> None:
        from sentence_transformers import SentenceTransformer

        self.name = f"sentence-transformers, batches of {batch_size}"
        self._batch_size = batch_size
        self._model = SentenceTransformer(str(minilm_folder()), device="cpu")

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        return np.asarray(
            self._model.encode(list(items), batch_size=self._batch_size, show_progress_bar=False), np.float32
        )


class OpenVINO:
    """The same network converted to OpenVINO, in bfloat16, with its throughput hint; texts tokenised at once, by the
    tokenizer's own threads, then sorted by length. The mean is inside the network."""

    def __init__(self, batch_size: int = 64) -> None:
        import openvino
        from transformers import AutoModel, AutoTokenizer

        self.name = f"OpenVINO bf16, batches of {batch_size}"
        self._batch_size = batch_size
        self._tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
        inner = AutoModel.from_pretrained(minilm_folder(), dtype=torch.float32).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = torch.ones((2, 8), dtype=torch.long)
            converted = openvino.convert_model(
                _MeanOfTokens(inner), example_input={"input_ids": example, "attention_mask": example}
            )
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": THREADS}
        self._compiled = openvino.Core().compile_model(converted, "CPU", hints)
        self._queue = openvino.AsyncInferQueue(self._compiled)

    def encode(self, items: Sequence[Any]) -> np.ndarray:
        ids = self._tokenizer(list(items), truncation=True, max_length=256)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        found = np.zeros((len(ids), 384), np.float32)

        def keep(request: Any, places: list[int]) -> None:
            found[places] = request.get_output_tensor(0).data

        self._queue.set_callback(keep)
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            width = len(ids[places[0]])
            tokens, mask = np.zeros((2, len(places), width), np.int64)
            for row, place in enumerate(places):
                tokens[row, : len(ids[place])] = ids[place]
                mask[row, : len(ids[place])] = 1
            self._queue.start_async({"input_ids": tokens, "attention_mask": mask}, places)
        self._queue.wait_all()
        return found / np.linalg.norm(found, axis=1, keepdims=True)


class _MeanOfTokens(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._inner = inner

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self._inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * weight).sum(dim=1) / weight.sum(dim=1)


def gemm_peak(precision: str) -> float:
    """GFLOP/s of square products that this machine keeps up now on all threads; see `_best`."""
    dtype, peak = _DTYPES[precision], 0.0
    with torch.no_grad():
        for n in (1024, 2048):
            a, b = torch.randn(n, n, dtype=dtype), torch.randn(n, n, dtype=dtype)
            peak = max(peak, _best(lambda a=a, b=b: a @ b, 2.0 * n**3))
    return peak


def convolution_peak(precision: str) -> float:
    """The same of 3 x 3 convolutions over weights that lie as oneDNN wants them, for maps of any size and of theirs."""
    dtype, peak = _DTYPES[precision], 0.0
    where: tuple[Any, ...] = ([1, 1], [1, 1], [1, 1], 1)
    with torch.no_grad():
        for channels, side, n in ((128, 112, 4), (256, 56, 8), (512, 28, 16)):
            x = torch.randn(n, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)
            plain = torch.randn(channels, channels, 3, 3, dtype=dtype)
            flop = 2.0 * n * side**2 * channels**2 * 9
            for size in (None, list(x.shape)):
                weight = torch.ops.mkldnn._reorder_convolution_weight(plain, *where, size)

                def convolve(x: torch.Tensor = x, weight: torch.Tensor = weight) -> torch.Tensor:
                    y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, None, *where, "none", [], "")
                    return y

                peak = max(peak, _best(convolve, flop))
    return peak


def _best(call: Callable[[], Any], flop: float) -> float:
    """GFLOP/s of a call of so many flop, kept up for SECONDS by all threads on one call after another, and by each
    thread on calls of its own; the better one counts, whichever the machine favours now."""

    def kept_up() -> float:
        call()
        n, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < SECONDS:
            call()
            n += 1
        return n * flop / taken / 1e9

    with passes_apart(THREADS) as threads:
        apart = sum(threads.map(lambda _: kept_up(), range(THREADS)))
    return max(kept_up(), apart)


def photographs(most: int) -> list[Path]:
    """JPEG files: the groceries beside the repository, else drawings laid on white and blown up to 256 pixels."""
    from data import CACHE, SHARED, emoji_drawings

    found = sorted((SHARED / "grocery").rglob("*.jpg"))
    if not found:
        folder = CACHE / "drawings-256"
        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(emoji_drawings()[:most]):
            target = folder / f"{number:05d}.jpg"
            if not target.exists():
                drawn = Image.open(path).convert("RGBA").resize((256, 256), Image.Resampling.BICUBIC)
                white = Image.new("RGBA", drawn.size, "white")
                Image.alpha_composite(white, drawn).convert("RGB").save(target, quality=90)
            found.append(target)
    step = max(len(found) // most, 1)
    return found[::step][:most]
