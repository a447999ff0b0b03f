"""Keras, imported only where it is asked for, on its torch backend; and the models in its files."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from embedsearch.errors import MissingExtraError, UsageError, WeightsError

_FIX = "start Python with KERAS_BACKEND=torch set, or set it in os.environ before keras is first imported"


def import_keras() -> Any:
    """The module keras on its torch backend, which is chosen where nothing else was.

    Raises MissingExtraError when keras is not installed, UsageError when it runs on another backend.
    """
    if "keras" not in sys.modules and not os.environ.get("KERAS_BACKEND"):
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        keras = import_module("keras")
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("keras", ""):
            raise MissingExtraError("Keras models need keras: pip install 'embedsearch[keras]'") from error
        # KERAS_BACKEND names a framework that is not here
        raise UsageError(f"keras cannot be imported on its backend: {error}; {_FIX}") from error
    if int(str(keras.__version__).partition(".")[0]) < 3:
        raise MissingExtraError(f"keras {keras.__version__} is too old: pip install 'embedsearch[keras]'")
    backend = keras.config.backend()
    if backend != "torch":
        raise UsageError(f"keras runs on its backend {backend!r}, needed is 'torch'; {_FIX}")
    return keras


def load_keras_model(path: Path) -> Any:
    """The model in a .keras or .h5 file, uncompiled, in Keras' safe mode (code inside a file is not run).

    Raises WeightsError when the file is missing, none, or needs classes that are not there.
    """
    if not path.is_file():
        raise WeightsError(
            f"the Keras model {path} does not exist; name a .keras or .h5 file where it is: --backbone keras:FILE"
        )
    if path.suffix == ".keras" and not is_zipfile(path):
        raise WeightsError(f"{path} is not a .keras file: it is no zip archive")
    keras = import_keras()
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # keras has no exception class for files that it cannot read
        raise WeightsError(f"keras cannot open {path}: {_reason(error)}{_advice(error)}") from error


def _reason(error: Exception) -> str:
    """The one sentence in keras' pages that tells the cause."""
    told = str(error).rpartition("Exception encountered:")[2].strip() or type(error).__name__
    return told.splitlines()[0].partition(". ")[0].rstrip(".")


def _advice(error: Exception) -> str:
    told = str(error)
    if "Could not locate" in told:
        return "; open the model where its classes are imported, and pass the model itself"
    if "Lambda" in told or "lambda" in told:
        return "; a file's own code is never run: open the model yourself if you trust it, and pass the model itself"
    if "No model config" in told:
        return "; it holds weights alone: load them into the model, and pass the model itself"
    return ""
