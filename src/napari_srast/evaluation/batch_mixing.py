"""Score how well the features of several slides mix, and whether they keep biological structure.

Noise has the best mixing score, so every mixing score is reported together with a structure score.

Shape legend: N observations of all slides, D features, G genes, M neighbors.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

__all__ = ["ilisi", "neighbor_agreement"]


def ilisi(features: np.ndarray, slide: np.ndarray, *, perplexity: float = 30.0) -> np.ndarray:
    """Compute integration LISI: the effective number of slides in the neighborhood of each observation.

    It is the inverse Simpson index of the slides in a Gaussian neighborhood. The width of the neighborhood is chosen to
    give the stated perplexity, among 3 x perplexity nearest neighbors (Korsunsky et al. 2019,
    doi:10.1038/s41592-019-0619-0).

    Parameters
    ----------
    features
        Features of all slides' observations, shape (N, D).
    slide
        Slide of each observation, shape (N,).
    perplexity
        Effective number of neighbors, at most a third of the observations.

    Returns
    -------
    np.ndarray
        Shape (N,), from 1 (one slide only) to the number of slides. Without any structure, slides with fractions s of
        the observations give slightly less than ``1 / sum(s**2)``; the difference grows as the perplexity decreases.

    Examples
    --------
    >>> apart = np.concatenate([np.zeros(100), np.full(100, 50.0)])[:, None] + np.linspace(0, 1, 200)[:, None]
    >>> ilisi(apart, np.repeat([0, 1], 100)).max().round(3)
    np.float64(1.0)
    """
    n_neighbors = max(min(int(3 * perplexity), len(features) - 1), 1)
    perplexity = min(perplexity, n_neighbors / 3)
    distance, index = NearestNeighbors(n_neighbors=n_neighbors).fit(features).kneighbors()
    weight = _gaussian_weights(distance**2, perplexity)
    codes = np.unique(slide, return_inverse=True)[1]
    share = np.stack([np.where(codes[index] == code, weight, 0).sum(axis=1) for code in range(codes.max() + 1)])
    return np.asarray(1 / (share**2).sum(axis=0))


def _gaussian_weights(squared: np.ndarray, perplexity: float) -> np.ndarray:
    """Return Gaussian weights (N, M) of the stated perplexity, rows summing to 1, with widths found by bisection."""
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
    """Score how well the nearest neighbors in the features predict an observation's expression.

    The prediction is the mean expression of the nearest observations: those of the same slide (is structure kept?) or
    of the *other* slides only (are features comparable across slides?). Noise scores 0 in both.

    Parameters
    ----------
    features
        Features of all slides' observations, shape (N, D).
    expression
        Expression to predict, shape (N, G): log-normalized counts that the features were not fitted to.
    slide
        Slide of each observation, shape (N,); every slide needs at least two observations.
    across
        Whether neighbors come from the other slides.
    n_neighbors
        Number of neighbors.

    Returns
    -------
    float
        Correlation over a slide's observations, averaged over the genes that vary and over slides.
    """
    correlations = []
    for one in np.unique(slide):
        of_slide = slide == one
        candidates = ~of_slide if across else of_slide
        n_used = min(n_neighbors, int(candidates.sum()) - (not across))
        search = NearestNeighbors(n_neighbors=n_used).fit(features[candidates])
        # Without an argument, scikit-learn excludes each observation from its own neighbors.
        index = search.kneighbors(features[of_slide] if across else None, return_distance=False)
        predicted = expression[candidates][index].mean(axis=1)
        a = predicted - predicted.mean(axis=0)
        b = expression[of_slide] - expression[of_slide].mean(axis=0)
        power_a, power_b = (a**2).sum(axis=0), (b**2).sum(axis=0)
        varies = (power_a > 1e-12) & (power_b > 1e-12)
        covariance = (a * b).sum(axis=0)[varies]
        correlation = covariance / np.sqrt(power_a[varies] * power_b[varies])
        correlations.append(float(np.mean(correlation)) if varies.any() else 0.0)
    return float(np.mean(correlations))
