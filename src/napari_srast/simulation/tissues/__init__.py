"""Generate procedural tissues: unlimited, license-free training data that are not derived from measurements.

``anatomy`` generates domains and motifs, ``cells`` fills them with cells, ``expression`` draws the expected counts of
each cell, and ``capture`` simulates the observations of a platform. The result has the resolution of a high-resolution
slide, and is binned like one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from napari_srast.simulation.tissues.capture import generate_capture, sample_counts
from napari_srast.simulation.tissues.cells import generate_cells
from napari_srast.simulation.tissues.expression import draw_expression
from napari_srast.simulation.tissues.fields import log_uniform
from napari_srast.simulation.tissues.settings import PLATFORMS, TissueSettings

__all__ = ["Tissue", "TissueDescription", "TissueSettings", "make_tissue"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TissueDescription:
    """Composition of a procedural tissue; ``str`` returns a short summary.

    Parameters
    ----------
    plan
        Name of the basic plan of the domains.
    motifs
        Names of the motifs on top of it.
    platform
        "cells", "beads" or "bins".
    spacing_um
        Distance between neighboring cells at the highest density, in micrometers.
    cell_positions
        Centers (x, y) of all cells, with or without an observation, in micrometers, shape (n, 2).
    cell_types, cell_domains
        Type and domain of each cell, shape (n,).
    n_types, n_genes, n_observations
        Number of cell types, genes and observations.
    counts_per_observation
        Mean total counts of an observation.
    """

    plan: str
    motifs: tuple[str, ...]
    platform: str
    spacing_um: float
    cell_positions: np.ndarray
    cell_types: np.ndarray
    cell_domains: np.ndarray
    n_types: int
    n_genes: int
    n_observations: int
    counts_per_observation: float

    def __str__(self) -> str:
        anatomy = ", ".join((self.plan, *self.motifs))
        return (
            f"{anatomy}; {self.n_observations} {self.platform} x {self.n_genes} genes, {self.n_types} types, "
            f"{self.counts_per_observation:.3g} counts each"
        )


class Tissue(NamedTuple):
    """A procedural high-resolution slide.

    Attributes
    ----------
    points
        Centers (x, y) of the observations in micrometers, shape (n, 2).
    counts
        Integer counts, float32 CSR (n, G).
    description
        Composition of the tissue.
    """

    points: np.ndarray
    counts: sparse.csr_matrix
    description: TissueDescription


def make_tissue(seed: int, settings: TissueSettings | None = None) -> Tissue:
    """Generate a tissue with the resolution of a high-resolution slide.

    Parameters
    ----------
    seed
        Seed of the random generator; the same seed and settings give the same tissue.
    settings
        Ranges of the random parameters; None for the defaults.

    Examples
    --------
    >>> points, counts, description = make_tissue(0, TissueSettings(cells=(400, 400), panel=(20, 20)))
    >>> points.shape[0] == counts.shape[0], counts.shape[1]
    (True, 20)
    """
    settings = settings or TissueSettings()
    rng = np.random.default_rng([seed, 0x715573])  # a stream of its own, independent of other uses of the seed
    wide = rng.random() < settings.wide_share
    n_genes = round(log_uniform(rng, *(settings.wide_panel if wide else settings.panel)))
    n_cells = round(log_uniform(rng, *settings.cells))
    n_cells = max(min(n_cells, settings.entries // n_genes), min(settings.cells[0], n_cells))
    n_types = round(log_uniform(rng, *settings.types))
    cells = generate_cells(rng, n_cells, n_types, settings)
    platform = str(rng.choice(PLATFORMS, p=np.array(settings.platforms) / sum(settings.platforms)))
    capture = generate_capture(rng, cells, platform)
    total = _draw_depth(rng, n_genes, settings) * len(capture.positions) / len(cells.positions)
    counts = sample_counts(rng, draw_expression(rng, cells, n_types, n_genes, total, settings), capture)
    not_empty = np.diff(counts.indptr) > 0
    points, counts = capture.positions[not_empty], counts[not_empty]
    description = TissueDescription(
        plan=cells.plan,
        motifs=cells.motifs,
        platform=platform,
        spacing_um=cells.spacing_um,
        cell_positions=cells.positions,
        cell_types=cells.types,
        cell_domains=cells.domains,
        n_types=n_types,
        n_genes=n_genes,
        n_observations=len(points),
        counts_per_observation=float(counts.sum() / max(len(points), 1)),
    )
    return Tissue(points, counts, description)


def _draw_depth(rng: np.random.Generator, n_genes: int, settings: TissueSettings) -> float:
    """Draw the mean total counts of an observation, within both ranges if they overlap, or else close to them."""
    min_total, max_total = settings.counts_per_observation
    low, high = (float(np.clip(n_genes * depth, min_total, max_total)) for depth in settings.counts_per_gene)
    return log_uniform(rng, min(low, max(high / 10, min_total)), high)
