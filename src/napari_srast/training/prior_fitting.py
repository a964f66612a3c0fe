"""Fit the study-level (empirical-Bayes) prior of the calibration from held-out studies.

Shape legend: Q pixels, F fields, N spots, E experts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from napari_srast._utils.threads import single_threaded_blas
from napari_srast.calibration.experts import log_experts_of
from napari_srast.calibration.pooling import PoolWeights, pool_ratios
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.weight_prior import CalibrationPriors, LabeledSlide, fit_prior, fit_priors
from napari_srast.models.pcfm.network import DiT
from napari_srast.training.pseudo_slides import PseudoSlide

__all__ = ["Fold", "fit_fold_priors", "predict_from_programs", "predict_pseudo_slide"]

LabeledStudies = Mapping[str, Sequence[LabeledSlide]]
T = TypeVar("T")

_MAX_PAIRS = 4000  # pairs of a spot and a field per pseudo-slide; more pairs add no information


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """A network and the pseudo-slides of its held-out studies."""

    network: DiT
    unseen: Sequence[PseudoSlide]


def predict_pseudo_slide(network: DiT, pseudo_slide: PseudoSlide) -> HoldoutPredictions:
    """Predict a pseudo-slide's fields (E, Q, F) by all experts, together with their truth."""
    return HoldoutPredictions(
        log_experts=log_experts_of(network, pseudo_slide.inputs, pseudo_slide.layout),
        counts=pseudo_slide.inputs.counts.numpy().astype(np.float64),
        truth=pseudo_slide.truth.numpy().astype(np.float64),
        layout=pseudo_slide.layout,
    )


def predict_from_programs(
    network: DiT, pseudo_slide: PseudoSlide, calibration: PoolWeights, *, coarsened: bool = False
) -> HoldoutPredictions | None:
    """Predict a pseudo-slide's genes from the maps of gene programs and total counts.

    Parameters
    ----------
    network
        The flow.
    pseudo_slide
        The pseudo-slide.
    calibration
        Weights by which the experts' maps of programs and totals are pooled.
    coarsened
        Whether the pseudo-slide is one coarsened once more, where the weights of the coarse level apply.

    Returns
    -------
    HoldoutPredictions or None
        None if the panel is small, so that there are no programs.
    """
    if pseudo_slide.programs is None:
        return None
    programs, layout, genes = pseudo_slide.programs.fields, pseudo_slide.layout, np.arange(pseudo_slide.n_genes)
    log_experts = log_experts_of(network, pseudo_slide.programs.inputs, layout)
    pooled = pool_ratios(log_experts, programs.fields, layout, calibration, level="coarse" if coarsened else "fine")
    return HoldoutPredictions(
        log_experts=programs.expert_log_ratios(pooled, genes, layout),
        counts=pseudo_slide.inputs.counts.numpy()[:, genes].astype(np.float64),
        truth=pseudo_slide.truth.numpy()[:, genes].astype(np.float64),
        layout=layout,
    )


def fit_fold_priors(folds: Sequence[Fold]) -> tuple[list[CalibrationPriors], CalibrationPriors]:
    """Fit one prior for each fold from the studies of the other folds, and one from all studies.

    Parameters
    ----------
    folds
        Networks with their held-out pseudo-slides.

    Returns
    -------
    fold_priors, prior
        A single fold gets the prior of all studies, too. Without folds, ``prior`` is the uninformed start.
    """
    start = CalibrationPriors.uninformed()
    if not folds:
        return [], start
    labeled = [_label_genes(fold) for fold in folds]
    fold_priors, prior = _fit_leave_one_fold_out(labeled, lambda studies: fit_priors(studies, start))
    # Programs and totals are pooled by the mean weights of the other folds; a user's slide has its own weights.
    labeled = [_label_programs(fold, one.mean_weights) for fold, one in zip(folds, fold_priors, strict=True)]
    program_priors, program_prior = _fit_leave_one_fold_out(labeled, lambda studies: fit_prior(studies, start.programs))
    return (
        [replace(one, programs=program) for one, program in zip(fold_priors, program_priors, strict=True)],
        replace(prior, programs=program_prior),
    )


def _fit_leave_one_fold_out(labeled: Sequence[LabeledStudies], fit: Callable[[LabeledStudies], T]) -> tuple[list[T], T]:
    """Fit to the studies of all folds but one, for each fold, and to all studies."""

    def studies_of(folds: Sequence[int]) -> dict[str, Sequence[LabeledSlide]]:
        return {name: slides for i in folds for name, slides in labeled[i].items()}

    fit_of_all = fit(studies_of(range(len(labeled))))
    if len(labeled) == 1:
        return [fit_of_all], fit_of_all
    others = [studies_of([j for j in range(len(labeled)) if j != i]) for i in range(len(labeled))]
    with single_threaded_blas(), ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(fit, others)), fit_of_all


def _label_genes(fold: Fold) -> LabeledStudies:
    """Return the likelihoods of expert weights on a fold's pseudo-slides, by study."""
    studies: dict[str, list[LabeledSlide]] = {}
    for pseudo_slide in fold.unseen:
        above = [predict_pseudo_slide(fold.network, one).likelihood(_MAX_PAIRS) for one in pseudo_slide.coarsened]
        slide = LabeledSlide(fine=predict_pseudo_slide(fold.network, pseudo_slide).likelihood(_MAX_PAIRS), coarse=above)
        studies.setdefault(pseudo_slide.study, []).append(slide)
    return studies


def _label_programs(fold: Fold, calibration: PoolWeights) -> LabeledStudies:
    """Return the likelihoods of program weights on a fold's pseudo-slides with large panels, by study."""
    studies: dict[str, list[LabeledSlide]] = {}
    for pseudo_slide in fold.unseen:
        predictions = predict_from_programs(fold.network, pseudo_slide, calibration)
        if predictions is None:
            continue
        coarsened = [
            predict_from_programs(fold.network, one, calibration, coarsened=True) for one in pseudo_slide.coarsened
        ]
        slide = LabeledSlide(
            fine=predictions.likelihood(_MAX_PAIRS),
            coarse=[one.likelihood(_MAX_PAIRS) for one in coarsened if one is not None],
        )
        studies.setdefault(pseudo_slide.study, []).append(slide)
    return studies
