"""Real weights and real data, loaded once a session."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a model hub

settings.register_profile("embedsearch", deadline=None, max_examples=50)  # machines are shared
settings.load_profile("embedsearch")

DATA = Path(__file__).parent / "data"
SIZE = 64


@pytest.fixture(scope="session")
def emoji() -> dict[str, list[Path]]:
    """The drawings of each vendor, in the order of their names."""
    return {vendor: sorted((DATA / "emoji" / vendor).glob("*.png")) for vendor in ("google", "twitter")}


@pytest.fixture(scope="session", autouse=True)
def float32_unless_asked():
    """Vectors are compared with plain passes to 1e-5; only test_precision.py lets `auto` choose bfloat16."""
    from embedsearch.backbones import named

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(named, "has_bfloat16", lambda device: False)
        yield


@pytest.fixture(scope="session")
def vgg16():
    """VGG16 with Oxford's weights, at 64 px so that tests stay fast."""
    from embedsearch.backbones import open_backbone

    return open_backbone("vgg16", weights="packaged", size=SIZE)


@pytest.fixture(scope="session")
def minilm():
    from embedsearch.backbones import open_backbone

    return open_backbone("minilm", weights="packaged")


@pytest.fixture(scope="session")
def image_encoder():
    import embedsearch as es

    return es.Encoder("vgg16", weights="packaged", size=SIZE, pooling="auto")  # as a build does


@pytest.fixture(scope="session")
def text_encoder():
    import embedsearch as es

    return es.Encoder("minilm")


@pytest.fixture(scope="session")
def photo_index(tmp_path_factory, emoji):
    """A finished index over 60 drawings; tests must not write into it."""
    import embedsearch as es

    folder = tmp_path_factory.mktemp("photos")
    for path in emoji["twitter"][:60]:
        (folder / path.name).symlink_to(path)
    return es.build(folder, folder.parent / "photo-index", weights="packaged", size=SIZE)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def clusters(rng) -> NDArray[np.float32]:
    """600 x 24 with low intrinsic dimension, as real embeddings have."""
    return (rng.normal(size=(600, 6)) @ rng.normal(size=(6, 24))).astype(np.float32)


@pytest.fixture
def folder(tmp_path, emoji):
    """A folder with ten drawings, for a test to build from and change."""
    root = tmp_path / "pictures"
    root.mkdir()
    for path in emoji["twitter"][:10]:
        shutil.copy(path, root)
    return root


@pytest.fixture
def net_file(tmp_path):
    """Code that makes a network, in a file of its own folder."""
    from user_files import SEEDED, write

    return write(tmp_path / "code" / "net.py", SEEDED)
