"""Compute the training loss of the flow: end-point cross-entropy and boundary-aware regularization.

The paper names a KL constraint that aligns generated and target distribution, and a boundary-aware regularization
(SRast, arXiv 2602.10644), without equations. The two terms here are this project's form of them (docs/method.md).

Shape legend: B spot-field pairs, K pixels per spot (padded, masked), Q pixels, F fields, E edges between touching
pixels of different spots.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["boundary_loss", "endpoint_loss", "pair_weight"]


def pair_weight(n: Tensor, half: float = 10.0) -> Tensor:
    """Weight a pair by its counts, ``n / (1 + n / half)``: proportional for few counts, at most ``half`` for many.

    Parameters
    ----------
    n
        Counts of each pair, shape (B,).
    half
        Counts at which the weight reaches half of its limit; also the limit.
    """
    return n / (1 + n / half)


def endpoint_loss(log_ratio: Tensor, target: Tensor, n_pixels: Tensor, weight: Tensor) -> Tensor:
    """Compute the weighted cross-entropy of target and predicted ratios, minus that of a uniform split.

    The loss is ``-sum_b w_b (sum_k x_bk log xhat_bk + log K_b) / sum_b w_b`` in nats per count. It equals the weighted
    ``KL(target || predicted)`` up to a constant that does not depend on the prediction.

    Parameters
    ----------
    log_ratio
        Predicted log ratios ``log xhat``, shape (B, K).
    target
        True ratios ``x``, zeros on padding, shape (B, K).
    n_pixels
        Number of real pixels of each pair ``K_b``, shape (B,).
    weight
        Weight of each pair ``w_b``, at least 0, shape (B,).

    Returns
    -------
    Tensor
        Scalar; 0 for a uniform split, negative if the prediction is better.
    """
    gain = (target * log_ratio.masked_fill(target == 0, 0.0)).sum(dim=1) + torch.log(n_pixels.float())
    return -(weight * gain).sum() / weight.sum().clamp_min(1e-9)


def boundary_loss(log_density: Tensor, edges: Tensor, similarity: Tensor, weight: Tensor) -> Tensor:
    """Penalize jumps of the predicted log density between touching pixels of similar spots.

    The loss is the mean of ``(y_a - y_b)^2`` over edges (a, b) and fields, weighted by ``weight * max(similarity, 0)``.
    It removes seams inside a tissue domain and keeps the border between unlike domains sharp.

    Parameters
    ----------
    log_density
        Predicted log counts of every pixel ``y``, shape (Q, F).
    edges
        Pairs of touching pixels that belong to different spots, shape (2, E).
    similarity
        Cosine similarity of the latents of the two spots, from -1 to 1, shape (E,).
    weight
        Weight of each field at each edge, at least 0, shape (E, F).

    Returns
    -------
    Tensor
        Scalar, at least 0.
    """
    jump = (log_density[edges[0]] - log_density[edges[1]]) ** 2
    weight = weight * similarity.clamp_min(0)[:, None]
    return (weight * jump).sum() / weight.sum().clamp_min(1e-9)
