"""Score predicted ratios against true counts of every pixel.

Only the distribution within spots is scored, never the spots' totals: predicted ratios ``r`` are compared with the
truth ``y`` and its sums ``n`` over each spot's pixels. The truth can therefore be thinned or have another depth.

Shape legend: N spots, Q pixels, G genes, F genes of a block, K pixels of a spot; k a pixel, i its spot, g a gene.

======================  ==========================================================================================
nats per count          ``sum_kg y log(K r') / sum y``: gain of the multinomial log-likelihood over the uniform split,
                        for ``r' = (1 - e) r + e / K`` with e = 0.001, so that a zero has no infinite penalty. A
                        negative value is worse than the uniform split.
totals                  The same for all genes added up: ``sum_k T log(K R) / sum T`` with ``T_k = sum_g y_kg`` and
                        ``R_k = sum_g n_ig r'_kg / sum_g n_ig``. The gain in total counts, that is in cell density.
composition             ``sum_kg y log(r' / R) / sum y``, which is nats per count minus totals. What each gene's map
                        adds to the pixels' totals.
within-spot PCC         Pearson correlation of ``y - n/K`` and ``n r - n/K`` over the pixels, for each gene; 0 for a
                        flat prediction, undefined for a gene whose truth is flat. Its mean over genes, plain and
                        weighted by the genes' counts.
PCC, RMSE, SSIM         Of ``y`` and ``n r``, for each gene; inflated by the spots' totals, which every method
                        conserves. SSIM after Wang et al. 2004 (doi:10.1109/TIP.2003.819861), with a Gaussian window of
                        1.5 pixels.
seam ratio              Mean difference between touching pixels of different spots, divided by that inside spots.
                        Compare it with the truth's ratio, because counts of different spots always differ. Also
                        computed for all genes added up, where chance matters less.
coverage                Fraction of counts in the central 50, 80 and 95 % of their predictive distribution, by the
                        randomized probability integral transform; equal to the nominal value if calibrated. The
                        distribution is Binomial(n, r) or, with a concentration A, Beta-binomial(n, A r, A (1 - r)),
                        the marginal of a Dirichlet-multinomial. Also computed for pairs of a spot and a gene with
                        at least 10 counts, because smaller counts scatter similarly under any prediction.
spread-skill            Root of the mean predicted variance over that of the mean squared error; 1 if calibrated.
mass error              Largest ``|sum r - 1|`` over the pixels of a spot.
======================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import sparse

from napari_srast.evaluation.coverage import COVERAGES, count_covered
from napari_srast.evaluation.map_comparison import Seams, correlate, similarity
from napari_srast.geometry.raster import Raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["Scores", "Stratum", "fraction_better", "gain_over", "score_ratios"]

_STRATUM_EDGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)  # mean counts per spot
_UNIFORM_WEIGHT = 1e-3  # of the uniform split in the scored ratios
_BLOCK_ENTRIES = 1 << 22
_N_SSIM_GENES = 50  # genes with the most counts; images of a few counts have no structure to compare
_COVERAGE_DRAWS = 20_000
_BOOTSTRAPS = 200


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Scores of the genes in one range of depth: ``low <= mean counts per spot < high``."""

    low: float
    high: float
    n_genes: int
    nats_per_count: float
    within_spot_pcc: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Scores of one method on one slide; the module docstring defines them.

    Parameters
    ----------
    gene_counts, gene_gain
        Counts of each gene and the nats gained on them, shape (G,).
    spot_counts, spot_gain
        The same for each spot, shape (N,).
    within_pcc, pcc, rmse, ssim
        One value for each gene, shape (G,); NaN if undefined or not computed.
    totals
        Nats per count of the pixels' totals.
    seam_ratio, seam_ratio_truth
        Seam ratio of the prediction and of the truth; infinite if spots are uniform inside.
    seam_ratio_totals, seam_ratio_totals_truth
        The same for all genes added up.
    coverage, coverage_high_count
        Fraction of counts covered at each of :data:`COVERAGES`: of all pairs of a spot and a gene with counts, and of
        pairs with at least 10 counts.
    spread_skill
        Ratio of predicted to actual spread.
    mass_error
        Largest deviation of the sum of a spot's ratios from 1.
    """

    gene_counts: np.ndarray
    gene_gain: np.ndarray
    spot_counts: np.ndarray
    spot_gain: np.ndarray
    within_pcc: np.ndarray
    pcc: np.ndarray
    rmse: np.ndarray
    ssim: np.ndarray
    totals: float
    seam_ratio: float
    seam_ratio_truth: float
    seam_ratio_totals: float
    seam_ratio_totals_truth: float
    coverage: tuple[float, ...]
    coverage_high_count: tuple[float, ...]
    spread_skill: float
    mass_error: float

    @property
    def nats_per_count(self) -> float:
        """Mean gain over the uniform split."""
        return _over(float(self.gene_gain.sum()), float(self.gene_counts.sum()))

    @property
    def composition(self) -> float:
        """Nats per count beyond the totals."""
        return self.nats_per_count - self.totals

    @property
    def gene_nats(self) -> np.ndarray:
        """Nats per count of each gene, NaN for genes without counts, shape (G,)."""
        return _ratio(self.gene_gain, self.gene_counts)

    @property
    def within_spot_pcc(self) -> float:
        """Mean within-spot PCC over the genes that have one."""
        return _mean(self.within_pcc)

    def summary(self) -> dict[str, float]:
        """Return all scores by name, with bootstrap standard errors over spots and over genes."""
        defined = np.isfinite(self.within_pcc)
        weighted = _over(
            float(self.within_pcc[defined] @ self.gene_counts[defined]), float(self.gene_counts[defined].sum())
        )
        summary = {
            "nats_per_count": self.nats_per_count,
            "nats_per_count_se": _error_of_ratio(self.spot_gain, self.spot_counts),
            "nats_per_gene": _mean(self.gene_nats),
            "totals": self.totals,
            "composition": self.composition,
            "within_spot_pcc": self.within_spot_pcc,
            "within_spot_pcc_se": _error_of_ratio(self.within_pcc[defined], np.ones(int(defined.sum()))),
            "within_spot_pcc_weighted": weighted,
            "pcc": _mean(self.pcc),
            "rmse": _mean(self.rmse),
            "ssim": _mean(self.ssim),
            "seam_ratio": self.seam_ratio,
            "seam_ratio_truth": self.seam_ratio_truth,
            "seam_ratio_totals": self.seam_ratio_totals,
            "seam_ratio_totals_truth": self.seam_ratio_totals_truth,
            "spread_skill": self.spread_skill,
            "mass_error": self.mass_error,
        }
        for level, of_all, of_high_count in zip(COVERAGES, self.coverage, self.coverage_high_count, strict=True):
            summary |= {f"coverage_{level * 100:.0f}": of_all, f"coverage_{level * 100:.0f}_deep": of_high_count}
        return summary

    def strata(self) -> list[Stratum]:
        """Return the scores by gene depth, from low- to high-count genes; empty strata are skipped."""
        depth = self.gene_counts / max(1, int(np.sum(self.spot_counts > 0)))
        strata = []
        for low, high in pairwise(_STRATUM_EDGES):
            in_stratum = (depth >= low) & (depth < high) & (self.gene_counts > 0)
            if in_stratum.any():
                strata.append(
                    Stratum(
                        low=low,
                        high=high,
                        n_genes=int(in_stratum.sum()),
                        nats_per_count=_over(self.gene_gain[in_stratum].sum(), self.gene_counts[in_stratum].sum()),
                        within_spot_pcc=_mean(self.within_pcc[in_stratum]),
                    )
                )
        return strata


def score_ratios(
    truth: sparse.csr_matrix,
    ratios: np.ndarray | Callable[[np.ndarray], np.ndarray],
    layout: SpotPixelMap,
    *,
    raster: Raster | None = None,
    concentration: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> Scores:
    """Score predicted ratios against the truth.

    Parameters
    ----------
    truth
        Counts of each pixel, sparse, shape (Q, G).
    ratios
        Predicted ratios, shape (Q, G), or a function from an array of columns to their ratios. With a function, the
        ratios are never in memory as a whole.
    layout
        Spots and pixels.
    raster
        Raster of the pixels, for SSIM; None skips SSIM.
    concentration
        Function from counts n of spots to the concentration A of the Dirichlet-multinomial around the ratios; None for
        multinomial counts.
    seed
        Random seed of the randomized coverage.
    """
    predict = ratios if callable(ratios) else lambda columns: ratios[:, columns]
    truth = sparse.csc_matrix(truth, dtype=np.float64)
    n_pixels, n_genes = truth.shape
    parent, uniform = layout.parent, 1.0 / layout.n_pixels_per_spot[layout.parent][:, None]
    gene = {name: np.full(n_genes, np.nan) for name in ("gain", "within", "pcc", "rmse", "ssim")}
    gene_counts = np.asarray(truth.sum(axis=0)).ravel()
    pixel_counts = np.asarray(truth.sum(axis=1)).ravel()
    pixel_gain, pixel_share, pixel_mean = np.zeros(n_pixels), np.zeros(n_pixels), np.zeros(n_pixels)
    has_ssim = np.zeros(n_genes, dtype=bool)
    has_ssim[np.argsort(-gene_counts, kind="stable")[:_N_SSIM_GENES]] = True
    seams, jumps = Seams(layout), np.zeros((2, 2))
    rng, block_size = np.random.default_rng(seed), max(1, _BLOCK_ENTRIES // max(n_pixels, 1))
    covered, n_drawn, mass_error = np.zeros((2, len(COVERAGES))), np.zeros(2), 0.0
    predicted_variance, squared_error = 0.0, 0.0
    per_block = _COVERAGE_DRAWS * min(block_size, n_genes) // max(n_genes, 1) + 1

    for start in range(0, n_genes, block_size):
        columns = np.arange(start, min(start + block_size, n_genes))
        y, r = truth[:, columns].toarray(), np.asarray(predict(columns), dtype=np.float64)
        n = (layout.membership @ y)[parent]
        sums = (layout.membership @ r)[layout.n_pixels_per_spot > 0]
        mass_error = max(mass_error, float(np.abs(sums - 1).max(initial=0)))
        smoothed = (1 - _UNIFORM_WEIGHT) * r + _UNIFORM_WEIGHT * uniform
        gain = y * np.log(smoothed / uniform)
        gene["gain"][columns] = gain.sum(axis=0)
        pixel_gain += gain.sum(axis=1)
        pixel_share += (n * smoothed).sum(axis=1)
        mean = n * r
        gene["within"][columns] = correlate(y - n * uniform, mean - n * uniform)
        gene["pcc"][columns] = correlate(y - y.mean(axis=0), mean - mean.mean(axis=0))
        gene["rmse"][columns] = np.sqrt(np.mean((y - mean) ** 2, axis=0))
        a = None if concentration is None else np.asarray(concentration(n))
        hits, drawn = count_covered(y, n, r, a, rng, per_block)
        covered, n_drawn = covered + hits, n_drawn + drawn
        predicted_variance += float((mean * (1 - r) * (1.0 if a is None else (n + a) / (1 + a))).sum())
        squared_error += float(((y - mean) ** 2).sum())
        pixel_mean += mean.sum(axis=1)
        jumps += np.stack([seams.jumps(y), seams.jumps(mean)])
        if raster is not None:
            for column in columns[has_ssim[columns] & (gene_counts[columns] > 0)]:
                gene["ssim"][column] = similarity(raster, y[:, column - start], mean[:, column - start])

    total = layout.membership @ pixel_counts
    share = _ratio(pixel_share, total[parent])
    nonzero = pixel_counts > 0
    totals = _over(
        float(pixel_counts[nonzero] @ np.log(share[nonzero] / uniform[nonzero, 0])), float(pixel_counts.sum())
    )
    jumps_of_totals = np.stack([seams.jumps(pixel_counts[:, None]), seams.jumps(pixel_mean[:, None])])
    coverage = _ratio(covered, np.broadcast_to(n_drawn[:, None], covered.shape))
    return Scores(
        gene_counts=gene_counts,
        gene_gain=gene["gain"],
        spot_counts=total,
        spot_gain=layout.membership @ pixel_gain,
        within_pcc=gene["within"],
        pcc=gene["pcc"],
        rmse=gene["rmse"],
        ssim=gene["ssim"],
        totals=totals,
        seam_ratio=_over(*jumps[1]),
        seam_ratio_truth=_over(*jumps[0]),
        seam_ratio_totals=_over(*jumps_of_totals[1]),
        seam_ratio_totals_truth=_over(*jumps_of_totals[0]),
        coverage=tuple(coverage[0].tolist()),
        coverage_high_count=tuple(coverage[1].tolist()),
        spread_skill=float(np.sqrt(_over(predicted_variance, squared_error))),
        mass_error=mass_error,
    )


def fraction_better(scores: Scores, baseline: Scores) -> float:
    """Return the fraction of genes with counts that gain more nats than under a baseline."""
    has_counts = scores.gene_counts > 0
    return _mean((scores.gene_gain[has_counts] > baseline.gene_gain[has_counts]).astype(float))


def gain_over(
    scores: Scores, baseline: Scores, over: Literal["spots", "genes"] | np.ndarray = "spots"
) -> tuple[float, float]:
    """Return the difference in nats per count to a baseline, with its paired bootstrap standard error.

    Parameters
    ----------
    scores, baseline
        Scores of two methods on the same truth.
    over
        What the bootstrap resamples: "spots", "genes", or blocks of spots, given as the block index of each spot,
        shape (N,). Neighboring spots are alike, so an error over blocks is larger than one over spots.
    """
    if isinstance(over, str) and over == "genes":
        difference, counts = scores.gene_gain - baseline.gene_gain, scores.gene_counts
    else:
        difference, counts = scores.spot_gain - baseline.spot_gain, scores.spot_counts
    if isinstance(over, np.ndarray):
        difference, counts = np.bincount(over, difference), np.bincount(over, counts)
        difference, counts = difference[counts > 0], counts[counts > 0]
    return _over(float(difference.sum()), float(counts.sum())), _error_of_ratio(difference, counts)


def _error_of_ratio(over: np.ndarray, under: np.ndarray) -> float:
    """Return the bootstrap standard error of ``sum(over) / sum(under)``, resampling their common entries."""
    if len(over) < 2 or under.sum() <= 0:
        return np.nan
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(over), np.full(len(over), 1 / len(over)), size=_BOOTSTRAPS)
    return float(np.nanstd(_ratio(times @ over, times @ under), ddof=1))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)


def _over(a: float, b: float) -> float:
    if b > 0:
        return float(a) / float(b)
    return np.inf if a > 0 else np.nan


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else np.nan
