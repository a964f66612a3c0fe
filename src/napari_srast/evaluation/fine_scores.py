"""Score the maps of one method on the held-out half of a thinned slide.

Counts are the conserved counts of a map (X); expression is its estimate of rates, if it has one. Correlation and SSIM
compare log-normalized maps (:mod:`napari_srast.evaluation.map_comparison`) in pixels that hold bins; a second
correlation compares maps that are scaled as a whole and keep the totals of their pixels. Nats are those of
:mod:`napari_srast.evaluation.held_out`. Shape legend: N spots, Q pixels, G genes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from napari_srast.evaluation.coverage import COVERAGES, count_covered_rates
from napari_srast.evaluation.held_out import (
    MIN_GENE_COUNTS,
    PROPORTIONS,
    cell_gain,
    fraction_below,
    slide_gain,
    split,
    totals_nats,
)
from napari_srast.evaluation.map_comparison import (
    Seams,
    correlate_maps,
    log_normalize,
    log_scale,
    noise_ceiling,
    similarity,
)
from napari_srast.geometry.raster import Raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["PER_GENE", "HeldOutTruth", "MapScores", "Maps", "score_maps"]

PER_GENE = ("pcc", "pcc_expression", "pcc_scaled", "pcc_scaled_expression", "ssim", "ssim_expression")
"""Scores of each gene, whose means are scores of a method."""

_BLOCK_ENTRIES = 1 << 22
_N_SSIM_GENES = 50  # genes with the most counts; images of a few counts have no structure to compare
_MIN_RANKED_GENES = 10  # genes with a stated skill from which on ranks are compared
_COVERAGE_DRAWS = 200_000
_COVERAGE_80 = COVERAGES.index(0.8)


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """Maps of one method.

    Parameters
    ----------
    counts
        Counts of the pixels, which keep the sums of the spots, CSC or dense, shape (Q, G).
    expression
        Expected counts of the pixels at the depth of ``counts``, shape (Q, G); None if the method has no such estimate.
    expression_std
        Standard deviation of the rate around ``expression``, shape (Q, G); None if unknown.
    expression_columns
        Genes that have expression, as ascending columns; None for all genes.
    skill
        Stated skill of each gene, shape (G,); None if the method states none.
    """

    counts: sparse.csc_matrix | np.ndarray
    expression: sparse.csc_matrix | np.ndarray | None = None
    expression_std: sparse.csc_matrix | np.ndarray | None = None
    expression_columns: np.ndarray | None = None
    skill: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOutTruth:
    """Held-out half of the counts in pixels.

    Parameters
    ----------
    raster
        The pixels and their spots.
    counts, other_half
        Counts of the held-out half and of the half that the slide was made from, CSC, shape (Q, G).
    measured_fraction
        Area that the spots measure, relative to the area of all pixels.
    is_whole
        Whether the counts are whole numbers, which coverage needs.
    has_bins
        Pixels in which the slide has bins, boolean, shape (Q,).
    """

    raster: Raster
    counts: sparse.csc_matrix
    other_half: sparse.csc_matrix
    measured_fraction: float
    is_whole: bool
    has_bins: np.ndarray

    @cached_property
    def gene_counts(self) -> np.ndarray:
        """Held-out counts of each gene, shape (G,)."""
        return np.asarray(self.counts.sum(axis=0)).ravel()

    @cached_property
    def pixel_counts(self) -> np.ndarray:
        """Held-out counts of each pixel, shape (Q,)."""
        return np.asarray(self.counts.sum(axis=1)).ravel()

    @cached_property
    def seams(self) -> Seams:
        """Pairs of touching pixels."""
        return Seams(
            SpotPixelMap(
                spots=np.zeros((self.raster.n_spots, 2)),
                pixels=self.raster.centers,
                parent=self.raster.parent,
                pitch=self.raster.lattice.pitch,
            )
        )

    @cached_property
    def has_ssim(self) -> np.ndarray:
        """Genes whose images are compared, boolean, shape (G,)."""
        chosen = np.zeros(len(self.gene_counts), dtype=bool)
        chosen[np.argsort(-self.gene_counts, kind="stable")[:_N_SSIM_GENES]] = True
        return chosen & (self.gene_counts > 0)

    def select(self, columns: np.ndarray) -> HeldOutTruth:
        """Return the truth of some genes, given as columns."""
        return replace(self, counts=self.counts[:, columns], other_half=self.other_half[:, columns])

    def blocks(self) -> list[np.ndarray]:
        """Return the columns of the genes in blocks that fit in memory as dense arrays."""
        size = max(1, _BLOCK_ENTRIES // max(self.raster.n_pixels, 1))
        return [
            np.arange(start, min(start + size, len(self.gene_counts)))
            for start in range(0, len(self.gene_counts), size)
        ]

    def normalized(self, columns: np.ndarray) -> np.ndarray:
        """Return log-normalized held-out counts of pixels with bins, shape (n, F)."""
        return log_normalize(_dense(self.counts, columns), self.pixel_counts)[self.has_bins]

    def summary(self) -> dict[str, float]:
        """Return what the other half reaches: noise ceiling of PCC, SSIM of the halves, and the truth's seam ratio.

        A map that equals the rates has on average a PCC of ``pcc_ceiling``. ``ssim_other_half`` is that of a
        repetition of the measurement in every pixel.
        """
        ceiling, ssim, jumps = [], [], np.zeros(2)
        totals = np.asarray(self.other_half.sum(axis=1)).ravel()
        for columns in self.blocks():
            other = log_normalize(_dense(self.other_half, columns), totals)[self.has_bins]
            truth = self.normalized(columns)
            ceiling.append(noise_ceiling(truth, other))
            ssim.append(self.similarities(truth, other, columns))
            jumps += self.seams.jumps(_dense(self.counts, columns))
        return {
            "pcc_ceiling": _mean(np.concatenate(ceiling)),
            "ssim_other_half": _mean(np.concatenate(ssim)),
            "seam_ratio": _seam_ratio(jumps),
        }

    def similarities(self, truth: np.ndarray, prediction: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the SSIM of each gene of a block, NaN for genes whose images are not compared, shape (F,)."""
        raster = self.raster.restrict(self.has_bins)
        values = np.full(len(columns), np.nan)
        for i in np.flatnonzero(self.has_ssim[columns]):
            values[i] = similarity(raster, truth[:, i], prediction[:, i])
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class MapScores:
    """Scores of one method on one held-out half.

    Parameters
    ----------
    nats_per_count, totals, composition, genes_below_uniform
        Cell nats and their parts; see :mod:`napari_srast.evaluation.held_out`.
    stated_skill, achieved_skill
        Stated skill and cell nats of the genes that have a stated skill and enough counts, weighted by counts; NaN
        if no skill is stated.
    skill_rank
        Spearman correlation of both over genes; NaN for fewer than 10 genes.
    slide_nats, slide_nats_expression
        Slide nats of counts and of expression.
    seam_ratio, seam_ratio_expression
        Mean difference of touching pixels of different spots, divided by that inside spots.
    coverage_80, coverage_80_high
        Fraction of held-out counts in their central 80 % interval: of all, and of those with at least 5 expected
        counts. NaN without standard deviations, or if the truth is not whole counts.
    gene_nats, gene_pcc, gene_pcc_expression, gene_ssim, gene_ssim_expression
        Values of each gene, shape (G,); NaN if undefined or not computed.
    gene_pcc_scaled, gene_pcc_scaled_expression
        Correlations of maps that are scaled as a whole, shape (G,).
    seconds
        Wall time of the method.
    """

    nats_per_count: float
    totals: float
    composition: float
    genes_below_uniform: float
    stated_skill: float
    achieved_skill: float
    skill_rank: float
    slide_nats: float
    slide_nats_expression: float
    seam_ratio: float
    seam_ratio_expression: float
    coverage_80: float
    coverage_80_high: float
    gene_nats: np.ndarray
    gene_pcc: np.ndarray
    gene_pcc_expression: np.ndarray
    gene_pcc_scaled: np.ndarray
    gene_pcc_scaled_expression: np.ndarray
    gene_ssim: np.ndarray
    gene_ssim_expression: np.ndarray
    seconds: float

    def summary(self) -> dict[str, float]:
        """Return all scores by name; values of genes as their means."""
        per_gene = {name: _mean(getattr(self, f"gene_{name}")) for name in PER_GENE}
        names = [name for name in self.__dataclass_fields__ if not name.startswith("gene_")]
        return {name: float(getattr(self, name)) for name in names} | per_gene


