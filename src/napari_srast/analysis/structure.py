"""Test which genes vary in space, and describe which genes are high in the same places, on measured spots.

Shape legend: N spots, G genes, B blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import false_discovery_control

from napari_srast._utils.text import count
from napari_srast.analysis.resampling import (
    MIN_BLOCKS,
    block_of_spots,
    check_bootstrap,
    check_seed,
    interval_factor,
    resample_blocks,
)
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError, value_out_of_range
from napari_srast.geometry.nearest_spots import nearest_other_spots

__all__ = ["COLOCALIZATION_NOTE", "STRUCTURE_NOTE", "colocalization", "spatially_variable"]

STRUCTURE_NOTE = (
    "The test asks whether a gene is arranged in space on this slide; with many spots, nearly all abundant genes are. "
    "Moran's I says how much; other donors may differ."
)
COLOCALIZATION_NOTE = (
    "Correlations of log counts per 10,000 over the measured spots, with intervals of blocks of spots. A spot mixes "
    "several cells, and all genes share its depth, so a correlation does not show that one cell has both."
)
_N_NEIGHBORS = 6
_PER = 10_000.0
_SMALL_Q = 0.05
_VALUES_AT_ONCE = 10_000_000


def spatially_variable(
    slide: Slide,
    genes: Sequence[str] | None = None,
    *,
    permutations: int = 199,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> pd.DataFrame:
    """Test each gene for spatial structure by Moran's I on the measured spots.

    I is that of log(1 + counts per 10,000) over the six nearest spots (Moran, Biometrika 37, 1950). The p-value is the
    rank of I among those of slides whose spots are permuted, all genes together, so it needs no assumption about the
    distribution of counts.

    Parameters
    ----------
    slide
        The slide.
    genes
        Genes to test; None for all.
    permutations
        Number of permutations; p-values are at least 1 / (permutations + 1).
    seed
        Random seed.
    progress
        Called after each permutation.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    pandas.DataFrame
        A row per gene, the most structured first: ``gene``; ``moran_i``; ``p``; ``q``, after Benjamini and Hochberg.
        NaN for genes with the same value in every spot. ``attrs["note"]`` says what the test does not show, and
        whether there are too few permutations for small q.

    Raises
    ------
    InputError
        The slide has too few spots, or a gene is missing.
    SettingsError
        The number of permutations is too small, or the seed is out of its range.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> srast.spatially_variable(slide).head(10)  # doctest: +SKIP
    """
    if permutations < 19:
        raise value_out_of_range("number of permutations", permutations, "at least 19")
    check_seed(seed)
    if slide.n_spots < 3 * _N_NEIGHBORS:
        raise InputError(
            f"The slide has {slide.n_spots} spots, too few to test for structure; it needs {3 * _N_NEIGHBORS}."
        )
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    columns = slide.gene_indices(genes)
    average, scale = _neighbor_average(slide.centers), _scale_of_spots(slide)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(slide.n_spots) for _ in range(permutations)]
    step = max(1, _VALUES_AT_ONCE // slide.n_spots)
    moran, p = np.full(len(columns), np.nan), np.full(len(columns), np.nan)
    starts = range(0, len(columns), step)
    n_steps = len(starts) * permutations
    for i, start in enumerate(starts):
        block = slice(start, start + step)
        values = _log_rates(slide, columns[block], scale)
        values -= values.mean(axis=0)
        spread = (values**2).sum(axis=0)
        known = spread > 1e-9
        values = values[:, known]
        observed = np.einsum("ng,ng->g", values, average @ values)
        reached = np.ones(values.shape[1])
        for j, order in enumerate(orders):
            monitor.check_canceled()
            permuted = values[order]
            # Equal arrangements may differ in rounding.
            reached += np.einsum("ng,ng->g", permuted, average @ permuted) >= observed - 1e-9 * spread[known]
            monitor.report("structure", i * permutations + j + 1, n_steps)
        moran[block][known] = observed / spread[known]
        p[block][known] = reached / (permutations + 1)
    q = np.full(len(p), np.nan)
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    table = pd.DataFrame({"gene": slide.genes[columns].astype(str), "moran_i": moran, "p": p, "q": q})
    table = table.iloc[np.argsort(-np.nan_to_num(moran, nan=-np.inf), kind="stable")].reset_index(drop=True)
    table.attrs["note"] = " ".join(filter(None, [_limit_of_permutations(p, q, permutations), STRUCTURE_NOTE]))
    return table


def colocalization(
    slide: Slide,
    genes: Sequence[str],
    *,
    block: float = 6.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> pd.DataFrame:
    """Describe which genes are high in the same measured spots, by correlations with intervals.

    The correlation is that of log(1 + counts per 10,000) over the spots. Its interval comes from drawing square blocks
    of spots with replacement, on Fisher's scale, because neighboring spots are no independent observations. Counts
    share the depth and the noise of their spot, and pixels of a map share its model: so the spots are compared, and
    there is no p-value.

    Parameters
    ----------
    slide
        The slide.
    genes
        At least two genes; all pairs are compared.
    block
        Side of the blocks in pitches.
    draws
        Number of bootstrap draws.
    level
        Level of the intervals, between 0 and 1.
    seed
        Random seed.
    progress
        Called before each pair.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    pandas.DataFrame
        A row per pair, the highest correlation first: ``gene_a``, ``gene_b``, ``correlation``, ``low``, ``high``; NaN
        for a gene with the same value in every spot. ``attrs["note"]`` says what a correlation does not show.

    Raises
    ------
    InputError
        The slide has too few blocks, or a gene is missing.
    SettingsError
        Fewer than two genes are named, or a number is out of its range.
    Cancelled
        ``should_stop`` returned True.
    """
    check_bootstrap(block, draws, level, seed)
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    columns = slide.gene_indices(genes)
    if len(columns) < 2:
        raise SettingsError("Colocalization needs at least two genes; name them.")
    values = _log_rates(slide, columns, _scale_of_spots(slide))
    index = block_of_spots(slide, block)
    n_blocks = int(index.max()) + 1
    if n_blocks < MIN_BLOCKS:
        raise InputError(
            f"The slide has {count(n_blocks, 'block')} of {block:g} pitches, too few for intervals, which need "
            f"{MIN_BLOCKS}; choose smaller blocks."
        )
    by_block = sparse.csr_matrix((np.ones(slide.n_spots), (index, np.arange(slide.n_spots))))
    weights = resample_blocks(n_blocks, draws, np.random.default_rng(seed))
    size, sums, squares = (weights @ (by_block @ part) for part in (np.ones((len(values), 1)), values, values**2))
    factor = interval_factor(level, n_blocks)
    varies = np.ptp(values, axis=0) > 0
    rows: list[tuple[int, int, float, float, float]] = []
    n_pairs = len(columns) * (len(columns) - 1) // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(len(columns)):
            for j in range(i + 1, len(columns)):
                monitor.check_canceled()
                monitor.report("colocalization", len(rows), n_pairs)
                if not (varies[i] and varies[j]):
                    rows.append((i, j, np.nan, np.nan, np.nan))
                    continue
                product = weights @ (by_block @ (values[:, i] * values[:, j]))
                n = size[:, 0]
                covariance = product / n - sums[:, i] * sums[:, j] / n**2
                scale = (squares[:, i] / n - (sums[:, i] / n) ** 2) * (squares[:, j] / n - (sums[:, j] / n) ** 2)
                drawn = np.arctanh(np.clip(covariance / np.sqrt(scale), -0.999999, 0.999999))
                one = np.corrcoef(values[:, i], values[:, j])[0, 1]
                middle = np.arctanh(np.clip(one, -0.999999, 0.999999))
                width = factor * np.nanstd(drawn) * np.sqrt(n_blocks / (n_blocks - 1))
                rows.append((i, j, one, np.tanh(middle - width), np.tanh(middle + width)))
    names = slide.genes[columns].astype(str)
    table = pd.DataFrame(
        [(names[i], names[j], *figures) for i, j, *figures in rows],
        columns=["gene_a", "gene_b", "correlation", "low", "high"],
    )
    table = table.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
    table.attrs["note"] = COLOCALIZATION_NOTE
    return table


def _limit_of_permutations(p: np.ndarray, q: np.ndarray, permutations: int) -> str:
    """Return a sentence if genes have the smallest possible p, and yet no small q."""
    smallest = p < 1.5 / (permutations + 1)
    if not smallest.any() or q[smallest].min() <= _SMALL_Q:
        return ""
    n_tested = int(np.isfinite(p).sum())
    return (
        f"{count(int(smallest.sum()), 'gene')} exceeded every permutation, but with {permutations:,} permutations no p "
        f"is below 1 / {permutations + 1}, too large for a q of {_SMALL_Q} among {count(n_tested, 'gene')}; test fewer "
        f"genes, or use {10 * (permutations + 1) - 1:,} permutations."
    )


def _neighbor_average(centers: np.ndarray) -> sparse.csr_matrix:
    """Return the matrix (N, N) that averages over the six nearest other spots."""
    n_spots = len(centers)
    others = nearest_other_spots(centers, centers, np.arange(n_spots), _N_NEIGHBORS)[0].ravel()
    pointer = np.arange(n_spots + 1) * _N_NEIGHBORS
    return sparse.csr_matrix((np.full(others.size, 1 / _N_NEIGHBORS), others, pointer), shape=(n_spots, n_spots))


def _scale_of_spots(slide: Slide) -> np.ndarray:
    """Return the factors that scale the counts of each spot to 10,000 of all genes, shape (N,)."""
    totals = np.asarray(slide.counts.astype(np.float64).sum(axis=1)).ravel()
    return np.divide(_PER, totals, out=np.zeros_like(totals), where=totals > 0)


def _log_rates(slide: Slide, columns: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return log(1 + counts per 10,000 of all genes), float64, shape (N, G)."""
    rates: np.ndarray = np.log1p(slide.select_counts(columns).toarray().astype(np.float64) * scale[:, None])
    return rates
