"""How much of its program mixture each gene gets, checked on the slide coarsened once.

Shape legend: G genes, P programs, Q pixels of the coarse slide (the slide's own spots), E entries with counts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from napari_srast.models.calibration import pool_ratios
from napari_srast.models.programs import Programs, fit_activities, program_panel
from napari_srast.models.slide_model import FEWEST_COUNTS, SlideModel
from napari_srast.splitting.job import Job
from napari_srast.splitting.mixture import Mixture

__all__ = ["program_trust"]

_ENTRIES = 2_000_000  # in work at once
_ROUNDS = 20
_IN_FAVOUR, _OF = 18.0, 20.0  # the prior: counts on the mixture's side, of how many


def program_trust(programs: Programs, model: SlideModel, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Choose for each chosen gene how much of its program mixture to trust against the even split.

    The share is that of a two-component mixture, by expectation maximisation with a prior of 20 counts in favour; where
    the mixture then gains nothing, none is trusted.

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
    owners = np.flatnonzero(layout.n_pixels_of_spot)
    mixture = Mixture(
        layout=layout,
        ratios=np.exp(pool_ratios(log_experts, fields, layout, model.calibration, check=True)),
        activity=coarse.activity[owners],
        loading=np.ascontiguousarray(programs.loading.T[job.columns], dtype=np.float32),
        trust=np.ones(n_genes),
    )
    held = counts[owners][:, job.columns].tocsr()
    held.data[:] = 1.0
    ratio = mixture.split(held)
    truth = slide.truth[:, job.columns].tocsc()
    n_pixels = layout.n_pixels_of_spot[layout.parent]
    trust, skill = np.empty(n_genes), np.empty(n_genes)
    by_gene = _at_entries_of(truth, ratio)
    step = max(1, int(n_genes * _ENTRIES / max(truth.nnz, 1)))
    for start in range(0, n_genes, step):
        job.check_stop()
        block = slice(start, min(start + step, n_genes))
        entries = slice(truth.indptr[block.start], truth.indptr[block.stop])
        gain = np.maximum(by_gene[entries] * n_pixels[truth.indices[entries]], 1e-6)
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


def _at_entries_of(pattern: sparse.csc_matrix, values: sparse.csr_matrix) -> np.ndarray:
    """Return the values at the entries of a pattern, in the pattern's order; 0 where there is none."""
    n_rows = np.int64(pattern.shape[0])
    values = values.tocsc()
    values.sort_indices()
    gene = np.repeat(np.arange(values.shape[1]), np.diff(values.indptr))
    key = gene * n_rows + values.indices
    wanted = np.repeat(np.arange(pattern.shape[1]), np.diff(pattern.indptr)) * n_rows + pattern.indices
    at = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
    return np.where(key[at] == wanted, values.data[at], 0.0) if len(key) else np.zeros(len(wanted))
