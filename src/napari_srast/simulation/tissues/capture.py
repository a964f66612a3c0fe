"""How cells become observations: segmented cells, beads or bins, with bleeding, ambient counts and uneven depth.

Shape legend: n cells, m observations, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from napari_srast.simulation.tissues.cells import Cells, shaken_grid
from napari_srast.simulation.tissues.expression import Expression
from napari_srast.simulation.tissues.fields import SmoothFields, log_uniform

__all__ = ["Capture", "lay_capture", "sample_counts"]

_BLOCK = 2_000_000  # entries that are dense at a time
_RARE = 0.2  # mean counts of an entry below which places are drawn for counts, not counts for places
_REACH = 24  # most observations that one cell bleeds into


@dataclass(frozen=True, kw_only=True, eq=False)
class Capture:
    """Which share of each cell's counts each observation gets.

    Parameters
    ----------
    places
        Observations in micrometers, shape (m, 2).
    shares
        CSR (m, n); columns sum to at most 1.
    efficiency
        Relative depth of each observation, (m,).
    ambient
        Share of an observation's counts, on average, that comes from nowhere in particular.
    """

    places: np.ndarray
    shares: sparse.csr_matrix
    efficiency: np.ndarray
    ambient: float


def lay_capture(rng: np.random.Generator, cells: Cells, platform: str) -> Capture:
    """Draw the observations of a platform."""
    spacing = cells.spacing_um
    if platform == "cells":
        places = cells.places + rng.normal(0, 0.05 * spacing, cells.places.shape)
        own, bled = 0.3 * spacing, rng.uniform(0, 0.12)
        reach = rng.uniform(0.6, 1.5) * spacing
    else:
        side = rng.uniform(0.8, 1.4) * spacing
        if platform == "beads":  # closely packed but irregular, and some are lost
            places = shaken_grid(rng, cells.span_um, side)
            places = places[rng.random(len(places)) > rng.uniform(0, 0.4)]
        else:
            middles = np.arange(side / 2, cells.span_um, side)
            places = np.stack(np.meshgrid(middles, middles), axis=-1).reshape(-1, 2)
        own, bled = 0.45 * spacing, rng.uniform(0, 0.5)
        reach = rng.uniform(1.0, 3.0) * spacing
    shares = _shares(cells.places, places, own, bled, reach)
    kept = np.asarray(shares.sum(axis=1)).ravel() > 0.02  # nothing is observed off the tissue
    places, shares = places[kept], shares[kept]
    efficiency = rng.lognormal(0, log_uniform(rng, 0.05, 0.5), len(places))
    drift = SmoothFields(rng, np.array([cells.span_um * rng.uniform(0.2, 0.8)]))(places)[:, 0]
    efficiency *= np.exp(rng.uniform(0, 0.3) * drift)
    return Capture(
        places=places,
        shares=shares,
        efficiency=efficiency.astype(np.float32),
        ambient=float(rng.uniform(0, 0.15) if platform != "cells" else rng.uniform(0, 0.04)),
    )


def sample_counts(rng: np.random.Generator, expression: Expression, capture: Capture) -> sparse.csr_matrix:
    """Return negative-binomial counts, float32 CSR (m, G), a block of genes at a time."""
    n_genes = len(expression.abundance)
    width = max(_BLOCK // max(capture.shares.shape), 1)
    blocks = [
        _sample_block(rng, expression, capture, slice(start, min(start + width, n_genes)))
        for start in range(0, n_genes, width)
    ]
    return sparse.csr_matrix(sparse.hstack(blocks, format="csr"), dtype=np.float32)


def _sample_block(
    rng: np.random.Generator, expression: Expression, capture: Capture, genes: slice
) -> sparse.csr_matrix:
    rate = expression.rates(genes)
    # Where counts are rare the gamma makes no difference that could be seen: var / mean = 1 + mean / shape.
    noisy = np.flatnonzero(rate.mean(axis=0) > 0.05 * expression.dispersion[genes])
    if len(noisy):
        shape = expression.dispersion[genes][noisy].astype(np.float32)
        gamma = rng.standard_gamma(np.broadcast_to(shape, (len(rate), len(noisy))), dtype=np.float32)
        rate[:, noisy] *= gamma / shape
    rate = capture.shares @ rate
    mean = rate.mean(axis=0)
    rate = capture.efficiency[:, None] * ((1 - capture.ambient) * rate + capture.ambient * mean)
    if rate.mean() > _RARE:
        return sparse.csr_matrix(rng.poisson(rate))
    # Independent Poisson entries are one Poisson total, dealt out in proportion to the rates.
    edge = np.cumsum(rate, dtype=np.float64)
    drawn = np.searchsorted(edge, rng.random(rng.poisson(edge[-1])) * edge[-1], side="right")
    place, count = np.unique(np.minimum(drawn, rate.size - 1), return_counts=True)
    return sparse.csr_matrix((count, np.divmod(place, rate.shape[1])), shape=rate.shape)


def _shares(cells: np.ndarray, places: np.ndarray, own: float, bled: float, reach: float) -> sparse.csr_matrix:
    """Return CSR (m, n): each cell's counts fall around it, narrowly, and a share of them widely (Gaussians)."""
    distance, index = cKDTree(places).query(cells, k=min(_REACH, len(places)))
    distance, index = distance.reshape(len(cells), -1), index.reshape(len(cells), -1)
    near = np.exp(-0.5 * ((distance - distance[:, :1]) * (distance + distance[:, :1])) / own**2)
    far = np.exp(-0.5 * (distance / reach) ** 2) + 1e-12
    weight = (1 - bled) * near / near.sum(axis=1, keepdims=True) + bled * far / far.sum(axis=1, keepdims=True)
    weight[weight < 1e-3] = 0
    rows = np.repeat(np.arange(len(cells)), weight.shape[1])
    shares = sparse.csr_matrix((weight.ravel(), (index.ravel(), rows)), shape=(len(places), len(cells)))
    shares.eliminate_zeros()
    return shares.astype(np.float32)
