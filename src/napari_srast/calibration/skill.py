"""Score how well genes are predicted on the coarsened slide, and choose a method for each.

Shape legend: N spots, Q pixels, F fields, E experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.calibration.holdout import LogRatioAdjustment
from napari_srast.calibration.pooling import EXPERT_NAMES, PoolWeights, pool_ratios
from napari_srast.calibration.predictions import HoldoutPredictions

__all__ = ["MIN_COUNTS", "GeneSkill", "apply_fallback", "skill_with_error"]

MIN_COUNTS = 20
"""Counts on the coarsened slide below which a gene has no skill that could be distinguished from chance."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneSkill:
    """Skill of genes on the coarsened slide.

    Parameters
    ----------
    skill
        Nats per count of the pool over the uniform split, shape (F,); NaN for genes with fewer than
        :data:`MIN_COUNTS` counts.
    error
        Standard error of the skill over spots, shape (F,).
    best
        Name of the best single interpolation of each gene, shape (F,).
    best_skill
        Nats per count of that interpolation over the uniform split, shape (F,).
    gain
        Nats per count of the pool over that interpolation, shape (F,); NaN where the skill is.
    gain_error
        Standard error of the gain over spots, shape (F,).
    """

    skill: np.ndarray
    error: np.ndarray
    best: np.ndarray
    best_skill: np.ndarray
    gain: np.ndarray
    gain_error: np.ndarray

    @classmethod
    def unknown(cls, n_fields: int) -> GeneSkill:
        """Return the skill of genes on a slide that is too small to be coarsened."""
        missing = np.full(n_fields, np.nan)
        best = np.full(n_fields, "uniform", dtype=object)
        return cls(skill=missing, error=missing, best=best, best_skill=missing, gain=missing, gain_error=missing)

    @classmethod
    def from_predictions(
        cls,
        predictions: Sequence[HoldoutPredictions],
        weights: PoolWeights,
        adjust: LogRatioAdjustment | None = None,
    ) -> GeneSkill:
        """Score genes.

        Parameters
        ----------
        predictions
            Predictions on the coarsened slide, one for each variant in which it was coarsened.
        weights
            Weights of the pool.
        adjust
            Adds other evidence to the pool's log ratios. Default: none.
        """
        pooled = [pool_ratios(one.log_experts, one.counts, one.layout, weights, level="coarse") for one in predictions]
        if adjust is not None:
            pooled = [
                adjust(i, log_ratio, one.counts)
                for i, (log_ratio, one) in enumerate(zip(pooled, predictions, strict=True))
            ]
        skill, error = _skill_of(pooled, predictions)
        skill[sum(one.truth.sum(axis=0) for one in predictions) < MIN_COUNTS * len(predictions)] = np.nan
        singles = np.stack(
            [
                _skill_of([one.log_experts[e] for one in predictions], predictions)[0]
                for e in range(1, len(EXPERT_NAMES))
            ]
        )
        best = np.argmax(np.nan_to_num(singles, nan=-np.inf), axis=0)
        names = np.array(EXPERT_NAMES[1:], dtype=object)
        gain, gain_error = _gain_of(pooled, predictions, 1 + best)
        return cls(
            skill=skill,
            error=error,
            best=names[best],
            best_skill=np.take_along_axis(singles, best[None], 0)[0],
            gain=np.where(np.isnan(skill), np.nan, gain),
            gain_error=np.where(np.isnan(skill), np.nan, gain_error),
        )

    def describe_gain(self, genes: Sequence[str] | np.ndarray) -> dict[str, list[float]]:
        """Return the gain over the best interpolation and its standard error of the genes (F,) where they are known."""
        known = np.flatnonzero(np.isfinite(self.gain))
        return {str(genes[int(i)]): [round(float(self.gain[i]), 5), round(float(self.gain_error[i]), 5)] for i in known}

    def fallback_methods(self) -> np.ndarray:
        """Return the method of each gene: the pool, unless its skill is negative by more than its standard error.

        Such a gene falls back to its best interpolation, or to the uniform split if that has no positive skill.
        """
        is_worse = np.nan_to_num(self.skill, nan=0.0) < -np.nan_to_num(self.error, nan=0.0)
        fallback = np.where(np.nan_to_num(self.best_skill, nan=0.0) > 0, self.best, "uniform")
        return np.where(is_worse, fallback, "srast")


