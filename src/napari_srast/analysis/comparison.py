"""Compare regions of a slide on its measured spots: effect sizes with intervals from a bootstrap of spatial blocks.

Neighboring spots resemble each other, so they are no independent observations, and pixels are computed from spots. The
bootstrap resamples whole blocks of spots. It describes how well one slide determines a difference; it does not say
whether another donor would have it; :mod:`napari_srast.analysis.pseudobulk` prepares a test of that.

Shape legend: N spots, G genes, B blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast._utils.text import count
from napari_srast.analysis.resampling import (
    MIN_BLOCKS,
    block_of_spots,
    check_bootstrap,
    interval_factor,
    resample_blocks,
)
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.region import Region
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, SettingsError

__all__ = ["COMPARISON_NOTE", "compare_regions"]

COMPARISON_NOTE = (
    "Intervals come from resampling blocks of neighboring spots of one slide; spots and pixels of a slide are no "
    "replicates, so there are no p-values, and other donors may differ."
)
REST = "rest"
"""Name of the spots outside a single region."""
_PER = 10_000.0
_VALUES_AT_ONCE = 20_000_000


def compare_regions(
    slide: Slide,
    regions: Mapping[str, Region],
    *,
    genes: Sequence[str] | None = None,
    block: float = 6.0,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> pd.DataFrame:
    """Compare the measured counts of two regions, or of a region and all other spots.

    The effect size of a gene is log2 of its count per 10,000 counts of the region plus 1, over that of the other
    region. Its standard error comes from drawing the square blocks of each region with replacement; the interval is
    that of a t distribution with the smaller number of blocks minus one degrees of freedom.

    Parameters
    ----------
    slide
        The slide.
    regions
        One or two regions by name; no spot may be in both. A single region is not named "rest".
    genes
        Genes to compare; None for all. Counts are per 10,000 of all genes in any case.
    block
        Side of the blocks in pitches (distances of neighboring spots). Blocks smaller than the structures of the
        tissue give intervals that are too narrow.
    draws
        Number of bootstrap draws.
    level
        Level of the intervals, between 0 and 1.
    seed
        Random seed.
    progress
        Called before each block of genes.
    should_stop
        Returns True once the computation should end.

    Returns
    -------
    pandas.DataFrame
        A row per gene, the clearest differences first: ``gene``; ``log2_fold_change`` with the interval ``low`` to
        ``high`` and its ``standard_error``; ``per_10000_NAME`` of both regions. ``attrs`` holds "note", and "spots" and
        "blocks" of both regions.

    Raises
    ------
    InputError
        A region has too few blocks for an interval.
    RegionError
        A region has no spot, or a coordinate system that the slide lacks.
    SettingsError
        There is no region or more than two, they overlap or have the same name, or a number is out of its range.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> import napari_srast as srast
    >>> table = srast.compare_regions(slide, {"tumor": tumor, "stroma": stroma})  # doctest: +SKIP
    """
    if not 1 <= len(regions) <= 2:
        raise SettingsError(f"One or two regions can be compared, not {len(regions)}; name them.")
    check_bootstrap(block, draws, level, seed)
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    members = {str(name): region.spots(slide) for name, region in regions.items()}
    if len(members) < len(regions):
        raise SettingsError("The two regions have the same name; rename one of them.")
    if len(members) == 1:
        ((name, only),) = members.items()
        if name == REST:
            raise SettingsError(f"'{REST}' is the name of the other spots; choose another name for the region.")
        members[REST] = ~only
    (first, inside), (second, outside) = members.items()
    both = int((inside & outside).sum())
    if both:
        raise SettingsError(f"{count(both, 'spot')} would be in both '{first}' and '{second}'; separate the regions.")
    if not outside.any():
        raise InputError(
            f"'{first}' contains all spots, so there is nothing to compare it with; draw a smaller region."
        )
    columns = slide.gene_indices(genes)
    block_of_spot = block_of_spots(slide, block)
    groups = [_Group.of(name, mask, block_of_spot, slide, columns) for name, mask in members.items()]
    for group in groups:
        if group.n_blocks < MIN_BLOCKS:
            spots = count(int(members[group.name].sum()), "spot")
            raise InputError(
                f"'{group.name}' has {spots} in {count(group.n_blocks, 'block')} of {block:g} pitches, too few for "
                f"intervals, which need {MIN_BLOCKS}; draw a larger region or choose smaller blocks."
            )
    rates = [_PER * np.asarray(group.counts.sum(axis=0)).ravel() / group.totals.sum() for group in groups]
    effect = np.log2((rates[0] + 1) / (rates[1] + 1))
    error = _standard_error(groups, draws, np.random.default_rng(seed), monitor)
    width = error * interval_factor(level, min(group.n_blocks for group in groups))
    table = pd.DataFrame(
        {
            "gene": slide.genes[columns].astype(str),
            "log2_fold_change": effect,
            "low": effect - width,
            "high": effect + width,
            "standard_error": error,
            **{f"per_10000_{group.name}": rate for group, rate in zip(groups, rates, strict=True)},
        }
    )
    distance = np.abs(effect) - width  # of the interval from 0
    table = table.iloc[np.lexsort((-np.abs(effect), -distance))].reset_index(drop=True)
    table.attrs.update(
        note=COMPARISON_NOTE,
        spots={name: int(mask.sum()) for name, mask in members.items()},
        blocks={group.name: group.n_blocks for group in groups},
    )
    return table


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Counts (B, G) and totals over all genes (B,) of the blocks of a region."""

    name: str
    counts: sparse.csc_matrix
    totals: np.ndarray

    @classmethod
    def of(cls, name: str, mask: np.ndarray, block_of_spot: np.ndarray, slide: Slide, columns: np.ndarray) -> _Group:
        spots = np.flatnonzero(mask)
        _, index = np.unique(block_of_spot[spots], return_inverse=True)
        ones = np.ones(len(spots))
        sums = sparse.csr_matrix((ones, (index, spots)), shape=(int(index.max()) + 1, slide.n_spots)) @ slide.counts
        totals = np.asarray(sums.astype(np.float64).sum(axis=1)).ravel()
        used = totals > 0  # blocks without counts have no composition
        if not used.any():
            raise InputError(f"The spots of '{name}' have no counts; choose another region.")
        counts = sparse.csc_matrix(sums[used][:, columns], dtype=np.float64)
        return cls(name=name, counts=counts, totals=totals[used])

    @property
    def n_blocks(self) -> int:
        return len(self.totals)


def _standard_error(groups: Sequence[_Group], draws: int, rng: np.random.Generator, monitor: RunMonitor) -> np.ndarray:
    """Return the standard error of the effect size of each gene, shape (G,)."""
    n_genes = groups[0].counts.shape[1]
    variance = np.zeros(n_genes)
    for i, group in enumerate(groups):  # resampled independently
        n = group.n_blocks
        weights = resample_blocks(n, draws, rng)
        totals = weights @ group.totals
        step = max(1, _VALUES_AT_ONCE // max(draws, n))
        for start in range(0, n_genes, step):
            monitor.check_canceled()
            monitor.report("compare", i * n_genes + start, len(groups) * n_genes)
            block = slice(start, start + step)
            rates = _PER * (weights @ group.counts[:, block].toarray()) / totals[:, None]
            variance[block] += np.log2(rates + 1).var(axis=0) * n / (n - 1)
    return np.sqrt(variance)
