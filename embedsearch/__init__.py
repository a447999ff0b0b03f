"""Similarity search over the inner layers of neural networks.

    import embedsearch as es
    index = es.build("photos/", "indexes/photos", backbone="vgg16", layer="features.22", pooling="gem")
    hits = es.open("indexes/photos").search("cat.jpg", k=10)

Everything public is in `__all__`; names are imported on first use, so that a search does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedsearch import evaluate
    from embedsearch.engine.building import build
    from embedsearch.engine.explaining import explain
    from embedsearch.engine.index import Index
    from embedsearch.engine.opening import open  # noqa: A004
    from embedsearch.engine.recommender import Recommender
    from embedsearch.engine.tuner import tune
    from embedsearch.errors import EmbedSearchError
    from embedsearch.pipeline.encode import Encoder
    from embedsearch.pipeline.explain.explanation import Explanation
    from embedsearch.pipeline.table import EmbeddingTable
    from embedsearch.pipeline.tune.report import Tuned
    from embedsearch.recommend.weights import interaction_weights
    from embedsearch.types import Hit, Hits, Metric, Progress, Recommendations

__version__ = "0.1.0"

_HOMES = {
    "EmbedSearchError": "embedsearch.errors",
    "EmbeddingTable": "embedsearch.pipeline.table",
    "Encoder": "embedsearch.pipeline.encode",
    "Explanation": "embedsearch.pipeline.explain.explanation",
    "Hit": "embedsearch.types",
    "Hits": "embedsearch.types",
    "Index": "embedsearch.engine.index",
    "Metric": "embedsearch.types",
    "Progress": "embedsearch.types",
    "Recommendations": "embedsearch.types",
    "Recommender": "embedsearch.engine.recommender",
    "Tuned": "embedsearch.pipeline.tune.report",
    "build": "embedsearch.engine.building",
    "explain": "embedsearch.engine.explaining",
    "interaction_weights": "embedsearch.recommend.weights",
    "open": "embedsearch.engine.opening",
    "tune": "embedsearch.engine.tuner",
}

__all__ = [
    "EmbedSearchError",
    "EmbeddingTable",
    "Encoder",
    "Explanation",
    "Hit",
    "Hits",
    "Index",
    "Metric",
    "Progress",
    "Recommendations",
    "Recommender",
    "Tuned",
    "build",
    "evaluate",
    "explain",
    "interaction_weights",
    "open",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "evaluate":
        return import_module("embedsearch.evaluate")
    if name not in _HOMES:
        raise AttributeError(f"module 'embedsearch' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
