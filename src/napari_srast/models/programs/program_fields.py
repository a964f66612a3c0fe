"""Maps that the genes of a slide share, those of its programs and of all counts; genes not split one by one take them.

A gene's programs give it r_ig = sum_p a_igp r_ip, with a_igp what each program accounts for in the spot: a mixture of
points on the simplex. It is pooled geometrically with the map of the totals, as the slide coarsened once says
(:func:`napari_srast.calibration.fitting.fit_program_weights`): of a gene with a few counts, where counts lie at all says more
than its programs do.

Shape legend: N spots, G genes, F chosen genes, P programs, Q pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.programs.factorization import Programs, fit_programs, program_panel
from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["LEAST_SHARE", "PER_GENE_LIMIT", "ProgramFields", "fit_program_fields"]

PER_GENE_LIMIT = 512
"""Up to this many genes each is split one by one."""

LEAST_SHARE = 1e-9
"""Of a spot's counts in a pixel, before logarithms."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramFields:
    """The fields whose maps genes share.

    Parameters
    ----------
    programs
        Activity in the spots (N, P) and loading of the genes (P, G).
    fields
        Counts that each program accounts for, and all counts, shape (N, P + 1).
    """

    programs: Programs
    fields: np.ndarray

    @classmethod
    def of(cls, programs: Programs, counts: sparse.csr_matrix) -> ProgramFields:
        """Return the fields of counts (N, G) by given programs."""
        by_program = programs.fields(counts)
        return cls(programs=programs, fields=np.column_stack([by_program, by_program.sum(axis=1)]))

    def log_experts(self, log_ratio: np.ndarray, genes: np.ndarray, layout: SpotPixelMap) -> np.ndarray:
        """Return what programs and totals say of some genes (F,): log ratios, shape (2, Q, F).

        Parameters
        ----------
        log_ratio
            Of the fields, shape (Q, P + 1).
        genes
            Columns of the counts.
        layout
            Spots and pixels.
        """
        ratios, activity = np.exp(log_ratio[:, :-1]), self.programs.activity[layout.parent]
        mixed = (ratios * activity) @ self.programs.loading[:, genes]
        total = (layout.membership @ mixed)[layout.parent]
        even = 1 / layout.n_pixels_of_spot[layout.parent][:, None]
        share = np.where(total > 0, mixed / np.where(total > 0, total, 1), even)
        of_totals = np.broadcast_to(log_ratio[:, -1:], share.shape)
        return np.maximum(np.stack([np.log(np.maximum(share, LEAST_SHARE)), of_totals]), np.log(LEAST_SHARE))


def fit_program_fields(counts: sparse.csr_matrix, pool: SlideEmbedding, *, seed: int = 0) -> ProgramFields:
    """Learn a slide's programs from its counts (N, G) and features.

    A slide coarsened once has programs of its own: the slide's loadings were fitted to the very counts that the check
    asks for, and would look better there than they are.
    """
    denoising = pool.fit_denoising(counts[:, program_panel(counts)])
    programs = fit_programs(counts, lambda spots: denoising.at(pool.surroundings[spots], pool.depth[spots]), seed=seed)
    return ProgramFields.of(programs, counts)
