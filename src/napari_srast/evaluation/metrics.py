"""Scores of predicted ratios against known counts of every pixel.

What is scored is always the split, never the totals: predicted ratios ``r`` are set against the truth ``y`` with the
truth's own sums ``n`` over each spot's pixels, so the same code serves thinned truth and truth of another depth.

Shape legend: N spots, Q pixels, G genes, F genes of a block, K pixels of a spot; k a pixel, i its spot, g a gene.

======================  ==========================================================================================
nats per count          ``sum_kg y log(K r') / sum y``: gain of the multinomial log-likelihood over the even split, for
                        ``r' = (1 - e) r + e / K`` with e = 0.001, so that no zero is infinitely wrong. Below 0: worse
                        than doing nothing.
totals                  The same for all genes added up: ``sum_k T log(K R) / sum T`` with ``T_k = sum_g y_kg`` and
                        ``R_k = sum_g n_ig r'_kg / sum_g n_ig``. How well the cell density is told.
composition             ``sum_kg y log(r' / R) / sum y``, which is nats per count minus totals. What a gene's own map
                        adds beyond the pixels' totals.
within-spot PCC         Pearson correlation of ``y - n/K`` and ``n r - n/K`` over the pixels, for each gene; 0 for a
                        flat prediction, undefined for a gene whose truth is flat. Its mean over genes, plain and
                        weighted by the genes' counts.
PCC, RMSE, SSIM         Of ``y`` and ``n r``, for each gene; inflated by the spots' totals, which every method has
                        right. SSIM after Wang et al. 2004 (doi:10.1109/TIP.2003.819861), Gaussian window of 1.5 pixels.
seam ratio              Mean jump between touching pixels of different spots over that inside spots. To be read against
                        the truth's own: counts of different spots differ, seams or not. Also of all genes added up,
                        where chance plays a smaller part.
coverage                Share of counts inside the central 50, 80 and 95 % of their predictive distribution, by the
                        randomized probability integral transform: a calibrated prediction covers just so many. It is
                        Binomial(n, r), or where a concentration A is given Beta-binomial(n, A r, A (1 - r)), the
                        margin of a Dirichlet-multinomial. Also of pairs of a spot and a gene with 10 counts or more
                        alone: those with fewer scatter much the same whatever is predicted.
spread-skill            Root of the mean predicted variance over that of the mean squared error; 1 where calibrated.
mass error              Largest ``|sum r - 1|`` over the pixels of a spot.
======================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import ndimage, sparse, stats

from napari_srast.geometry.raster import Raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["COVERAGES", "Scores", "Stratum", "fraction_better", "gain_over", "score_ratios"]

COVERAGES = (0.5, 0.8, 0.95)
DEPTHS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)  # mean counts per spot, borders of the strata

_DOUBT = 1e-3
_BLOCK = 1 << 22
_SSIM_GENES = 50  # the deepest: images of a few counts have no structure to compare
_COVERAGE_DRAWS = 20_000
_DEEP = 10  # counts of a spot and gene
_BOOTSTRAPS = 200


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Scores of the genes of one depth: ``low <= mean counts per spot < high``."""

    low: float
    high: float
    n_genes: int
    nats_per_count: float
    within_spot_pcc: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Scores of one method on one slide; see the module for their definitions.

    Parameters
    ----------
    gene_counts, gene_gain
        Counts of each gene and the nats gained on them, shape (G,).
    spot_counts, spot_gain
        The same for each spot, shape (N,).
    within_pcc, pcc, rmse, ssim
        For each gene, shape (G,); NaN where undefined or not computed.
    totals
        Nats per count of the pixels' totals.
    seam_ratio, seam_ratio_truth
        Of the prediction and of the truth; infinite without any jump inside spots.
    seam_ratio_totals, seam_ratio_totals_truth
        The same of all genes added up.
    coverage, coverage_deep
        Share of counts covered at each of :data:`COVERAGES`, of all pairs of a spot and a gene with counts, and of
        those with at least 10.
    spread_skill
        Predicted over actual spread.
    mass_error
        Largest deviation of a spot's ratios from sum 1.
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
    coverage_deep: tuple[float, ...]
    spread_skill: float
    mass_error: float

    @property
    def nats_per_count(self) -> float:
        """Mean gain over the even split."""
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
        """Return all figures of the slide by name, with bootstrap standard errors over spots and over genes."""
        defined = np.isfinite(self.within_pcc)
        weighted = _over(
            float(self.within_pcc[defined] @ self.gene_counts[defined]), float(self.gene_counts[defined].sum())
        )
        figures = {
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
        for level, of_all, of_deep in zip(COVERAGES, self.coverage, self.coverage_deep, strict=True):
            figures |= {f"coverage_{level * 100:.0f}": of_all, f"coverage_{level * 100:.0f}_deep": of_deep}
        return figures

    def strata(self) -> list[Stratum]:
        """Return the scores of shallow to deep genes; depths without genes are left out."""
        depth = self.gene_counts / max(1, int(np.sum(self.spot_counts > 0)))
        found = []
        for low, high in pairwise(DEPTHS):
            of_depth = (depth >= low) & (depth < high) & (self.gene_counts > 0)
            if of_depth.any():
                found.append(
                    Stratum(
                        low=low,
                        high=high,
                        n_genes=int(of_depth.sum()),
                        nats_per_count=_over(self.gene_gain[of_depth].sum(), self.gene_counts[of_depth].sum()),
                        within_spot_pcc=_mean(self.within_pcc[of_depth]),
                    )
                )
        return found


def score_ratios(
    truth: sparse.csr_matrix,
    ratios: np.ndarray | Callable[[np.ndarray], np.ndarray],
    layout: SpotPixelMap,
    *,
    raster: Raster | None = None,
    concentration: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> Scores:
    """Score predicted ratios.

    Parameters
    ----------
    truth
        Counts of each pixel, sparse (Q, G).
    ratios
        Predicted ratios (Q, G), or a function that gives them for an array of columns, so that they need never be
        held all at once.
    layout
        Spots and pixels.
    raster
        The raster of the pixels, for SSIM.
    concentration
        Gives the concentration A of the Dirichlet-multinomial around the ratios for counts n of spots; None for
        multinomial counts.
    seed
        Seeds the randomized coverage.
    """
    predict = ratios if callable(ratios) else lambda columns: ratios[:, columns]
    truth = sparse.csc_matrix(truth, dtype=np.float64)
    n_pixels, n_genes = truth.shape
    parent, even = layout.parent, 1.0 / layout.n_pixels_of_spot[layout.parent][:, None]
    gene = {name: np.full(n_genes, np.nan) for name in ("gain", "within", "pcc", "rmse", "ssim")}
    gene_counts = np.asarray(truth.sum(axis=0)).ravel()
    pixel_counts = np.asarray(truth.sum(axis=1)).ravel()
    pixel_gain, pixel_share, pixel_mean = np.zeros(n_pixels), np.zeros(n_pixels), np.zeros(n_pixels)
    deep = np.zeros(n_genes, dtype=bool)
    deep[np.argsort(-gene_counts, kind="stable")[:_SSIM_GENES]] = True
    seams, jumps = _Seams(layout), np.zeros((2, 2))
    rng, at_once = np.random.default_rng(seed), max(1, _BLOCK // max(n_pixels, 1))
    covered, n_drawn, mass_error = np.zeros((2, len(COVERAGES))), np.zeros(2), 0.0
    spread, missed = 0.0, 0.0
    per_block = _COVERAGE_DRAWS * min(at_once, n_genes) // max(n_genes, 1) + 1

    for start in range(0, n_genes, at_once):
        columns = np.arange(start, min(start + at_once, n_genes))
        y, r = truth[:, columns].toarray(), np.asarray(predict(columns), dtype=np.float64)
        n = (layout.membership @ y)[parent]
        sums = (layout.membership @ r)[layout.n_pixels_of_spot > 0]
        mass_error = max(mass_error, float(np.abs(sums - 1).max(initial=0)))
        cautious = (1 - _DOUBT) * r + _DOUBT * even
        gain = y * np.log(cautious / even)
        gene["gain"][columns] = gain.sum(axis=0)
        pixel_gain += gain.sum(axis=1)
        pixel_share += (n * cautious).sum(axis=1)
        mean = n * r
        gene["within"][columns] = _correlation(y - n * even, mean - n * even)
        gene["pcc"][columns] = _correlation(y - y.mean(axis=0), mean - mean.mean(axis=0))
        gene["rmse"][columns] = np.sqrt(np.mean((y - mean) ** 2, axis=0))
        a = None if concentration is None else np.asarray(concentration(n))
        hits, drawn = _coverage(y, n, r, a, rng, per_block)
        covered, n_drawn = covered + hits, n_drawn + drawn
        spread += float((mean * (1 - r) * (1.0 if a is None else (n + a) / (1 + a))).sum())
        missed += float(((y - mean) ** 2).sum())
        pixel_mean += mean.sum(axis=1)
        jumps += seams.jumps(y, mean)
        if raster is not None:
            for column in columns[deep[columns] & (gene_counts[columns] > 0)]:
                gene["ssim"][column] = _ssim(raster, y[:, column - start], mean[:, column - start])

    total = layout.membership @ pixel_counts
    share = _ratio(pixel_share, total[parent])
    some = pixel_counts > 0
    totals = _over(float(pixel_counts[some] @ np.log(share[some] / even[some, 0])), float(pixel_counts.sum()))
    jumps_of_totals = seams.jumps(pixel_counts[:, None], pixel_mean[:, None])
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
        coverage_deep=tuple(coverage[1].tolist()),
        spread_skill=float(np.sqrt(_over(spread, missed))),
        mass_error=mass_error,
    )


def fraction_better(scores: Scores, baseline: Scores) -> float:
    """Return the share of genes with counts that gain more nats than under a baseline."""
    some = scores.gene_counts > 0
    return _mean((scores.gene_gain[some] > baseline.gene_gain[some]).astype(float))


def gain_over(scores: Scores, baseline: Scores, over: Literal["spots", "genes"] = "spots") -> tuple[float, float]:
    """Return nats per count beyond a baseline, with its (paired) bootstrap standard error over spots or genes."""
    if over == "spots":
        difference, counts = scores.spot_gain - baseline.spot_gain, scores.spot_counts
    else:
        difference, counts = scores.gene_gain - baseline.gene_gain, scores.gene_counts
    return _over(float(difference.sum()), float(counts.sum())), _error_of_ratio(difference, counts)


class _Seams:
    """Jumps between touching pixels, across and inside spots, of truth and prediction."""

    def __init__(self, layout: SpotPixelMap) -> None:
        first, second = layout.touching
        inside = layout.parent[first] == layout.parent[second]
        size = len(first)
        jump = sparse.csr_matrix(
            (np.repeat([1.0, -1.0], size), (np.tile(np.arange(size), 2), np.concatenate([first, second]))),
            shape=(size, layout.n_pixels),
        )
        self._across, self._within = jump[~inside], jump[inside]

    def jumps(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return the mean jumps across and inside spots, added up over columns, of truth and prediction: (2, 2)."""
        return np.array(
            [
                [np.abs(pairs @ values).sum() / max(pairs.shape[0], 1) for pairs in (self._across, self._within)]
                for values in (truth, prediction)
            ]
        )


def _coverage(
    y: np.ndarray, n: np.ndarray, r: np.ndarray, a: np.ndarray | None, rng: np.random.Generator, at_most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count covered entries, and entries, among some random ones with counts: of any depth and deep ones."""
    entries = np.flatnonzero(n.ravel() > 0)
    if len(entries) > at_most:
        entries = rng.choice(entries, at_most, replace=False)
    drawn, of, share = y.ravel()[entries], n.ravel()[entries], np.clip(r.ravel()[entries], 0, 1)
    if a is None:
        below, upto = stats.binom.cdf(drawn - 1, of, share), stats.binom.cdf(drawn, of, share)
    else:
        below, upto = _beta_binomial(drawn, of, share, a.ravel()[entries])
    transform = below + rng.uniform(size=len(drawn)) * (upto - below)
    inside = 2 * np.abs(transform - 0.5)[:, None] <= np.array(COVERAGES)
    deep = of >= _DEEP
    return np.stack([inside.sum(axis=0), inside[deep].sum(axis=0)]), np.array([len(entries), deep.sum()])


def _beta_binomial(y: np.ndarray, n: np.ndarray, share: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return P(Y < y) and P(Y <= y) of Beta-binomial(n, a share, a (1 - share)), summing the nearer tail; all (B,)."""
    y, n = np.rint(y).astype(np.int64), np.rint(n).astype(np.int64)
    alpha, beta = np.maximum(a * share, 1e-9), np.maximum(a * (1 - share), 1e-9)
    upper = 2 * y > n
    near = np.where(upper, n - y, y)
    alpha, beta = np.where(upper, beta, alpha), np.where(upper, alpha, beta)
    row = np.repeat(np.arange(len(y)), near + 1)
    start = np.cumsum(near + 1) - near - 1
    chance = stats.betabinom.pmf(np.arange(len(row)) - start[row], n[row], alpha[row], beta[row])
    upto = np.add.reduceat(chance, start) if len(start) else np.zeros(0)
    own = chance[start + near] if len(start) else np.zeros(0)
    return np.where(upper, 1 - upto, upto - own), np.where(upper, 1 - upto + own, upto)


def _ssim(raster: Raster, truth: np.ndarray, prediction: np.ndarray) -> float:
    """Structural similarity of two gene images, over the pixels that have a parent; outside counts as 0."""
    a, b = np.zeros(raster.shape), np.zeros(raster.shape)
    a[raster.row, raster.col], b[raster.row, raster.col] = truth, prediction

    def blur(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, 1.5, truncate=3.5)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    span = np.ptp(truth) or 1.0
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    image = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(image[raster.row, raster.col].mean())


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate the columns of two centerd (Q, F) arrays: NaN where the first is flat, 0 where the second is."""
    power_a, power_b = np.sum(a * a, axis=0), np.sum(b * b, axis=0)
    flat = 1e-12 * len(a)
    both = np.sqrt(np.where(power_b > flat, power_a * power_b, 1.0))
    value = np.where(
        power_b > flat, np.divide(np.sum(a * b, axis=0), both, out=np.zeros_like(both), where=both > 0), 0.0
    )
    return np.where(power_a > flat, value, np.nan)


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
