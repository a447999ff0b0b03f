"""Brute force in numpy, written apart from the package."""

from __future__ import annotations

import numpy as np


def scores_of(xq, xb, metric: str):
    """All scores, float64, n_q x n_b."""
    q, b = xq.astype(np.float64), xb.astype(np.float64)
    if metric == "cosine":
        q = q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300)
        b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-300)
    if metric == "l2":
        return ((q[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return q @ b.T


def assert_is_best(rows, scores, xq, xb, metric: str, k: int, allowed=None, tolerance=1e-5) -> None:
    """`rows` are k best rows and `scores` theirs; rows that tie (to `tolerance` of the largest score) may
    stand for one another."""
    truth = scores_of(xq, xb, metric)
    tolerance = tolerance * max(1.0, float(np.abs(truth).max()))
    if allowed is not None:
        truth[:, ~allowed] = np.inf if metric == "l2" else -np.inf
    best = np.sort(truth, axis=1)[:, :k] if metric == "l2" else -np.sort(-truth, axis=1)[:, :k]
    assert rows.shape == best.shape
    np.testing.assert_allclose(scores, best, atol=tolerance)
    for q, answers in enumerate(rows):
        assert len(set(answers.tolist())) == len(answers), "a row is answered twice"
        np.testing.assert_allclose(truth[q, answers], best[q], atol=tolerance)


def recall_of(rows, xq, xb, metric, allowed=None):
    """recall@k of rows n x k against brute force among the rows that are allowed."""
    truth = scores_of(xq, xb, metric)
    truth = truth if metric == "l2" else -truth
    if allowed is not None:
        truth[:, ~allowed] = np.inf
    best = np.argsort(truth, axis=1)[:, : rows.shape[1]]
    return np.mean([len(set(r) & set(b)) / len(b) for r, b in zip(rows.tolist(), best.tolist(), strict=True)])
