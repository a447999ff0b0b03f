"""How good a ranking is, as pure functions; and how good recommendations are."""

from embedsearch.evaluate.bootstrap import Figure, bootstrapped
from embedsearch.evaluate.interactions import Interactions, split_interactions
from embedsearch.evaluate.judged import Judged
from embedsearch.evaluate.metrics import mean_with_interval, ndcg_at_k, recall_at_k, recall_with_ties
from embedsearch.evaluate.ranking import Measures, measures, ranked_gains
from embedsearch.evaluate.recommending import Evaluation, recommender

__all__ = [
    "Evaluation",
    "Figure",
    "Interactions",
    "Judged",
    "Measures",
    "bootstrapped",
    "mean_with_interval",
    "measures",
    "ndcg_at_k",
    "ranked_gains",
    "recall_at_k",
    "recall_with_ties",
    "recommender",
    "split_interactions",
]
