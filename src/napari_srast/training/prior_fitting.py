"""How experts fare on studies that no network had seen: the prior of the calibration.

Shape legend: Q pixels, F fields, N spots, E experts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from napari_srast.calibration.experts import log_experts_of
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.prior import CalibrationPriors, LabeledSlide, fit_prior, fit_priors
from napari_srast.calibration.weights import PoolWeights, pool_ratios
from napari_srast.models.pcfm.network import DiT
from napari_srast.training.pseudo_slides import PseudoSlide

__all__ = ["Fold", "check_of", "fit_fold_priors", "shared_check_of"]

Known = Mapping[str, Sequence[LabeledSlide]]
T = TypeVar("T")

_PAIRS = 4000  # of a case; more say the same again


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """A network and the cases of studies that it has not seen."""

    network: DiT
    unseen: Sequence[PseudoSlide]


def check_of(network: DiT, case: PseudoSlide) -> HoldoutPredictions:
    """Return what all experts say of a case's fields, (E, Q, F), beside their truth."""
    return HoldoutPredictions(
        log_experts=log_experts_of(network, case.condition, case.layout),
        counts=case.condition.counts.numpy().astype(np.float64),
        truth=case.truth.numpy().astype(np.float64),
        layout=case.layout,
    )


def shared_check_of(
    network: DiT, case: PseudoSlide, calibration: PoolWeights, *, check: bool = False
) -> HoldoutPredictions | None:
    """Return what the maps that genes share say of a case's genes, beside their truth; None for a small panel.

    Parameters
    ----------
    network, case
        The flow, and the case.
    calibration
        By which programs and totals are pooled.
    check
        Whether the case is a slide coarsened once.
    """
    if case.shared is None:
        return None
    shared, layout, genes = case.shared.fields, case.layout, np.arange(case.n_genes)
    log_experts = log_experts_of(network, case.shared.condition, layout)
    pooled = pool_ratios(log_experts, shared.fields, layout, calibration, check=check)
    return HoldoutPredictions(
        log_experts=shared.log_experts(pooled, genes, layout),
        counts=case.condition.counts.numpy()[:, genes].astype(np.float64),
        truth=case.truth.numpy()[:, genes].astype(np.float64),
        layout=layout,
    )


def fit_fold_priors(folds: Sequence[Fold]) -> tuple[list[CalibrationPriors], CalibrationPriors]:
    """Fit the prior for each fold from the studies of the others, and one from all.

    Returns
    -------
    of_folds, everyone
        A single fold has nobody else's: it gets everyone's, too. Without folds the prior is untried.
    """
    start = CalibrationPriors.untried()
    if not folds:
        return [], start
    of_folds, everyone = _of_others([_known(fold) for fold in folds], lambda known: fit_priors(known, start))
    # Programs and totals are pooled by the other folds' average weights; a user's slide has weights of its own.
    known = [_known_shared(fold, fleet.calibration) for fold, fleet in zip(folds, of_folds, strict=True)]
    shared, shared_by_all = _of_others(known, lambda known: fit_prior(known, start.shared))
    return (
        [replace(fleet, shared=prior) for fleet, prior in zip(of_folds, shared, strict=True)],
        replace(everyone, shared=shared_by_all),
    )


def _of_others(known: Sequence[Known], fit: Callable[[Known], T]) -> tuple[list[T], T]:
    """Fit to the studies of all folds but one, for each fold, and to all studies."""

    def of(folds: Sequence[int]) -> dict[str, Sequence[LabeledSlide]]:
        return {name: slides for i in folds for name, slides in known[i].items()}

    everyone = fit(of(range(len(known))))
    if len(known) == 1:
        return [everyone], everyone
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as threads:
        fits = threads.map(fit, [of([j for j in range(len(known)) if j != i]) for i in range(len(known))])
        return list(fits), everyone


def _known(fold: Fold) -> Known:
    studies: dict[str, list[LabeledSlide]] = {}
    for case in fold.unseen:
        above = [check_of(fold.network, check).likelihood(_PAIRS) for check in case.checks]
        slide = LabeledSlide(own=check_of(fold.network, case).likelihood(_PAIRS), above=above)
        studies.setdefault(case.study, []).append(slide)
    return studies


def _known_shared(fold: Fold, calibration: PoolWeights) -> Known:
    studies: dict[str, list[LabeledSlide]] = {}
    for case in fold.unseen:
        own = shared_check_of(fold.network, case, calibration)
        if own is None:
            continue
        above = [shared_check_of(fold.network, check, calibration, check=True) for check in case.checks]
        slide = LabeledSlide(
            own=own.likelihood(_PAIRS), above=[one.likelihood(_PAIRS) for one in above if one is not None]
        )
        studies.setdefault(case.study, []).append(slide)
    return studies
