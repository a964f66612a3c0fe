"""How far the maps that genes share are believed, overall and for each gene, checked on the slide coarsened once.

Shape legend: G genes, P programs, Q pixels of a coarse slide (the slide's own spots), E entries with counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.calibration.fitting import fit_program_weights
from napari_srast.calibration.holdout import CoarseSlide, LogRatioAdjustment
from napari_srast.calibration.predictions import HoldoutPredictions
from napari_srast.calibration.prior import WeightPrior
from napari_srast.calibration.skill import FEWEST_COUNTS
from napari_srast.calibration.weights import PoolWeights, pool_ratios
from napari_srast.inference.fitted_slide import FittedSlide, calibration_genes
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.program_mixture import ProgramMixture
from napari_srast.models.programs.program_fields import ProgramFields, fit_program_fields
from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["ProgramGate", "fit_program_gate"]

_ENTRIES = 1 << 17  # in work at once, so that they stay in the cache
_LEAST_GAIN = 1e-6  # of a share over the even one, before the logarithm


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramGate:
    """How far the maps that genes share are believed.

    Parameters
    ----------
    calibration
        Weights of programs and totals.
    trust
        1 for a gene that takes them, 0 for one that is split evenly, shape (G,).
    skill
        Nats per count over the even split in the check, shape (G,); NaN where it had too few counts to tell.
    """

    calibration: PoolWeights
    trust: np.ndarray
    skill: np.ndarray


def fit_program_gate(
    model: FittedSlide, job: UpsampleJob, columns: np.ndarray, prior: WeightPrior, refine: LogRatioAdjustment
) -> ProgramGate:
    """Fit the weights of the maps that genes share, and check which genes they serve.

    As for genes that are split one by one, a gene that loses to the even split beyond its standard error over spots is
    split evenly.

    Parameters
    ----------
    model, job
        Of the slide.
    columns
        The genes.
    prior
        The fleet's.
    refine
        Gives the pool what else the method knows.
    """
    told: list[tuple[ProgramFields, np.ndarray]] = []
    checks = []
    genes = calibration_genes(model.coarse[0].counts) if model.coarse else np.zeros(0, dtype=int)
    for number, slide in enumerate(model.coarse):
        job.check_stop()
        # Learned anew from the coarse spots: the slide's own loadings know the counts that are asked for.
        layout, pool = slide.experts.layout, slide.experts.pool
        assert isinstance(pool, SlideEmbedding)
        coarse = fit_program_fields(slide.counts, pool, seed=job.settings.seed)
        _, log_experts = slide.experts.predict(sparse.csr_matrix(coarse.fields), job.should_stop)
        pooled = pool_ratios(log_experts, coarse.fields, layout, model.calibration, check=True)
        pooled = refine(number, pooled, coarse.fields)
        told.append((coarse, pooled))
        checks.append(
            HoldoutPredictions(
                log_experts=coarse.log_experts(pooled, genes, layout),
                counts=slide.counts[:, genes].toarray(),
                truth=slide.truth[:, genes].toarray().astype(np.float64),
                layout=layout,
            )
        )
    calibration = fit_program_weights(checks, prior)
    if not told:
        return ProgramGate(calibration=calibration, trust=np.ones(len(columns)), skill=np.full(len(columns), np.nan))
    gains, masses = [], []
    for slide, (coarse, pooled) in zip(model.coarse, told, strict=True):
        job.check_stop()
        gain, mass = _gain_of_spots(slide, coarse, pooled, columns, calibration)
        gains.append(gain)
        masses.append(mass)
    skill, error = _skill(gains, masses)
    trust = np.where(np.nan_to_num(skill) < -np.nan_to_num(error), 0.0, 1.0)
    return ProgramGate(calibration=calibration, trust=trust, skill=skill)


def _gain_of_spots(
    slide: CoarseSlide, coarse: ProgramFields, pooled: np.ndarray, columns: np.ndarray, calibration: PoolWeights
) -> tuple[sparse.csc_matrix, sparse.csc_matrix]:
    """Return nats gained over the even split, and counts, of each coarse spot and gene, (N', G) each."""
    layout = slide.experts.layout
    owners = np.flatnonzero(layout.n_pixels_of_spot)
    mixture = ProgramMixture(
        layout=layout,
        log_ratio=pooled,
        activity=coarse.programs.activity[owners],
        loading=np.ascontiguousarray(coarse.programs.loading.T[columns], dtype=np.float32),
        weights=calibration.check_weights,
        trust=np.ones(len(columns)),
    )
    truth = slide.truth[:, columns].tocsr()
    truth.sort_indices()
    share = _at_entries_of(truth, mixture.shares(slide.counts[owners][:, columns].tocsr()))
    n_pixels = np.repeat(layout.n_pixels_of_spot[layout.parent], np.diff(truth.indptr))
    nats = (truth.data * np.log(np.maximum(share * n_pixels, _LEAST_GAIN))).astype(np.float32)
    gain = sparse.csr_matrix((nats, truth.indices, truth.indptr), shape=truth.shape)
    add_up = layout.membership[owners].astype(np.float32)
    return sparse.csc_matrix(add_up @ gain), sparse.csc_matrix(add_up @ truth.astype(np.float32))


def _skill(gains: Sequence[sparse.csc_matrix], masses: Sequence[sparse.csc_matrix]) -> tuple[np.ndarray, np.ndarray]:
    """Return nats per count of each gene, and its standard error over spots (ratio estimator), (G,) each.

    Several ways of coarsening show the same spots again: they make the figure steadier, the error is as of one.
    """
    total, gained = (
        np.sum([np.asarray(one.sum(axis=0, dtype=np.float64)).ravel() for one in parts], axis=0)
        for parts in (masses, gains)
    )
    safe = np.maximum(total, 1e-12)
    skill = gained / safe
    scatter = np.zeros(len(total))
    for gain, mass in zip(gains, masses, strict=True):
        scatter += np.asarray((gain - mass @ sparse.diags_array(skill)).power(2).sum(axis=0)).ravel()
    error = np.sqrt(len(gains) * scatter) / safe
    enough = total >= FEWEST_COUNTS * len(gains)
    return np.where(enough, skill, np.nan), np.where(enough, error, np.nan)


def _at_entries_of(pattern: sparse.csr_matrix, values: sparse.csr_matrix) -> np.ndarray:
    """Return the values at the entries of a pattern, in the pattern's order; 0 where there is none."""
    values.sort_indices()
    found = np.zeros(pattern.nnz, dtype=values.dtype)
    n_rows = pattern.shape[0]
    step = max(1, int(n_rows * _ENTRIES / max(values.nnz, 1)))
    for start in range(0, n_rows, step):
        rows = slice(start, min(start + step, n_rows))
        entries, held = _places(values, rows), _places(pattern, rows)
        key, wanted = _keys(values, rows), _keys(pattern, rows)
        if len(key):
            at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
            found[held] = np.where(key[at] == wanted, values.data[entries][at], 0.0)
    return found


def _places(matrix: sparse.csr_matrix, rows: slice) -> slice:
    """Return where the entries of some rows are."""
    return slice(matrix.indptr[rows.start], matrix.indptr[rows.stop])


def _keys(matrix: sparse.csr_matrix, rows: slice) -> np.ndarray:
    """Return a number for each entry of some rows, which says its row and column."""
    row = np.repeat(np.arange(rows.stop - rows.start), np.diff(matrix.indptr[rows.start : rows.stop + 1]))
    return row * np.int64(matrix.shape[1]) + matrix.indices[_places(matrix, rows)]
