"""How much of its program mixture each gene gets, checked on the slide coarsened once.

Shape legend: G genes, P programs, Q pixels of the coarse slide (the slide's own spots), E entries with counts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from napari_srast.models.calibration import pool_ratios
from napari_srast.models.programs import Programs, fit_activities, program_panel
from napari_srast.models.slide_model import FEWEST_COUNTS, Refine, SlideModel
from napari_srast.splitting.job import Job
from napari_srast.splitting.mixture import Mixture

__all__ = ["program_trust"]

_ENTRIES = 1 << 17  # in work at once, so that they stay in the cache
_ROUNDS = 20
_IN_FAVOUR, _OF = 18.0, 20.0  # the prior: counts on the mixture's side, of how many


def program_trust(programs: Programs, model: SlideModel, job: Job, refine: Refine) -> tuple[np.ndarray, np.ndarray]:
    """Choose for each chosen gene how much of its program mixture to trust against the even split.

    The share is that of a two-component mixture, by expectation maximisation with a prior of 20 counts in favour; where
    the mixture then gains nothing, none is trusted. ``refine`` gives the pool what else the method knows.

    Returns
    -------
    trust, skill
        Shape (G,) each; skill in nats per count, NaN where the slide is too small to tell.
    """
    n_genes = len(job.columns)
    if not model.coarse:
        return np.ones(n_genes), np.full(n_genes, np.nan)
    slide = model.coarse[0]
    layout, counts = slide.experts.layout, slide.counts
    # The coarse spots' activities: the sums of those of their pixels are not at hand for spots left out of the coarse
    # slide, so they are fitted again with the slide's own loadings.
    panel = program_panel(counts)
    coarse = replace(programs, activity=fit_activities(counts[:, panel], programs.loading[:, panel]))
    fields = coarse.fields(counts)
    _, log_experts = slide.experts.predict(sparse.csr_matrix(fields), job.should_stop)
    pooled = refine(0, pool_ratios(log_experts, fields, layout, model.calibration, check=True), fields)
    owners = np.flatnonzero(layout.n_pixels_of_spot)
    mixture = Mixture(
        layout=layout,
        ratios=np.exp(pooled),
        activity=coarse.activity[owners],
        loading=np.ascontiguousarray(programs.loading.T[job.columns], dtype=np.float32),
        trust=np.ones(n_genes),
    )
    held = counts[owners][:, job.columns].tocsr()
    held.data[:] = 1.0
    by_pixel = slide.truth[:, job.columns].tocsr()
    ratio = sparse.csr_matrix(
        (_at_entries_of(by_pixel, mixture.split(held)), by_pixel.indices, by_pixel.indptr), shape=by_pixel.shape
    ).tocsc()
    truth = by_pixel.tocsc()  # the same entries in the same order
    n_pixels = layout.n_pixels_of_spot[layout.parent]
    trust, skill = np.empty(n_genes), np.empty(n_genes)
    step = max(1, int(n_genes * _ENTRIES / max(truth.nnz, 1)))
    for start in range(0, n_genes, step):
        job.check_stop()
        block = slice(start, min(start + step, n_genes))
        entries = slice(truth.indptr[block.start], truth.indptr[block.stop])
        gain = np.maximum(ratio.data[entries] * n_pixels[truth.indices[entries]], 1e-6)
        gene = np.repeat(np.arange(block.stop - start), np.diff(truth.indptr[start : block.stop + 1]))
        trust[block], skill[block] = _trust(truth.data[entries].astype(np.float64), gain, gene, block.stop - start)
    return trust, skill


def _trust(truth: np.ndarray, gain: np.ndarray, gene: np.ndarray, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return trust and skill (G,) from the counts (E,) of entries, their gains over even (E,) and their genes (E,)."""

    def add_up(values: np.ndarray) -> np.ndarray:
        return np.bincount(gene, weights=values, minlength=n_genes)

    share, total = np.full(n_genes, 0.8), add_up(truth)
    for _ in range(_ROUNDS):
        trusted = share[gene] * gain
        share = (add_up(truth * (trusted / (trusted + 1 - share[gene]))) + _IN_FAVOUR) / (total + _OF)
    nats = add_up(truth * np.log(share[gene] * gain + 1 - share[gene])) / np.maximum(total, 1e-12)
    trust = np.where((total > 0) & (nats <= 0), 0.0, share)
    return trust, np.where(total >= FEWEST_COUNTS, nats, np.nan)


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
