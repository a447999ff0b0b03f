"""How good a ranking is, as pure functions; and how good recommendations are."""

from embedsearch.evaluate.interactions import Interactions, split_interactions
from embedsearch.evaluate.metrics import mean_with_interval, ndcg_at_k, recall_at_k, recall_with_ties
from embedsearch.evaluate.recommending import Evaluation, Figure, recommender

__all__ = [
    "Evaluation",
    "Figure",
    "Interactions",
    "mean_with_interval",
    "ndcg_at_k",
    "recall_at_k",
    "recall_with_ties",
    "recommender",
    "split_interactions",
]
