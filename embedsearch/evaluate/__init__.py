"""How good a ranking is, as pure functions; and how good recommendations are."""

from embedsearch.evaluate.bootstrap import Figure, bootstrapped
from embedsearch.evaluate.interactions import Interactions, split_interactions
from embedsearch.evaluate.metrics import mean_with_interval, ndcg_at_k, recall_at_k, recall_with_ties
from embedsearch.evaluate.recommending import Evaluation, recommender

__all__ = [
    "Evaluation",
    "Figure",
    "Interactions",
    "bootstrapped",
    "mean_with_interval",
    "ndcg_at_k",
    "recall_at_k",
    "recall_with_ties",
    "recommender",
    "split_interactions",
]