def apply_fallback(log_ratio: np.ndarray, log_experts: np.ndarray, methods: np.ndarray) -> np.ndarray:
    """Replace the log ratios of genes that fell back by those of their method.

    Parameters
    ----------
    log_ratio, log_experts
        Log ratios of the pool, shape (Q, F), and of its experts, shape (E, Q, F).
    methods
        Method of each gene, from :meth:`GeneSkill.fallback_methods`, shape (F,).

    Returns
    -------
    np.ndarray
        Log ratios, shape (Q, F).
    """
    log_ratio = log_ratio.copy()
    for expert, name in enumerate(EXPERT_NAMES):
        chosen = methods == name
        log_ratio[:, chosen] = log_experts[expert][:, chosen]
    log_ratio[:, methods == "uniform"] = 0.0
    return log_ratio


def skill_with_error(
    gains: Sequence[np.ndarray] | Sequence[sparse.csc_matrix],
    counts: Sequence[np.ndarray] | Sequence[sparse.csc_matrix],
) -> tuple[np.ndarray, np.ndarray]:
    """Return a ratio estimate of nats per count, and its standard error over spots.

    Parameters
    ----------
    gains
        Nats that each spot gained, shape (N,) or (N, F), one array or sparse matrix for each variant in which the slide
        was coarsened.
    counts
        Counts of each spot, same shapes.

    Returns
    -------
    skill, error
        Sum of the gains over the sum of the counts, and its standard error, shape () or (F,); NaN without counts. The
        variants have the same spots, so they stabilize the estimate without reducing its standard error.
    """
    total, gained = _column_sums(counts), _column_sums(gains)
    divisor = np.where(total > 0, total, 1)
    skill = gained / divisor
    residuals = [
        (gain - n @ sparse.diags_array(skill)).power(2) if sparse.issparse(gain) else (gain - skill * n) ** 2
        for gain, n in zip(gains, counts, strict=True)
    ]
    error = np.sqrt(len(gains) * _column_sums(residuals)) / divisor
    return np.where(total > 0, skill, np.nan), np.where(total > 0, error, np.nan)


def _column_sums(parts: Sequence[np.ndarray] | Sequence[sparse.csc_matrix]) -> np.ndarray:
    """Sum the rows of all parts in float64."""
    if sparse.issparse(parts[0]):
        return np.sum([np.asarray(part.sum(axis=0, dtype=np.float64)).ravel() for part in parts], axis=0)
    return np.asarray(np.concatenate(parts).sum(axis=0))


def _skill_of(
    log_ratios: Sequence[np.ndarray], predictions: Sequence[HoldoutPredictions]
) -> tuple[np.ndarray, np.ndarray]:
    """Return nats per count of log ratios (Q, F) over the uniform split, and their standard error, (F,) each."""
    gains, counts = [], []
    for log_ratio, one in zip(log_ratios, predictions, strict=True):
        log_k = np.log(one.layout.n_pixels_per_spot[one.layout.parent])[:, None]
        gains.append(one.layout.membership @ (one.truth * (log_ratio + log_k)))
        counts.append(one.layout.membership @ one.truth)
    return skill_with_error(gains, counts)


def _gain_of(
    log_ratios: Sequence[np.ndarray], predictions: Sequence[HoldoutPredictions], best: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return nats per count of log ratios (Q, F) over the experts ``best`` (F,), and their error, shape (F,) each."""
    fields = np.arange(len(best))
    gains, counts = [], []
    for log_ratio, one in zip(log_ratios, predictions, strict=True):
        reference = np.asarray(one.log_experts)[best, :, fields].T
        gains.append(one.layout.membership @ (one.truth * (log_ratio - reference)))
        counts.append(one.layout.membership @ one.truth)
    return skill_with_error(gains, counts)
