"""Whether features of several slides mix, and whether they still mean anything when they do.

Mixing alone is won by noise, so each score of mixing stands beside one of structure.
Shape legend: N observations of all slides, D features, G genes, M neighbors.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

__all__ = ["ilisi", "neighbor_agreement"]


def ilisi(features: np.ndarray, slide: np.ndarray, *, perplexity: float = 30.0) -> np.ndarray:
    """Integration LISI: how many slides are effectively found around each observation.

    The inverse Simpson index of the slides in a Gaussian neighborhood whose width gives it the stated perplexity
    (Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0), among three perplexities of nearest neighbors.

    Parameters
    ----------
    features
        Shape (N, D).
    slide
        Slide of each observation, shape (N,).
    perplexity
        Effective number of neighbors; at most a third of the observations is used.

    Returns
    -------
    np.ndarray
        Shape (N,), from 1 (one slide only) to the number of slides. Without any structure, observations of slides with
        shares s mix to somewhat less than ``1 / sum(s**2)``, the less the smaller the perplexity.

    Examples
    --------
    >>> apart = np.concatenate([np.zeros(100), np.full(100, 50.0)])[:, None] + np.linspace(0, 1, 200)[:, None]
    >>> ilisi(apart, np.repeat([0, 1], 100)).max().round(3)
    np.float64(1.0)
    """
    n_neighbors = max(min(int(3 * perplexity), len(features) - 1), 1)
    perplexity = min(perplexity, n_neighbors / 3)
    distance, index = NearestNeighbors(n_neighbors=n_neighbors).fit(features).kneighbors()
    weight = _perplexed(distance**2, perplexity)
    codes = np.unique(slide, return_inverse=True)[1]
    share = np.stack([np.where(codes[index] == code, weight, 0).sum(axis=1) for code in range(codes.max() + 1)])
    return np.asarray(1 / (share**2).sum(axis=0))


def _perplexed(squared: np.ndarray, perplexity: float) -> np.ndarray:
    """Return Gaussian weights (N, M), rows summing to 1, of the stated perplexity: bisection of each row's width."""
    above = squared - squared[:, :1]
    scale = np.maximum(above.mean(axis=1, keepdims=True), 1e-12)
    low, high = np.full((len(above), 1), -20.0), np.full((len(above), 1), 20.0)  # log precisions
    weight = np.zeros_like(above)
    for _ in range(50):
        middle = (low + high) / 2
        weight = np.exp(-np.exp(middle) * above / scale)
        weight /= weight.sum(axis=1, keepdims=True)
        entropy = -(weight * np.log(np.maximum(weight, 1e-300))).sum(axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return weight


def neighbor_agreement(
    features: np.ndarray, expression: np.ndarray, slide: np.ndarray, *, across: bool, n_neighbors: int = 15
) -> float:
    """Return how well the nearest in the features foretell an observation's expression.

    Each observation's expression is foretold by the mean of its nearest observations: of the same slide (is structure
    kept?) or of the *other* slides only (does nearness across slides mean anything?). Noise scores 0 in both.

    Parameters
    ----------
    features
        Shape (N, D).
    expression
        What is foretold, shape (N, G): log-normalized counts that the features have not seen.
    slide
        Slide of each observation, shape (N,); every slide needs two observations at least.
    across
        Look for neighbors on the other slides.
    n_neighbors
        How many.

    Returns
    -------
    float
        Correlation over a slide's observations, mean over genes that vary and over slides.
    """
    correlations = []
    for one in np.unique(slide):
        own = slide == one
        candidates = ~own if across else own
        n_found = min(n_neighbors, int(candidates.sum()) - (not across))
        search = NearestNeighbors(n_neighbors=n_found).fit(features[candidates])
        # Without an argument, scikit-learn leaves each observation out of its own neighbors.
        index = search.kneighbors(features[own] if across else None, return_distance=False)
        foretold = expression[candidates][index].mean(axis=1)
        a, b = foretold - foretold.mean(axis=0), expression[own] - expression[own].mean(axis=0)
        power_a, power_b = (a**2).sum(axis=0), (b**2).sum(axis=0)
        some = (power_a > 1e-12) & (power_b > 1e-12)
        covariance = (a * b).sum(axis=0)[some]
        correlations.append(float(np.mean(covariance / np.sqrt(power_a[some] * power_b[some]))) if some.any() else 0.0)
    return float(np.mean(correlations))
