"""What the flow is trained for: the KL constraint and the boundary-aware regularization.

Shape legend: B pairs, K pixels of a spot (padded, masked), Q pixels, F fields, E edges between touching pixels of
different spots.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["boundary_loss", "endpoint_loss", "pair_weight"]


def pair_weight(n: Tensor, half: float = 10.0) -> Tensor:
    """Weigh a pair by its counts, n / (1 + n / half): deep pairs count more, but not without bound."""
    return n / (1 + n / half)


def endpoint_loss(log_ratio: Tensor, target: Tensor, n_pixels: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy of target and predicted ratios, as nats gained over the even split, negated.

    Equals KL(target || predicted) up to a constant that no prediction changes.

    Parameters
    ----------
    log_ratio
        Predicted log ratios, shape (B, K).
    target
        True ratios, shape (B, K), zeros on padding.
    n_pixels, weight
        Shape (B,).
    """
    gain = (target * log_ratio.masked_fill(target == 0, 0.0)).sum(dim=1) + torch.log(n_pixels.float())
    return -(weight * gain).sum() / weight.sum().clamp_min(1e-9)


def boundary_loss(log_density: Tensor, edges: Tensor, similarity: Tensor, weight: Tensor) -> Tensor:
    """Penalize jumps of the predicted density between touching pixels of different spots that are alike.

    Parameters
    ----------
    log_density
        Predicted log counts of every pixel, shape (Q, F).
    edges
        Touching pixels whose spots differ, shape (2, E).
    similarity
        Latent similarity of the two spots, shape (E,); negative ones count as 0, so a domain border is not blurred.
    weight
        Weight of each field at each edge, shape (E, F).
    """
    jump = (log_density[edges[0]] - log_density[edges[1]]) ** 2
    weight = weight * similarity.clamp_min(0)[:, None]
    return (weight * jump).sum() / weight.sum().clamp_min(1e-9)
