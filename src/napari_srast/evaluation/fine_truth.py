"""Evaluate at the scale that is shown: discs with gaps, any factor, an image, and the held-out half of thinned counts.

Every count of a slide of fine bins is assigned at random to one of two halves. One half is measured by an array of
spots and upsampled; the maps are scored on the other half, in pixels. Given the rates the halves are independent. They
share capture efficiency, diffusion and registration. Shape legend: N spots, Q pixels, G genes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from napari_srast._utils.serialize import to_json_values
from napari_srast.api import upsample
from napari_srast.core.progress import CancelCheck, ProgressCallback, RunMonitor
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide
from napari_srast.errors import InputError, value_out_of_range
from napari_srast.evaluation.exact_process import MAX_SPOTS, ExactProcess, shrink_counts
from napari_srast.evaluation.fine_scores import PER_GENE, HeldOutTruth, Maps, MapScores, score_maps
from napari_srast.evaluation.fine_slide import FineSlide
from napari_srast.evaluation.held_out import split
from napari_srast.evaluation.peers.registry import require_peers, run_peer
from napari_srast.evaluation.simulated_array import (
    SimulatedArray,
    check_pixel_size,
    pixels_are_whole_bins,
    spot_membership,
    thin,
    truth_weights,
)
from napari_srast.geometry.raster import Raster

__all__ = ["WITHOUT_IMAGE", "FineEvaluation", "evaluate_fine_truth"]

WITHOUT_IMAGE = "srast without image"
"""Name of the run without the image of the slide."""

_MAX_THINNINGS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class FineEvaluation:
    """Scores of each method on the held-out halves of one slide of fine bins.

    Parameters
    ----------
    name
        Name of the slide.
    genes
        Names of the scored genes, shape (G,).
    scores
        For each method its scores by thinning.
    truth
        For each thinning the figures of the held-out half itself; see
        :class:`~napari_srast.evaluation.fine_scores.HeldOutTruth`.
    settings
        Array, factor, model, seed, number of thinnings and kind of truth.
    n_spots, n_pixels
        Numbers of spots and pixels of the first thinning.
    """

    name: str
    genes: np.ndarray
    scores: Mapping[str, Sequence[MapScores]]
    truth: Sequence[Mapping[str, float]]
    settings: Mapping[str, Any]
    n_spots: int
    n_pixels: int

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the most nats per count on average, chosen on the truth; None without a baseline."""
        baselines = [method for method in self.scores if not method.startswith("srast")]
        return max(baselines, key=lambda method: self.mean(method)["nats_per_count"], default=None)

    def mean(self, method: str) -> dict[str, float]:
        """Return the scores of a method by name, averaged over the thinnings in which they are defined."""
        return _mean([scores.summary() for scores in self.scores[method]])

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as JSON values; undefined and infinite values are None."""
        methods = {}
        for method, thinnings in self.scores.items():
            per_gene = {
                key: np.mean([getattr(scores, f"gene_{key}") for scores in thinnings], axis=0)
                for key in ("nats", *PER_GENE)
            }
            methods[method] = {
                **self.mean(method),
                "thinnings": [scores.summary() for scores in thinnings],
                "genes": per_gene,
            }
        return to_json_values(
            {
                "name": self.name,
                "settings": dict(self.settings),
                "n_spots": self.n_spots,
                "n_pixels": self.n_pixels,
                "n_genes": len(self.genes),
                "genes": [str(gene) for gene in self.genes],
                "best_baseline": self.best_baseline,
                "truth": {**_mean(self.truth), "thinnings": list(self.truth)},
                "methods": methods,
            }
        )


def evaluate_fine_truth(
    slide: FineSlide,
    array: SimulatedArray,
    *,
    settings: UpsampleSettings | None = None,
    thinnings: int = 1,
    peers: Sequence[str] = (),
    progress: ProgressCallback | None = None,
    should_stop: CancelCheck | None = None,
) -> FineEvaluation:
    """Measure how well a slide is recovered from what an array of spots would measure of it.

    Parameters
    ----------
    slide
        The slide of fine bins. With an image, the run is scored with and without it.
    array
        The spots.
    settings
        Settings of the runs, such as factor, model, mode and seed; None for the defaults.
    thinnings
        Number of random thinnings. Thinning i uses seed i, from 0; the seed of the runs is that of the settings.
    peers
        Further methods to score, keys of :data:`napari_srast.evaluation.peers.registry.PEERS`.
    progress
        Called before each method runs.
    should_stop
        Returns True once the evaluation should end.

    Returns
    -------
    FineEvaluation
        Scores of "srast", of "srast without image" if the slide has an image, and of the baseline "gp"
        (:mod:`napari_srast.evaluation.exact_process`; left out above 4000 spots), and of the peers.

    Raises
    ------
    InputError
        The counts are not whole numbers, or too few spots have enough counts.
    SettingsError
        The array does not fit the slide, its bins are larger than the pixels, or a peer cannot run.
    Cancelled
        ``should_stop`` returned True.

    Examples
    --------
    >>> from napari_srast.evaluation.fine_slide import read_fine_slide
    >>> slide = read_fine_slide("kidney.h5ad", image="kidney_he.jpg", genes=120)  # doctest: +SKIP
    >>> array = SimulatedArray(pitch=96, spot_diameter=55)  # doctest: +SKIP
    >>> evaluate_fine_truth(slide, array, settings=UpsampleSettings(factor=6), thinnings=3)  # doctest: +SKIP
    """
    if not 1 <= thinnings <= _MAX_THINNINGS:
        raise value_out_of_range("number of thinnings", thinnings, f"between 1 and {_MAX_THINNINGS}")
    settings = UpsampleSettings() if settings is None else settings
    check_pixel_size(array.pitch / settings.factor, slide.bin_side)
    monitor = RunMonitor(on_progress=progress, should_stop=should_stop)
    scores: dict[str, list[MapScores]] = {}
    truths: list[HeldOutTruth] = []
    n_spots = 0
    require_peers(peers, has_image=slide.image is not None)
    peers = tuple(dict.fromkeys(peers))
    steps = ["srast", *([WITHOUT_IMAGE] if slide.image is not None else []), "gp", *peers]
    for thinning in range(thinnings):
        half, held_out = thin(slide.counts, thinning)
        measured, covered = _measure(slide, array, half)
        truth: HeldOutTruth | None = None
        for i, method in enumerate(steps):
            monitor.check_canceled()
            step = thinning * len(steps) + i
            monitor.report(f"evaluate {method}, thinning {thinning + 1}", step, thinnings * len(steps))
            if method == "gp" and measured.n_spots > MAX_SPOTS:
                continue
            start = time.perf_counter()
            if method == "gp":
                assert truth is not None
                maps = _process_maps(measured, truth, array.pitch)
            elif method in peers:
                assert truth is not None
                maps = _peer_maps(method, measured, truth)
            else:
                result = upsample(
                    replace(measured, image=None) if method == WITHOUT_IMAGE else measured,
                    settings=settings,
                    should_stop=should_stop,
                )
                maps = _maps_of(result)
                if truth is None:
                    truth = _hold_out(slide, result.raster, held_out, half, covered)
                assert np.array_equal(result.raster.parent, truth.raster.parent), "the runs used different rasters"
            seconds = time.perf_counter() - start
            scores.setdefault(method, []).append(score_maps(maps, truth, measured.counts, seconds=seconds))
        assert truth is not None
        truths.append(truth)
        n_spots = n_spots or measured.n_spots
    monitor.report("evaluate", thinnings * len(steps), thinnings * len(steps))
    whole = pixels_are_whole_bins(truths[0].raster.pixel_size, slide.bin_side)
    return FineEvaluation(
        name=slide.name,
        genes=slide.genes,
        scores=scores,
        truth=[truth.summary() for truth in truths],
        settings={
            "pitch": array.pitch,
            "lattice": array.lattice,
            "spot_diameter": array.spot_diameter,
            "factor": settings.factor,
            "model": settings.model,
            "mode": settings.mode,
            "seed": settings.seed,
            "thinned": True,
            "thinnings": thinnings,
            "bin_side": slide.bin_side,
            "pixel_size": truths[0].raster.pixel_size,
            "measured_fraction": truths[0].measured_fraction,
            "truth": "points" if slide.bin_side == 0 else "whole bins" if whole else "shares of bins by area",
            "image": None if slide.image is None else slide.image.name,
        },
        n_spots=n_spots,
        n_pixels=truths[0].raster.n_pixels,
    )


def _measure(slide: FineSlide, array: SimulatedArray, half: sparse.csr_matrix) -> tuple[Slide, int]:
    """Return the slide that the array makes of one half, and the number of bins that its spots cover."""
    centers = array.centers(slide.points.max(axis=0))
    membership = spot_membership(array, centers, slide.points)
    counts = sparse.csr_matrix(membership @ half)
    kept = np.flatnonzero(np.asarray(counts.sum(axis=1)).ravel() >= array.min_counts)
    if len(kept) < 2:
        raise InputError(
            f"Only {len(kept)} spots of '{slide.name}' have {array.min_counts:g} counts or more; use a larger pitch or "
            "spot diameter, or more genes."
        )
    square = array.spot_diameter is None and array.lattice == "square"
    measured = Slide(
        counts=sparse.csr_matrix(counts[kept], dtype=np.float32),
        genes=slide.genes,
        spot_ids=np.array([f"s{i}" for i in range(len(kept))]),
        centers=centers[kept],
        spot_diameter=array.pitch if array.spot_diameter is None else array.spot_diameter,
        spot_shape="square" if square else "circle",
        unit=slide.unit,
        image=slide.image,
    )
    return measured, int(membership[kept].nnz)


def _hold_out(
    slide: FineSlide, raster: Raster, held_out: sparse.csr_matrix, half: sparse.csr_matrix, n_covered: int
) -> HeldOutTruth:
    weights = truth_weights(raster, slide.points, slide.bin_side)
    return HeldOutTruth(
        raster=raster,
        counts=sparse.csc_matrix(weights @ held_out),
        other_half=sparse.csc_matrix(weights @ half),
        measured_fraction=n_covered / max(float(weights.sum()), 1.0),
        is_whole=pixels_are_whole_bins(raster.pixel_size, slide.bin_side),
        has_bins=np.ones(raster.n_pixels, dtype=bool)
        if slide.bin_side == 0
        else np.asarray(weights.sum(axis=1)).ravel() > 0,
    )


def _maps_of(result: UpsampleResult) -> Maps:
    expression = result.expression
    return Maps(
        counts=sparse.csc_matrix(result.counts),
        expression=None if expression is None else sparse.csc_matrix(expression),
        expression_std=None if result.expression_std is None else sparse.csc_matrix(result.expression_std),
        expression_columns=None if expression is None else np.asarray(result.expression_columns),
        skill=np.asarray(result.skill, dtype=float),
    )


def _process_maps(measured: Slide, truth: HeldOutTruth, pitch: float) -> Maps:
    """Predict by the Gaussian process, conserving counts; expression multiplies ratios by the posterior of each spot.

    Ratios are those of the counts, uniform in a spot without counts.
    """
    counts, parent = measured.counts.toarray().astype(float), truth.raster.parent
    process = ExactProcess(measured.centers, counts, pitch)
    conserved = split(process.at(truth.raster.centers), parent) * counts[parent]
    rate = shrink_counts(process.left_out(), counts)
    return Maps(counts=conserved, expression=split(conserved, parent) * rate[parent])


def _peer_maps(name: str, measured: Slide, truth: HeldOutTruth) -> Maps:
    """Divide the counts in proportion to a peer's intensities, which also serve as its expression."""
    intensity = run_peer(name, measured, truth.raster)
    parent = truth.raster.parent
    return Maps(counts=split(intensity, parent) * measured.counts.toarray()[parent], expression=intensity)


def _mean(thinnings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: _finite_mean(np.array([values[key] for values in thinnings])) for key in thinnings[0]}


def _finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else np.nan
