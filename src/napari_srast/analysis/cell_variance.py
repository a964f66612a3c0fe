r"""Variances of the counts of cells, from those of pixels.

The counts of the pixels of a spot sum to the count of the spot, so they are negatively correlated. A
Dirichlet-multinomial split with means :math:`x_q = n p_q` has the covariance
:math:`\mathrm{diag}(v) - v v^T / \sum v`, with :math:`v_q = s_q^2 / (1 - p_q)` for the standard deviations :math:`s_q`.
The part :math:`w_q` of a pixel that a cell covers holds a random number of its counts, :math:`w_q (1 - w_q) x_q` in
variance. Together, per cell and gene:

.. math:: \sum_{\text{spots}} \Big( \sum_q w_q^2 v_q - \frac{(\sum_q w_q v_q)^2}{\sum_q v_q} \Big)
          + \sum_q w_q (1 - w_q) x_q

For a multinomial split this is :math:`n P (1 - P)` with :math:`P = \sum_q w_q p_q`, as it has to be.

Shape legend: C cells, Q pixels, G genes, N spots, P pairs of a cell and a spot.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.raster import Raster

__all__ = ["cell_std"]

_VALUES_AT_ONCE = 20_000_000


def cell_std(
    shares: sparse.csr_matrix,
    raster: Raster,
    counts: sparse.csr_matrix,
    std: sparse.csr_matrix,
    monitor: RunMonitor = NO_MONITOR,
) -> sparse.csr_matrix:
    """Return the standard deviations of the counts of cells, float32 CSR, shape (C, G).

    Parameters
    ----------
    shares
        Fraction of each pixel that each cell covers, shape (C, Q).
    raster
        The pixels and their spots.
    counts, std
        Counts of the pixels and their standard deviations, shape (Q, G).
    monitor
        Asked for cancellation between blocks of genes.
    """
    n_cells, n_pixels = shares.shape
    entries = shares.tocoo()
    pair, of_entry = np.unique(
        entries.row.astype(np.int64) * raster.n_spots + raster.parent[entries.col], return_inverse=True
    )
    by_pair = sparse.csr_matrix((entries.data, (of_entry, entries.col)), shape=(len(pair), n_pixels))
    to_cells = sparse.csr_matrix(
        (np.ones(len(pair)), (pair // raster.n_spots, np.arange(len(pair)))), shape=(n_cells, len(pair))
    )
    spot_of_pair = pair % raster.n_spots
    squared, cut = shares.power(2), shares - shares.power(2)
    step = max(1, _VALUES_AT_ONCE // max(n_pixels, len(pair), n_cells, 1))
    counts_by_gene, std_by_gene = counts.tocsc(), std.tocsc()
    blocks = []
    for start in range(0, counts.shape[1], step):
        monitor.check_canceled()
        x = counts_by_gene[:, start : start + step].toarray().astype(np.float64)
        s = std_by_gene[:, start : start + step].toarray().astype(np.float64)
        total = (raster.membership @ x)[raster.parent]
        rest = 1 - np.divide(x, total, out=np.zeros_like(x), where=total > 0)
        v = np.divide(s * s, rest, out=np.zeros_like(s), where=rest > 1e-9)
        of_spot = (raster.membership @ v)[spot_of_pair]
        common = np.divide((by_pair @ v) ** 2, of_spot, out=np.zeros_like(of_spot), where=of_spot > 0)
        variance = squared @ v - to_cells @ common + cut @ x
        blocks.append(sparse.csc_matrix(np.sqrt(np.maximum(variance, 0)), dtype=np.float32))
    return sparse.csr_matrix(sparse.hstack(blocks, format="csr"))
