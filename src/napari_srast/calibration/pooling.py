"""Pool experts log-linearly, with weights that depend on the count of a spot.

The pool is log r = sum_e w_e(n) log r_e + const, within each spot. :func:`napari_srast.calibration.weight_fitting.
fit_pool_weights` fits its weights on the slide itself. If the weights add up to less than 1, the pool is closer to the
uniform split than its experts are.

Shape legend: N spots, Q pixels, F fields, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_srast.calibration.likelihood import scaled_log_count
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = [
    "EXPERT_NAMES",
    "FLOW",
    "POOL_SHARE",
    "PROGRAM_EXPERT_NAMES",
    "TOTALS_SHARE",
    "Level",
    "PoolWeights",
    "average_with_intensity",
    "pool_ratios",
    "totals_shift",
]

EXPERT_NAMES = ("pcfm", "gp_denoised", "gp", "pycnophylactic_denoised", "bilinear", "gp_totals")
"""Experts of the pool, in the order of the weights."""
FLOW = EXPERT_NAMES.index("pcfm")
"""Index of the network among the experts."""
PROGRAM_EXPERT_NAMES = ("programs", "totals")
"""Experts of genes that do not go through the flow: see :mod:`napari_srast.models.programs.program_fields`."""
POOL_SHARE = 0.2
"""Share of the calibrated pool in the average of :func:`average_with_intensity`; the rest is the intensity field."""
TOTALS_SHARE = 0.65
"""Share of the pool in the totals, by :func:`totals_shift`, where the network knows the scale of the pixels."""
Level = Literal["fine", "coarse"]
"""Pixels that weights are for: "fine" for the slide's own pixels, "coarse" for those of the coarsened slide."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolWeights:
    """Weights of the pool.

    Parameters
    ----------
    weights
        Weights at no counts, and their change up to 100 counts, shape (2, E); linear in log(1 + n), up to 1,000 counts.
    coarse_weights
        Weights for the coarsened slide, where the experts have a different value, same shape.
    experts
        Names of the experts, length E.
    source
        "slide" for weights that were fitted on the slide itself, "fleet" for the mean of the prior.
    nats, nats_prior
        Nats per (tempered) count on the coarsened slide, with these weights and with the mean of the prior; NaN if the
        source is "fleet".
    confidence
        Probability, on the slide's own spots, that the full pool is better than a plainer one, 0 to 1. The weights are
        interpolated by it: between the interpolations alone and the pool with the network, or for programs between the
        uniform split and the pool.
    """

    weights: np.ndarray
    coarse_weights: np.ndarray
    experts: tuple[str, ...] = EXPERT_NAMES
    source: str = "fleet"
    nats: float = float("nan")
    nats_prior: float = float("nan")
    confidence: float = 1.0

    def at(self, n: np.ndarray, *, level: Level = "fine") -> np.ndarray:
        """Return the weights of spots with ``n`` counts.

        Parameters
        ----------
        n
            Counts, any shape.
        level
            The pixels that the weights are for.

        Returns
        -------
        np.ndarray
            The shape of ``n`` with another axis of length E at the end.
        """
        weights = self.coarse_weights if level == "coarse" else self.weights
        return np.asarray(weights[0] + scaled_log_count(n)[..., None] * weights[1])

    def to_dict(self) -> dict[str, object]:
        """Return plain values for the provenance."""
        return {
            "source": self.source,
            "experts": list(self.experts),
            "weights_shallow": self.weights[0].round(5).tolist(),
            "weights_slope": self.weights[1].round(5).tolist(),
            "nats_per_count": self.nats,
            "nats_per_count_fleet": self.nats_prior,
            "trust_in_network" if self.experts == EXPERT_NAMES else "trust": self.confidence,
        }


def pool_ratios(
    log_experts: np.ndarray, counts: np.ndarray, layout: SpotPixelMap, weights: PoolWeights, *, level: Level = "fine"
) -> np.ndarray:
    """Pool experts log-linearly.

    Parameters
    ----------
    log_experts
        Log ratios of the experts, shape (E, Q, F).
    counts
        Counts of the spots, shape (N, F), which the weights depend on.
    layout
        Spots and pixels.
    weights
        Weights of the pool.
    level
        The pixels of the layout.

    Returns
    -------
    np.ndarray
        Log ratios, float64, shape (Q, F).
    """
    by_expert = np.moveaxis(weights.at(counts, level=level), -1, 0)[:, layout.parent]  # (E, Q, F)
    return _log_softmax_per_spot(np.einsum("eqf,eqf->qf", by_expert, log_experts), layout)


def average_with_intensity(
    log_pool: np.ndarray, log_intensity: np.ndarray, shift: np.ndarray | None = None
) -> np.ndarray:
    """Average the pool with the intensity field.

    The weights of the pool are calibrated one level coarser than the pixels, for spots that cover the slide, and by a
    network that has learned from slides that end with their field of view. With smaller pixels, in areas between the
    spots that were not measured, and in tissue that continues, the pool is over-confident; the intensity field, which
    models what a spot measures, is not (docs/results/fine_truth.md).

    Parameters
    ----------
    log_pool
        Log ratios of the pool, shape (Q, F).
    log_intensity
        Log intensities, up to a constant for each field, shape (Q, F).
    shift
        Shift of all fields by the totals, from :func:`totals_shift`, shape (Q,); None for no shift.

    Returns
    -------
    np.ndarray
        Log ratios up to a constant in each spot, shape (Q, F).
    """
    average = np.asarray(POOL_SHARE * log_pool + (1 - POOL_SHARE) * log_intensity)
    return average if shift is None else average + shift[:, None]


def totals_shift(log_pool: np.ndarray, log_intensity: np.ndarray) -> np.ndarray:
    """Return what raises the pool's share of the totals from that of the composition to :data:`TOTALS_SHARE`.

    Parameters
    ----------
    log_pool
        Log ratios of the total counts by the pool, shape (Q,).
    log_intensity
        Log intensity of the total counts, up to a constant, shape (Q,).

    Returns
    -------
    np.ndarray
        What is added to the log ratios of every gene, up to a constant in each spot, shape (Q,).
    """
    return np.asarray((TOTALS_SHARE - POOL_SHARE) * (log_pool - log_intensity))


def _log_softmax_per_spot(score: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
    """Return score - log sum exp over the pixels of each spot."""
    peak = np.full((layout.n_spots, score.shape[1]), -np.inf)
    np.maximum.at(peak, layout.parent, score)
    shifted = score - peak[layout.parent]
    total = layout.membership @ np.exp(shifted)
    return shifted - np.log(np.maximum(total, 1e-300))[layout.parent]  # spots without pixels are not looked up