def score_maps(
    maps: Maps, truth: HeldOutTruth, spot_counts: sparse.csr_matrix, *, seconds: float = np.nan
) -> MapScores:
    """Score maps on the held-out half.

    Parameters
    ----------
    maps
        Maps of one method.
    truth
        The held-out half.
    spot_counts
        Counts that the spots measured, which give each gene's share of a spot, shape (N, G).
    seconds
        Wall time of the method.
    """
    parent = truth.raster.parent
    measured = sparse.csc_matrix(spot_counts, dtype=np.float64)
    spot_totals = np.maximum(np.asarray(measured.sum(axis=1)), 1e-9)
    gain, ratio_of_totals = np.zeros(len(truth.gene_counts)), np.zeros(truth.raster.n_pixels)
    for columns in truth.blocks():
        ratios = split(_dense(maps.counts, columns), parent)
        gain[columns] = cell_gain(ratios, _dense(truth.counts, columns), parent)
        ratio_of_totals += (ratios * (_dense(measured, columns) / spot_totals)[parent]).sum(axis=1)
    n_counts = float(truth.gene_counts.sum())
    nats = float(gain.sum()) / n_counts if n_counts > 0 else np.nan
    totals = totals_nats(ratio_of_totals, truth.pixel_counts, parent)
    gene_nats = np.divide(gain, truth.gene_counts, out=np.full(len(gain), np.nan), where=truth.gene_counts > 0)
    stated, achieved, rank = _compare_skill(maps.skill, gene_nats, truth.gene_counts)
    counts, expression = _compare_maps(maps.counts, truth), _compare_expression(maps, truth)
    covered = _coverage(maps, truth)
    return MapScores(
        nats_per_count=nats,
        totals=totals,
        composition=nats - totals,
        genes_below_uniform=fraction_below(gain, truth.gene_counts),
        stated_skill=stated,
        achieved_skill=achieved,
        skill_rank=rank,
        slide_nats=counts.slide_nats,
        slide_nats_expression=expression.slide_nats,
        seam_ratio=counts.seam_ratio,
        seam_ratio_expression=expression.seam_ratio,
        coverage_80=covered[0],
        coverage_80_high=covered[1],
        gene_nats=gene_nats,
        gene_pcc=counts.pcc,
        gene_pcc_expression=expression.pcc,
        gene_pcc_scaled=counts.pcc_scaled,
        gene_pcc_scaled_expression=expression.pcc_scaled,
        gene_ssim=counts.ssim,
        gene_ssim_expression=expression.ssim,
        seconds=seconds,
    )


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Scores of one kind of map on the whole slide; PCC and SSIM have shape (G,)."""

    slide_nats: float
    seam_ratio: float
    pcc: np.ndarray
    pcc_scaled: np.ndarray
    ssim: np.ndarray


def _compare_maps(values: sparse.csc_matrix | np.ndarray | None, truth: HeldOutTruth) -> _Comparison:
    """Compare counts or expression with the truth on the whole slide; NaN without a map."""
    pcc, pcc_scaled, ssim = (np.full(len(truth.gene_counts), np.nan) for _ in range(3))
    if values is None:
        return _Comparison(np.nan, np.nan, pcc, pcc_scaled, ssim)
    pixel_totals = np.asarray(values.sum(axis=1)).ravel()
    inside = truth.has_bins
    gain, jumps = np.zeros(len(PROPORTIONS)), np.zeros(2)
    for columns in truth.blocks():
        block, target = _dense(values, columns), _dense(truth.counts, columns)
        gain += slide_gain(block, target)
        jumps += truth.seams.jumps(block)
        scaled = log_scale(target[inside], truth.pixel_counts[inside]), log_scale(block[inside], pixel_totals[inside])
        pcc_scaled[columns] = correlate_maps(*scaled)
        normalized, target = log_normalize(block, pixel_totals)[inside], truth.normalized(columns)
        pcc[columns] = correlate_maps(target, normalized)
        ssim[columns] = truth.similarities(target, normalized, columns)
    n_counts = float(truth.gene_counts.sum())
    slide_nats = float(gain.max()) / n_counts if n_counts > 0 else np.nan
    return _Comparison(slide_nats, _seam_ratio(jumps), pcc, pcc_scaled, ssim)


def _compare_expression(maps: Maps, truth: HeldOutTruth) -> _Comparison:
    """Compare expression with the truth of the genes that have it."""
    columns = maps.expression_columns
    if maps.expression is None or columns is None or len(columns) == len(truth.gene_counts):
        return _compare_maps(maps.expression, truth)
    part = _compare_maps(maps.expression[:, columns] if len(columns) else None, truth.select(columns))

    def of_all(values: np.ndarray) -> np.ndarray:
        every = np.full(len(truth.gene_counts), np.nan)
        every[columns] = values
        return every

    return replace(part, pcc=of_all(part.pcc), pcc_scaled=of_all(part.pcc_scaled), ssim=of_all(part.ssim))


def _compare_skill(
    skill: np.ndarray | None, gene_nats: np.ndarray, gene_counts: np.ndarray
) -> tuple[float, float, float]:
    """Return stated skill, achieved skill and their rank correlation over genes with enough counts."""
    if skill is None:
        return np.nan, np.nan, np.nan
    used = np.isfinite(skill) & (gene_counts >= MIN_GENE_COUNTS)
    if not used.any():
        return np.nan, np.nan, np.nan
    stated, achieved, weight = skill[used], gene_nats[used], gene_counts[used]
    ranked = used.sum() >= _MIN_RANKED_GENES
    rank = float(pd.Series(stated).corr(pd.Series(achieved), method="spearman")) if ranked else np.nan
    return float(np.average(stated, weights=weight)), float(np.average(achieved, weights=weight)), rank


def _coverage(maps: Maps, truth: HeldOutTruth) -> tuple[float, float]:
    """Return the coverage of 80 % intervals of held-out counts: of all, and of those with high expected counts.

    Maps are at the depth of the measured fraction of a pixel's area; the truth counts its whole area. Of the variance
    of a new count, the Poisson part grows with this ratio, that of the rate with its square.
    """
    if maps.expression is None or maps.expression_std is None or not truth.is_whole:
        return np.nan, np.nan
    scale = 1.0 / truth.measured_fraction
    rng = np.random.default_rng(0)
    covered, n_entries = np.zeros((2, len(COVERAGES))), np.zeros(2)
    pixels = np.flatnonzero(truth.has_bins)
    has_expression = np.ones(len(truth.gene_counts), dtype=bool)
    if maps.expression_columns is not None:
        has_expression[:] = False
        has_expression[maps.expression_columns] = True
    n_genes = max(int(has_expression.sum()), 1)
    for block in truth.blocks():
        columns = block[has_expression[block]]
        if len(columns) == 0:
            continue
        mean, std, y = (
            _dense(values, columns)[pixels] for values in (maps.expression, maps.expression_std, truth.counts)
        )
        entries = np.arange(y.size)
        n_drawn = max(1, _COVERAGE_DRAWS * len(columns) // n_genes)
        if len(entries) > n_drawn:
            entries = rng.choice(entries, n_drawn, replace=False)
        mean, std, y = mean.ravel()[entries], std.ravel()[entries], y.ravel()[entries]
        spread = np.sqrt(scale * mean + (scale * std) ** 2)
        hits, drawn = count_covered_rates(y, scale * mean, spread, rng)
        covered, n_entries = covered + hits, n_entries + drawn
    fractions = np.divide(covered[:, _COVERAGE_80], n_entries, out=np.full(2, np.nan), where=n_entries > 0)
    return float(fractions[0]), float(fractions[1])


def _dense(matrix: sparse.csc_matrix | np.ndarray, columns: np.ndarray) -> np.ndarray:
    if isinstance(matrix, np.ndarray):
        return np.asarray(matrix[:, columns], dtype=np.float64)
    return np.asarray(matrix[:, columns].toarray(), dtype=np.float64)


def _seam_ratio(jumps: np.ndarray) -> float:
    across, inside = jumps
    return float(across / inside) if inside > 0 else np.inf if across > 0 else np.nan


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else np.nan
