"""Procedural tissues: training data without limits or licenses, made of nothing measured.

``anatomy`` paints domains and motifs, ``cells`` fills them, ``expression`` gives each cell its genes, ``capture`` turns
cells into what a platform would see. The result is as fine as a high-resolution slide and is re-binned like one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from napari_srast.simulation.tissues.capture import lay_capture, sample_counts
from napari_srast.simulation.tissues.cells import grow_cells
from napari_srast.simulation.tissues.expression import draw_expression
from napari_srast.simulation.tissues.fields import log_uniform
from napari_srast.simulation.tissues.settings import PLATFORMS, TissueSettings

__all__ = ["Tissue", "TissueDescription", "TissueSettings", "make_tissue"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TissueDescription:
    """What a procedural tissue is made of; ``str`` says it in words.

    Parameters
    ----------
    plan
        Basic plan of the domains.
    motifs
        What was laid over it.
    platform
        "cells", "beads" or "bins".
    spacing_um
        Distance of neighboring cells where they lie densest.
    cell_places
        The cells, also those that no observation stands for, shape (n, 2), micrometers.
    cell_types, cell_domains
        Type and domain of each cell, (n,).
    n_types, n_genes, n_observations
        Sizes.
    counts_per_observation
        Mean total counts.
    """

    plan: str
    motifs: tuple[str, ...]
    platform: str
    spacing_um: float
    cell_places: np.ndarray
    cell_types: np.ndarray
    cell_domains: np.ndarray
    n_types: int
    n_genes: int
    n_observations: int
    counts_per_observation: float

    def __str__(self) -> str:
        painted = ", ".join((self.plan, *self.motifs))
        return (
            f"{painted}; {self.n_observations} {self.platform} x {self.n_genes} genes, {self.n_types} types, "
            f"{self.counts_per_observation:.3g} counts each"
        )


class Tissue(NamedTuple):
    """A procedural high-resolution slide.

    Attributes
    ----------
    points
        Observations in micrometers, shape (n, 2).
    counts
        Whole counts, float32 CSR (n, G).
    description
        What it is made of.
    """

    points: np.ndarray
    counts: sparse.csr_matrix
    description: TissueDescription


def make_tissue(seed: int, settings: TissueSettings | None = None) -> Tissue:
    """Make a tissue up, as fine as a high-resolution slide.

    Parameters
    ----------
    seed
        The same seed and settings give the same tissue.
    settings
        Ranges to draw from.

    Examples
    --------
    >>> points, counts, description = make_tissue(0, TissueSettings(cells=(400, 400), panel=(20, 20)))
    >>> points.shape[0] == counts.shape[0], counts.shape[1]
    (True, 20)
    """
    settings = settings or TissueSettings()
    rng = np.random.default_rng([seed, 0x715573])  # apart from whatever else is seeded with the same number
    wide = rng.random() < settings.wide_share
    n_genes = round(log_uniform(rng, *(settings.wide_panel if wide else settings.panel)))
    n_cells = round(log_uniform(rng, *settings.cells))
    n_cells = max(min(n_cells, settings.entries // n_genes), min(settings.cells[0], n_cells))
    n_types = round(log_uniform(rng, *settings.types))
    cells = grow_cells(rng, n_cells, n_types, settings)
    platform = str(rng.choice(PLATFORMS, p=np.array(settings.platforms) / sum(settings.platforms)))
    capture = lay_capture(rng, cells, platform)
    total = _depth(rng, n_genes, settings) * len(capture.places) / len(cells.places)
    counts = sample_counts(rng, draw_expression(rng, cells, n_types, n_genes, total, settings), capture)
    seen = np.diff(counts.indptr) > 0
    points, counts = capture.places[seen], counts[seen]
    description = TissueDescription(
        plan=cells.plan,
        motifs=cells.motifs,
        platform=platform,
        spacing_um=cells.spacing_um,
        cell_places=cells.places,
        cell_types=cells.types,
        cell_domains=cells.domains,
        n_types=n_types,
        n_genes=n_genes,
        n_observations=len(points),
        counts_per_observation=float(counts.sum() / max(len(points), 1)),
    )
    return Tissue(points, counts, description)


def _depth(rng: np.random.Generator, n_genes: int, settings: TissueSettings) -> float:
    """Draw an observation's mean total: within both ranges where they meet, else as near as they come."""
    least, most = settings.counts_per_observation
    low, high = (float(np.clip(n_genes * depth, least, most)) for depth in settings.counts_per_gene)
    return log_uniform(rng, min(low, max(high / 10, least)), high)
