"""Simulate the observations of a platform: segmented cells, beads or bins, with diffusion, ambient counts and depth.

Shape legend: n cells, m observations, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues.cells import Cells, jittered_hexagonal_grid
from napari_srast.simulation.tissues.expression import Expression
from napari_srast.simulation.tissues.fields import SmoothFields, log_uniform

__all__ = ["Capture", "generate_capture", "sample_counts"]

_BLOCK_ENTRIES = 2_000_000  # dense entries that are in memory together
_SPARSE_MEAN = 0.2  # mean counts of an entry below which positions are drawn for counts, not counts for positions
_MAX_NEIGHBORS = 24  # observations that receive counts of one cell


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """Observations, and the share of each cell's counts that they receive.

    Parameters
    ----------
    positions
        Centers (x, y) of the observations in micrometers, shape (m, 2).
    shares
        Shares, CSR (m, n); columns sum to at most 1.
    efficiency
        Relative depth of each observation, shape (m,).
    ambient
        Mean fraction of an observation's counts that is independent of its position.
    """

    positions: np.ndarray
    shares: sparse.csr_matrix
    efficiency: np.ndarray
    ambient: float


def generate_capture(rng: np.random.Generator, cells: Cells, platform: str) -> Capture:
    """Draw the observations of a platform.

    Parameters
    ----------
    rng
        Random generator.
    cells
        The cells.
    platform
        "cells", "beads" or "bins".
    """
    spacing = cells.spacing_um
    if platform == "cells":
        positions = cells.positions + rng.normal(0, 0.05 * spacing, cells.positions.shape)
        width, diffused = 0.3 * spacing, rng.uniform(0, 0.12)
        reach = rng.uniform(0.6, 1.5) * spacing
    else:
        side = rng.uniform(0.8, 1.4) * spacing
        if platform == "beads":  # closely packed but irregular, and some are missing
            positions = jittered_hexagonal_grid(rng, cells.span_um, side)
            positions = positions[rng.random(len(positions)) > rng.uniform(0, 0.4)]
        else:
            middles = np.arange(side / 2, cells.span_um, side)
            positions = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        width, diffused = 0.45 * spacing, rng.uniform(0, 0.5)
        reach = rng.uniform(1.0, 3.0) * spacing
    shares = _shares(cells.positions, positions, width, diffused, reach)
    on_tissue = np.asarray(shares.sum(axis=1)).ravel() > 0.02
    positions, shares = positions[on_tissue], shares[on_tissue]
    efficiency = rng.lognormal(0, log_uniform(rng, 0.05, 0.5), len(positions))
    drift = SmoothFields(rng, np.array([cells.span_um * rng.uniform(0.2, 0.8)]))(positions)[:, 0]
    efficiency *= np.exp(rng.uniform(0, 0.3) * drift)
    return Capture(
        positions=positions,
        shares=shares,
        efficiency=efficiency.astype(np.float32),
        ambient=float(rng.uniform(0, 0.15) if platform != "cells" else rng.uniform(0, 0.04)),
    )


def sample_counts(rng: np.random.Generator, expression: Expression, capture: Capture) -> sparse.csr_matrix:
    """Sample negative-binomial counts: float32 CSR (m, G).

    Parameters
    ----------
    rng
        Random generator.
    expression
        Expected counts of the cells.
    capture
        The observations.
    """
    n_genes = len(expression.abundance)
    width = max(_BLOCK_ENTRIES // max(capture.shares.shape), 1)
    blocks = [
        _sample_block(rng, expression, capture, slice(start, min(start + width, n_genes)))
        for start in range(0, n_genes, width)
    ]
    return sparse.csr_matrix(sparse.hstack(blocks, format="csr"), dtype=np.float32)


def _sample_block(
    rng: np.random.Generator, expression: Expression, capture: Capture, genes: slice
) -> sparse.csr_matrix:
    """Sample the counts (m, genes) of a block of genes."""
    rate = expression.rates(genes)
    # The gamma variates make no visible difference for rare counts: var / mean = 1 + mean / shape.
    noisy = np.flatnonzero(rate.mean(axis=0) > 0.05 * expression.dispersion[genes])
    if len(noisy):
        shape = expression.dispersion[genes][noisy].astype(np.float32)
        gamma = rng.standard_gamma(np.broadcast_to(shape, (len(rate), len(noisy))), dtype=np.float32)
        rate[:, noisy] *= gamma / shape
    rate = capture.shares @ rate
    mean = rate.mean(axis=0)
    rate = capture.efficiency[:, None] * ((1 - capture.ambient) * rate + capture.ambient * mean)
    if rate.mean() > _SPARSE_MEAN:
        return sparse.csr_matrix(rng.poisson(rate))
    # Independent Poisson entries equal one Poisson total that is distributed in proportion to the rates.
    edge = np.cumsum(rate, dtype=np.float64)
    drawn = np.searchsorted(edge, rng.random(rng.poisson(edge[-1])) * edge[-1], side="right")
    entry, count = np.unique(np.minimum(drawn, rate.size - 1), return_counts=True)
    return sparse.csr_matrix((count, np.divmod(entry, rate.shape[1])), shape=rate.shape)


def _shares(cells: np.ndarray, positions: np.ndarray, width: float, diffused: float, reach: float) -> sparse.csr_matrix:
    """Return the shares (m, n): Gaussians around each cell, a narrow one, and a wide one for the diffused fraction."""
    distance, index = cKDTree(positions).query(cells, k=min(_MAX_NEIGHBORS, len(positions)))
    distance, index = distance.reshape(len(cells), -1), index.reshape(len(cells), -1)
    near = np.exp(-0.5 * ((distance - distance[:, :1]) * (distance + distance[:, :1])) / width**2)
    far = np.exp(-0.5 * (distance / reach) ** 2) + 1e-12
    weight = (1 - diffused) * near / near.sum(axis=1, keepdims=True) + diffused * far / far.sum(axis=1, keepdims=True)
    weight[weight < 1e-3] = 0
    rows = np.repeat(np.arange(len(cells)), weight.shape[1])
    shares = sparse.csr_matrix((weight.ravel(), (index.ravel(), rows)), shape=(len(positions), len(cells)))
    shares.eliminate_zeros()
    return shares.astype(np.float32)
