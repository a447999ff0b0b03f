"""How good a ranking is, as pure functions."""

from embedsearch.evaluate.metrics import mean_with_interval, ndcg_at_k, recall_at_k, recall_with_ties

__all__ = ["mean_with_interval", "ndcg_at_k", "recall_at_k", "recall_with_ties"]
