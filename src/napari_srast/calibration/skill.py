"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_srast.calibration.holdout import LogRatioAdjustment
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.weights import EXPERT_NAMES, PoolWeights, pool_ratios

__all__ = ["FEWEST_COUNTS", "GeneSkill", "apply_fallback"]

FEWEST_COUNTS = 20
"""A gene with fewer in the check has no skill that could be told from chance."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneSkill:
    """How well genes were split in the check on the coarsened slide.

    Parameters
    ----------
    skill
        Nats per count of the pool over the even split, shape (F,); NaN where the check had under 20 counts.
    error
        Its standard error over spots, shape (F,).
    best
        The best single interpolation for each gene, shape (F,).
    best_skill
        And its nats per count, shape (F,).
    """

    skill: np.ndarray
    error: np.ndarray
    best: np.ndarray
    best_skill: np.ndarray

    @classmethod
    def unknown(cls, n_fields: int) -> GeneSkill:
        """Return the check of a slide that is too small to be coarsened."""
        nothing = np.full(n_fields, np.nan)
        return cls(skill=nothing, error=nothing, best=np.full(n_fields, "uniform", dtype=object), best_skill=nothing)

    @classmethod
    def of(
        cls, checks: Sequence[HoldoutPredictions], calibration: PoolWeights, refine: LogRatioAdjustment | None = None
    ) -> GeneSkill:
        """Score genes on a slide coarsened once, in one way or in several; ``refine`` tells what else is known."""
        pooled = [
            pool_ratios(check.log_experts, check.counts, check.layout, calibration, check=True) for check in checks
        ]
        if refine is not None:
            pooled = [refine(i, told, check.counts) for i, (told, check) in enumerate(zip(pooled, checks, strict=True))]
        skill, error = _skill(pooled, checks)
        skill[sum(check.truth.sum(axis=0) for check in checks) < FEWEST_COUNTS * len(checks)] = np.nan
        singles = np.stack(
            [_skill([check.log_experts[e] for check in checks], checks)[0] for e in range(1, len(EXPERT_NAMES))]
        )
        best = np.argmax(np.nan_to_num(singles, nan=-np.inf), axis=0)
        names = np.array(EXPERT_NAMES[1:], dtype=object)
        return cls(skill=skill, error=error, best=names[best], best_skill=np.take_along_axis(singles, best[None], 0)[0])

    def fall_back(self) -> np.ndarray:
        """Return the method for each gene: the pool, unless it loses to the even split beyond its standard error."""
        lost = np.nan_to_num(self.skill, nan=0.0) < -np.nan_to_num(self.error, nan=0.0)
        other = np.where(np.nan_to_num(self.best_skill, nan=0.0) > 0, self.best, "uniform")
        return np.where(lost, other, "srast")


def apply_fallback(log_ratio: np.ndarray, log_experts: np.ndarray, methods: np.ndarray) -> np.ndarray:
    """Return log ratios (Q, F) with genes (F,) that fell back split by their own method, an expert or even.

    Parameters
    ----------
    log_ratio, log_experts
        Of the pool (Q, F) and of its experts (E, Q, F).
    methods
        As :meth:`GeneSkill.fall_back` says, shape (F,).
    """
    log_ratio = log_ratio.copy()
    for expert, name in enumerate(EXPERT_NAMES):
        chosen = methods == name
        log_ratio[:, chosen] = log_experts[expert][:, chosen]
    log_ratio[:, methods == "uniform"] = 0.0
    return log_ratio


def _skill(log_ratios: Sequence[np.ndarray], checks: Sequence[HoldoutPredictions]) -> tuple[np.ndarray, np.ndarray]:
    """Return nats per count over the even split, and its standard error over spots (ratio estimator), (F,) each.

    Several ways of coarsening show the same spots again: they make the figure steadier, the error is as of one.
    """
    gains, masses = [], []
    for log_ratio, check in zip(log_ratios, checks, strict=True):
        log_k = np.log(check.layout.n_pixels_of_spot[check.layout.parent])[:, None]
        gains.append(check.layout.membership @ (check.truth * (log_ratio + log_k)))
        masses.append(check.layout.membership @ check.truth)
    gain, mass = np.concatenate(gains), np.concatenate(masses)
    total = mass.sum(axis=0)
    safe = np.where(total > 0, total, 1)
    skill = gain.sum(axis=0) / safe
    error = np.sqrt(len(checks) * ((gain - skill * mass) ** 2).sum(axis=0)) / safe
    return np.where(total > 0, skill, np.nan), np.where(total > 0, error, np.nan)
