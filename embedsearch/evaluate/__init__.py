"""How good a ranking is, as pure functions."""

from embedsearch.evaluate.metrics import ndcg_at_k, recall_at_k, recall_with_ties

__all__ = ["ndcg_at_k", "recall_at_k", "recall_with_ties"]
