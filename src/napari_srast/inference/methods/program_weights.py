"""Calibrate the prediction of genes from shared maps, overall and for each gene, on the coarsened slide.

Shape legend: G genes, N' coarse spots, Q' their pixels (spots of the slide), E entries with counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.calibration.holdout import CoarseSlide, LogRatioAdjustment
from napari_srast.calibration.pooling import PoolWeights, pool_ratios
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.skill import MIN_COUNTS, skill_with_error
from napari_srast.calibration.weight_fitting import fit_program_weights
from napari_srast.calibration.weight_prior import WeightPrior
from napari_srast.inference.fitted_slide import FittedSlide, calibration_genes
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.program_mixture import ProgramMixture
from napari_srast.models.programs.program_fields import ProgramFields, fit_program_fields
from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["ProgramGate", "fit_program_gate"]

_ENTRIES_PER_BATCH = 1 << 17  # few enough to stay in the cache
_MIN_RATIO_OVER_UNIFORM = 1e-6  # before the logarithm


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramGate:
    """Weights of shared maps, and which genes use them.

    Parameters
    ----------
    weights
        Weights of programs and totals.
    gate
        1 for a gene that uses the shared maps, 0 for a gene that gets the uniform split, shape (G,).
    skill
        Nats per count over the uniform split on the coarsened slide, shape (G,); NaN for genes with too few counts.
    """

    weights: PoolWeights
    gate: np.ndarray
    skill: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class _CoarseFields:
    """Programs that are fitted to a coarsened slide, and the pooled log ratios of their fields (Q', P + 1)."""

    slide: CoarseSlide
    fields: ProgramFields
    log_ratio: np.ndarray


def fit_program_gate(
    fitted: FittedSlide, job: UpsampleJob, columns: np.ndarray, prior: WeightPrior, adjust: LogRatioAdjustment
) -> ProgramGate:
    """Fit the weights of shared maps, and decide which genes use them.

    As for genes that go through the flow one by one, a gene gets the uniform split if its skill is negative by more
    than its standard error over spots.

    Parameters
    ----------
    fitted, job
        The fitted slide and its job.
    columns
        The genes, as columns of the slide's counts, shape (G,).
    prior
        Prior of the weights.
    adjust
        Adds other evidence to the pool's log ratios.
    """
    genes = calibration_genes(fitted.coarse[0].counts) if fitted.coarse else np.zeros(0, dtype=int)
    coarse = [_fit_coarse_fields(fitted, number, job, adjust) for number in range(len(fitted.coarse))]
    weights = fit_program_weights([_predict(one, genes) for one in coarse], prior)
    if not coarse:
        return ProgramGate(weights=weights, gate=np.ones(len(columns)), skill=np.full(len(columns), np.nan))
    gains, counts = [], []
    for one in coarse:
        job.monitor.check_canceled()
        gain, n = _gain_of_spots(one, columns, weights)
        gains.append(gain)
        counts.append(n)
    skill, error = _gene_skill(gains, counts)
    gate = np.where(np.nan_to_num(skill) < -np.nan_to_num(error), 0.0, 1.0)
    return ProgramGate(weights=weights, gate=gate, skill=skill)


def _fit_coarse_fields(fitted: FittedSlide, number: int, job: UpsampleJob, adjust: LogRatioAdjustment) -> _CoarseFields:
    """Fit programs to a coarsened slide alone (the slide's own loadings depend on the held-out counts)."""
    job.monitor.check_canceled()
    slide = fitted.coarse[number]
    layout, embedding = slide.experts.layout, slide.experts.embedding
    assert isinstance(embedding, SlideEmbedding)
    fields = fit_program_fields(slide.counts, embedding, seed=job.settings.seed)
    _, log_experts = slide.experts.predict(sparse.csr_matrix(fields.fields), job.monitor)
    pooled = pool_ratios(log_experts, fields.fields, layout, fitted.weights, level="coarse")
    return _CoarseFields(slide=slide, fields=fields, log_ratio=adjust(number, pooled, fields.fields))


def _predict(coarse: _CoarseFields, genes: np.ndarray) -> HoldoutPredictions:
    """Return what programs and totals predict for some genes."""
    slide, layout = coarse.slide, coarse.slide.experts.layout
    return HoldoutPredictions(
        log_experts=coarse.fields.expert_log_ratios(coarse.log_ratio, genes, layout),
        counts=slide.counts[:, genes].toarray(),
        truth=slide.truth[:, genes].toarray().astype(np.float64),
        layout=layout,
    )


def _gain_of_spots(
    coarse: _CoarseFields, columns: np.ndarray, weights: PoolWeights
) -> tuple[sparse.csc_matrix, sparse.csc_matrix]:
    """Return the nats over the uniform split, and the counts, of each coarse spot and gene, (N', G) each."""
    slide, layout, programs = coarse.slide, coarse.slide.experts.layout, coarse.fields.programs
    owners = np.flatnonzero(layout.n_pixels_per_spot)
    mixture = ProgramMixture(
        layout=layout,
        log_ratio=coarse.log_ratio,
        activity=programs.activity[owners],
        loading=np.ascontiguousarray(programs.loading.T[columns], dtype=np.float32),
        weights=weights.coarse_weights,
        gate=np.ones(len(columns)),
    )
    truth = slide.truth[:, columns].tocsr()
    truth.sort_indices()
    share = _at_entries_of(truth, mixture.shares(slide.counts[owners][:, columns].tocsr()))
    n_pixels = np.repeat(layout.n_pixels_per_spot[layout.parent], np.diff(truth.indptr))
    nats = (truth.data * np.log(np.maximum(share * n_pixels, _MIN_RATIO_OVER_UNIFORM))).astype(np.float32)
    gain = sparse.csr_matrix((nats, truth.indices, truth.indptr), shape=truth.shape)
    membership = layout.membership[owners].astype(np.float32)
    return sparse.csc_matrix(membership @ gain), sparse.csc_matrix(membership @ truth.astype(np.float32))


def _gene_skill(gains: list[sparse.csc_matrix], counts: list[sparse.csc_matrix]) -> tuple[np.ndarray, np.ndarray]:
    """Return nats per count of each gene, and its standard error, (G,) each; NaN for genes with too few counts."""
    skill, error = skill_with_error(gains, counts)
    total = np.sum([np.asarray(n.sum(axis=0, dtype=np.float64)).ravel() for n in counts], axis=0)
    is_known = total >= MIN_COUNTS * len(counts)
    return np.where(is_known, skill, np.nan), np.where(is_known, error, np.nan)


def _at_entries_of(pattern: sparse.csr_matrix, values: sparse.csr_matrix) -> np.ndarray:
    """Return the values at the entries of a pattern, in the order of its entries, (E,); 0 where there is no value."""
    values.sort_indices()
    result = np.zeros(pattern.nnz, dtype=values.dtype)
    n_rows = pattern.shape[0]
    step = max(1, int(n_rows * _ENTRIES_PER_BATCH / max(values.nnz, 1)))
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        key, pattern_key = _entry_keys(values, rows), _entry_keys(pattern, rows)
        if len(key):
            index = np.minimum(np.searchsorted(key, pattern_key), len(key) - 1)
            data = values.data[_entries(values, rows)]
            result[_entries(pattern, rows)] = np.where(key[index] == pattern_key, data[index], 0.0)
    return result


def _entries(matrix: sparse.csr_matrix, rows: slice) -> slice:
    """Return the entries of some rows."""
    return slice(matrix.indptr[rows.start], matrix.indptr[rows.stop])


def _entry_keys(matrix: sparse.csr_matrix, rows: slice) -> np.ndarray:
    """Return a number for each entry of some rows that identifies its row and column, in ascending order."""
    row = np.repeat(np.arange(rows.stop - rows.start), np.diff(matrix.indptr[rows.start : rows.stop + 1]))
    return row * np.int64(matrix.shape[1]) + matrix.indices[_entries(matrix, rows)]
