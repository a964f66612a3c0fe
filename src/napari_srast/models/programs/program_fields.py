"""Build the fields of a large panel that the flow splits, and mix their maps into the maps of genes.

The fields are the counts attributed to each program, and the total counts. The programs give a gene the ratios
``m_g = sum_p a_igp r_p``, with ``a_igp`` the fraction of the gene's counts in spot i that program p explains: a convex
combination on the simplex. These are combined with the ratios of the totals in a log-linear pool, whose weights
:func:`napari_srast.calibration.weight_fitting.fit_program_weights` fits on the coarsened slide: for low-count genes the
map of the totals is more informative than the programs. Programs are this project's choice (docs/method.md).

Shape legend: N spots, G genes, F selected genes, P programs, Q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast._utils.row_blocks import spread_sample
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.programs.factorization import ProgramFactorization, fit_programs, select_variable_genes
from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["MIN_RATIO", "ProgramFields", "fit_program_fields", "leading_fields"]

MIN_RATIO = 1e-9
"""Lower limit of ratios before the logarithm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramFields:
    """Hold the programs of a slide and the fields that the flow splits for them.

    Parameters
    ----------
    programs
        Factorization of the slide's counts.
    fields
        Counts attributed to each program, and total counts in the last column, shape (N, P + 1).
    """

    programs: ProgramFactorization
    fields: np.ndarray

    @classmethod
    def from_programs(cls, programs: ProgramFactorization, counts: sparse.csr_matrix) -> ProgramFields:
        """Attribute counts (N, G) to programs and append the totals."""
        by_program = programs.attribute_counts(counts)
        return cls(programs=programs, fields=np.column_stack([by_program, by_program.sum(axis=1)]))

    def expert_log_ratios(self, log_ratio: np.ndarray, genes: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Compute the log ratios that programs and totals predict for some genes.

        Parameters
        ----------
        log_ratio
            Log ratios of the fields, shape (Q, P + 1).
        genes
            Column indices of the genes, shape (F,).
        layout
            Spots and pixels.

        Returns
        -------
        np.ndarray
            Log ratios by programs and by totals, at least ``log(MIN_RATIO)``, shape (2, Q, F). A gene that no program
            explains gets a uniform split by programs.
        """
        ratios, activity = np.exp(log_ratio[:, :-1]), self.programs.activity[layout.parent]
        mixed = (ratios * activity) @ self.programs.loading[:, genes]
        total = (layout.membership @ mixed)[layout.parent]
        uniform = 1 / layout.n_pixels_per_spot[layout.parent][:, None]
        by_programs = np.where(total > 0, mixed / np.where(total > 0, total, 1), uniform)
        log_by_totals = np.broadcast_to(log_ratio[:, -1:], by_programs.shape)
        return np.maximum(np.stack([np.log(np.maximum(by_programs, MIN_RATIO)), log_by_totals]), np.log(MIN_RATIO))


def leading_fields(fields: np.ndarray, share: float) -> np.ndarray:
    """Return which fields hold most of the counts of each spot: the largest programs, and the totals.

    Parameters
    ----------
    fields
        Counts attributed to each program, and total counts in the last column, shape (N, P + 1).
    share
        Fraction of the counts of a spot that its largest programs hold at least.

    Returns
    -------
    np.ndarray
        Bool, shape (N, P + 1).
    """
    by_program = fields[:, :-1]
    order = np.argsort(-by_program, axis=1, kind="stable")
    ranked = np.take_along_axis(by_program, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    leading = np.ones(fields.shape, dtype=bool)
    np.put_along_axis(leading[:, :-1], order, before < share * fields[:, -1:], axis=1)
    return leading


def fit_program_fields(counts: sparse.csr_matrix, embedding: SlideEmbedding, *, seed: int = 0) -> ProgramFields:
    """Fit the programs of a slide and build their fields.

    A coarsened slide needs its own programs: the loadings of the original slide were fitted to the counts that the
    coarsened slide is validated against, so its predictions would look better than they are.

    Parameters
    ----------
    counts
        Raw counts, shape (N, G).
    embedding
        Embedding of the same slide.
    seed
        Seed of the factorization.
    """
    panel = select_variable_genes(counts)
    sample = spread_sample(counts.shape[0])  # of a large slide: the coefficients of a regression need no more
    sampled = counts if len(sample) == counts.shape[0] else counts[sample]
    denoiser = embedding.fit_denoiser(sampled[:, panel], sample)
    programs = fit_programs(
        counts,
        lambda spots: denoiser.denoise(embedding.neighborhood_mean[spots], embedding.size_factor[spots]),
        seed=seed,
    )
    return ProgramFields.from_programs(programs, counts)
