"""Keras models in files, indexes built with them, and what is told where a file or Keras itself is missing."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from keras_models import as_it_was, keras, nested, numbered, pooled, sequential, state
from user_networks import arrays, equal

import embedsearch as es
from embedsearch.backbones.files.keras_file import import_keras, load_keras_model
from embedsearch.errors import ContradictionError, MissingExtraError, UsageError, WeightsError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def fresh(*command, **environment):
    result = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "KERAS_BACKEND": "", **environment},
    )  # fmt: skip
    return result.returncode, result.stdout, result.stderr


def test_an_index_built_from_a_file_is_asked_in_a_fresh_process(folder, tmp_path):
    numbered(sequential()).save(tmp_path / "m.keras")
    options = {"layer": "conv2", "preprocess": "unit", "modality": "image"}
    index = es.build(folder, tmp_path / "index", backbone=f"keras:{tmp_path / 'm.keras'}", **options)
    picture = sorted(folder.iterdir())[4]
    code, out, err = fresh("-m", "embedsearch", "query", tmp_path / "index", picture, "--json", "-k", "2")
    assert code == 0, err
    assert json.loads(out)[0]["hits"][0]["id"] == picture.name and len(index) == 10
    (tmp_path / "m.keras").rename(tmp_path / "moved.keras")
    with pytest.raises(WeightsError, match="m.keras does not exist"):
        es.open(tmp_path / "index").search(picture)
    moved = es.open(tmp_path / "index", backbone=f"keras:{tmp_path / 'moved.keras'}")
    assert moved.search(picture, k=1)[0].id == picture.name
    numbered(sequential(), seed=4).save(tmp_path / "m.keras")
    with pytest.raises(ContradictionError, match="built with weights of sha256"):
        es.open(tmp_path / "index").search(picture)


def test_an_index_built_in_memory_is_asked_with_the_model(tmp_path):
    model, x = sequential(), np.stack(arrays(8, (9, 9, 3)))
    before = state(model)
    assert es.build(x, tmp_path / "index", backbone=model, layer="pool").search(x[3], k=1)[0].id == "3"
    as_it_was(model, before)
    assert es.open(tmp_path / "index", backbone=model).search(x[3], k=1)[0].id == "3"
    model.save(tmp_path / "m.keras")  # the same weights from elsewhere
    named = es.open(tmp_path / "index", backbone=f"keras:{tmp_path / 'm.keras'}")
    assert named.search(x[5], k=1)[0].id == "5"
    with pytest.raises(ContradictionError):
        es.open(tmp_path / "index", backbone=numbered(sequential(), seed=9)).search(x[3])


def test_weights_of_a_file_are_loaded_into_the_model(tmp_path):
    numbered(sequential()).save(tmp_path / "m.keras")
    other, items = numbered(sequential(), seed=8), arrays(2, (9, 9, 3))
    other.save_weights(tmp_path / "w.weights.h5")
    name = f"keras:{tmp_path / 'm.keras'}"
    equal(es.Encoder(name, weights=tmp_path / "w.weights.h5").encode(items), pooled(other(np.stack(items))))
    nested().save_weights(tmp_path / "n.weights.h5")
    for wrong in ("n.weights.h5", "none.weights.h5", "w.txt"):
        with pytest.raises(WeightsError, match="do not fit"):
            es.Encoder(name, weights=tmp_path / wrong)


def test_another_backend_is_refused(tmp_path, monkeypatch):
    sequential().save(tmp_path / "m.keras")
    name = f"keras:{tmp_path / 'm.keras'}"
    # of a backend that is not installed keras itself cannot be imported
    code, _, err = fresh("-c", f"import embedsearch as es; es.Encoder({name!r})", KERAS_BACKEND="jax")
    assert code == 1 and "UsageError: keras cannot be imported on its backend: No module named 'jax'" in err
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    for backbone in (sequential(), name):
        with pytest.raises(UsageError, match="keras runs on its backend 'jax', needed is 'torch'"):
            es.Encoder(backbone)


def test_without_keras_the_extra_is_named(monkeypatch, tmp_path):
    sequential().save(tmp_path / "m.keras")
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedsearch\[keras\]'"):
        es.Encoder(f"keras:{tmp_path / 'm.keras'}")
    assert es.Encoder(torch.nn.Linear(2, 2)).encode([[1.0, 2.0]]).shape == (1, 2)
    with pytest.raises(UsageError, match="must be a name, a torch.nn.Module or a Keras model, not int"):
        es.Encoder(5)


def test_keras_files_that_cannot_be_opened(tmp_path, monkeypatch):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    for name, layer in (("own.keras", Mine()), ("lambda.keras", keras.layers.Lambda(lambda x: x))):
        keras.Sequential([keras.layers.Input((3,)), layer]).save(tmp_path / name)
    sequential().save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "bad.keras").write_bytes(b"x")
    (tmp_path / "bad.h5").write_bytes(b"x")
    for name, message in {
        "own.keras": "Could not locate class 'Mine'.*; open the model where its classes are imported",
        "lambda.keras": "`Lambda`.*; a file's own code is never run",
        "w.weights.h5": "No model config.*weights alone",
        "bad.keras": "no zip", "bad.h5": "keras cannot open", "none.keras": "does not exist",
    }.items():  # fmt: skip
        with pytest.raises(WeightsError, match=message) as told:
            load_keras_model(tmp_path / name)
        assert str(tmp_path / name) in str(told.value) and "\n" not in str(told.value)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedsearch\[keras\]'"):
        load_keras_model(tmp_path / "own.keras")


def test_keras_on_another_backend_is_told(monkeypatch):
    code = "from embedsearch.backbones.files.keras_file import import_keras\n"
    code += "try: import_keras()\nexcept ValueError as e: print(e)"
    env = os.environ | {"KERAS_BACKEND": "jax"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert "jax" in out and "KERAS_BACKEND=torch" in out
    monkeypatch.setattr(keras.config, "backend", lambda: "tensorflow")
    with pytest.raises(
        UsageError, match="keras runs on its backend 'tensorflow', needed is 'torch'; start Python with"
    ):
        import_keras()
