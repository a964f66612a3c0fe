"""Fit a slide before its tiles are predicted: SASA features, calibration, and the coarsened slide.

A fitted slide stays in memory, so that a second region of the same slide only needs its own tiles. What took time can
also be stored on the disk (:mod:`napari_srast.inference.fit_cache`).

Shape legend: N spots, G genes, F chosen genes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import sparse

from napari_srast._utils.devices import choose_device
from napari_srast._utils.free_memory import release_free_memory
from napari_srast._utils.threads import limit_torch_to_one_thread
from napari_srast.calibration.dispersion import DEFAULT_CONCENTRATION, Concentration, fit_holdout_concentration
from napari_srast.calibration.experts import Experts
from napari_srast.calibration.holdout import CoarseSlide, LogRatioAdjustment, coarsened_variants
from napari_srast.calibration.pooling import PoolWeights
from napari_srast.calibration.skill import GeneSkill
from napari_srast.calibration.weight_fitting import fit_pool_weights
from napari_srast.checkpoints.storage import Checkpoint, load_checkpoint
from napari_srast.core.limits import MAX_CALIBRATION_GENES, MAX_HOLDOUT_PATCHES, MAX_HOLDOUT_SPOTS
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.geometry.bisection import sample_patches
from napari_srast.geometry.coarsening import CoarsenedSlide
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.inference.fit_cache import FitCache, FitMemory, digest_of
from napari_srast.inference.job import UpsampleJob
from napari_srast.models.pcfm.sampler import FlowSampler
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding
from napari_srast.models.sasa.fitting import fit_sasa

__all__ = ["FittedSlide", "SlideInput", "calibration_genes", "fit_slide"]

_MAX_CACHED = 4
_MIN_CALIBRATION_COUNTS = 20  # of a gene on the coarsened slide


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideInput:
    """Everything that the fit of a slide depends on.

    Parameters
    ----------
    counts, centers
        Counts and centers of all spots, shape (N, G) and (N, 2).
    lattice
        Lattice of the spots.
    checkpoint
        The flow, the configuration of SASA, and the priors of the calibration.
    seed, device
        Seed, and device of the network.
    known_digest
        The digest, if it was computed before.
    """

    counts: sparse.csr_matrix
    centers: np.ndarray
    lattice: Lattice
    checkpoint: Checkpoint
    seed: int = 0
    device: str = "cpu"
    known_digest: str | None = None

    @classmethod
    def of_job(cls, job: UpsampleJob) -> SlideInput:
        """Return the input of a job, with its checkpoint loaded on its device."""
        device = choose_device(job.settings.device)
        checkpoint = load_checkpoint(job.settings.model)
        checkpoint.network.to(device)
        return cls(
            counts=job.counts,
            centers=job.centers,
            lattice=job.lattice,
            checkpoint=checkpoint,
            seed=job.settings.seed,
            device=device,
            known_digest=job.slide_digest,
        )

    @cached_property
    def digest(self) -> str:
        """Hash of counts, centers and lattice."""
        return self.known_digest or digest_of(
            self.counts.indptr, self.counts.indices, self.counts.data, self.centers, self.lattice
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Calibration:
    """Calibration of a slide, and the embeddings of the coarsened slides that it was fitted on."""

    weights: PoolWeights
    concentration: Concentration = field(default_factory=DEFAULT_CONCENTRATION.finer)
    coarse: tuple[SlideEmbedding, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _StoredFit:
    """What takes time to compute of a :class:`FittedSlide`."""

    embedding: SlideEmbedding
    calibration: _Calibration


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedSlide:
    """SASA features and calibration of a slide.

    Parameters
    ----------
    embedding
        SASA features of the spots.
    lattice
        Lattice of the spots.
    weights
        Weights of the pool.
    concentration
        Concentration of true counts around the pool; a default for a slide that is too small to fit it.
    coarse
        The coarsened slide, one for each variant; none for a slide that is too small.
    """

    embedding: SlideEmbedding
    lattice: Lattice
    weights: PoolWeights
    concentration: Concentration
    coarse: tuple[CoarseSlide, ...]

    @property
    def n_coarse_pixels(self) -> int:
        """Number of pixels of a coarsened slide; 0 without one."""
        return self.coarse[0].experts.layout.n_pixels if self.coarse else 0

    def score_genes(
        self, columns: np.ndarray, monitor: RunMonitor = NO_MONITOR, adjust: LogRatioAdjustment | None = None
    ) -> GeneSkill:
        """Score genes on the coarsened slides.

        Parameters
        ----------
        columns
            The genes, as columns of the slide's counts, shape (F,).
        monitor
            Asked for cancellation.
        adjust
            Adds other evidence to the pool's log ratios. Default: none.
        """
        if not self.coarse:
            return GeneSkill.unknown(len(columns))
        return GeneSkill.from_predictions(
            [slide.predict(columns, monitor) for slide in self.coarse], self.weights, adjust
        )


class _FittedSlides(FitMemory[FittedSlide]):
    """The last fitted slides."""

    def __init__(self) -> None:
        parts = (PoolWeights, Concentration, SlideEmbedding, SasaConfig)
        super().__init__((_StoredFit, _Calibration, *parts), max_fits=_MAX_CACHED)


_cache = _FittedSlides()


def fit_slide(
    slide: SlideInput,
    monitor: RunMonitor = NO_MONITOR,
    fit: Callable[..., SlideEmbedding] | None = None,
    cache: FitCache | None = None,
    afterwards: Callable[[], object] = lambda: None,
) -> FittedSlide:
    """Fit SASA to a slide and calibrate the experts on it, or return the cached fit.

    Parameters
    ----------
    slide
        The slide with its checkpoint and options.
    monitor
        Receives the progress of the stages "align" and "calibrate", whose last step is left to the caller, and is
        asked for cancellation.
    fit
        Replacement for :func:`napari_srast.models.sasa.fitting.fit_sasa` that gives the same bytes. Default: that
        function.
    cache
        Disk cache, which changes no byte. Default: none.
    afterwards
        Another fit that the caller will need, and that is cached as well: it is called on the core that is free after
        the calibration, while SASA is still being fitted. Default: none.
    """
    key = digest_of("fit", slide.digest, slide.checkpoint.sha256, slide.seed, slide.device)
    return _cache.get(
        key,
        lambda: _fit(slide, monitor, fit or fit_sasa, afterwards),
        lambda stored: _assemble(slide, stored),
        file_key=lambda: (slide.digest, key),
        cache=cache,
        monitor=monitor,
    )


def _fit(
    slide: SlideInput,
    monitor: RunMonitor,
    fit: Callable[..., SlideEmbedding],
    afterwards: Callable[[], object],
) -> _StoredFit:
    _report(monitor, "align", 0)
    failed = threading.Event()

    def calibrate() -> _Calibration:
        calibration = _calibrate(slide, monitor, fit)
        if not failed.is_set():
            afterwards()
        return calibration

    # The calibration needs the features of the coarsened slide only, so both fits run at the same time, on a core each.
    with ThreadPoolExecutor(1, "napari-srast-calibrate", limit_torch_to_one_thread) as thread:
        calibration = thread.submit(calibrate)
        try:
            embedding = fit(
                slide.counts,
                slide.centers,
                slide.lattice,
                config=slide.checkpoint.sasa,
                seed=slide.seed,
                device=slide.device,
                monitor=monitor,
            )
            _report(monitor, "align", 1)
            _report(monitor, "calibrate", 0)
        except BaseException:
            failed.set()
            raise
        result = calibration.result()
    release_free_memory()
    return _StoredFit(embedding=embedding, calibration=result)


def _report(monitor: RunMonitor, stage: str, done: int) -> None:
    monitor.report(stage, done, 1)
    monitor.check_canceled()


def _assemble(slide: SlideInput, stored: _StoredFit) -> FittedSlide:
    calibration = stored.calibration
    coarsened = _coarsened(slide) if calibration.coarse else iter(())
    coarse = tuple(
        _coarse_slide(slide, one, embedding) for one, embedding in zip(coarsened, calibration.coarse, strict=True)
    )
    return FittedSlide(
        embedding=stored.embedding,
        lattice=slide.lattice,
        weights=calibration.weights,
        concentration=calibration.concentration,
        coarse=coarse,
    )


def _coarsened(slide: SlideInput) -> Iterator[CoarsenedSlide]:
    """Coarsen a slide, or a sample of a large one."""
    sample = sample_patches(slide.centers, MAX_HOLDOUT_SPOTS, MAX_HOLDOUT_PATCHES)
    return coarsened_variants(slide.centers[sample], slide.counts[sample], slide.lattice, seed=slide.seed)


def _coarse_slide(slide: SlideInput, coarsened: CoarsenedSlide, embedding: SlideEmbedding) -> CoarseSlide:
    sample = sample_patches(slide.centers, MAX_HOLDOUT_SPOTS, MAX_HOLDOUT_PATCHES)
    layout = coarsened.layout
    return CoarseSlide(
        experts=Experts.for_layout(
            layout, embedding, slide.checkpoint.network, sampler=FlowSampler.for_slide(len(slide.centers))
        ),
        counts=coarsened.counts.tocsr(),
        truth=coarsened.truth.tocsr(),
        origin=slide.centers[sample][coarsened.used[0]] - layout.pixels[0],
    )


def _calibrate(slide: SlideInput, monitor: RunMonitor, fit: Callable[..., SlideEmbedding]) -> _Calibration:
    """Coarsen a slide and calibrate the experts on it."""
    checkpoint = slide.checkpoint
    coarse, embeddings = [], []
    for coarsened in _coarsened(slide):
        spots = coarsened.layout.spots
        embedding = fit(
            coarsened.counts.tocsr(),
            spots,
            detect_lattice(spots),
            config=checkpoint.sasa,
            seed=slide.seed,
            device=slide.device,
            monitor=monitor,
        )
        embeddings.append(embedding)
        coarse.append(_coarse_slide(slide, coarsened, embedding))
    if not coarse:
        return _Calibration(weights=checkpoint.priors.mean_weights)
    columns = calibration_genes(coarse[0].counts)
    predictions = [one.predict(columns, monitor) for one in coarse]
    weights = fit_pool_weights(predictions, checkpoint.priors)
    return _Calibration(
        weights=weights,
        concentration=fit_holdout_concentration(predictions, weights),
        coarse=tuple(embeddings),
    )


def calibration_genes(counts: sparse.csr_matrix) -> np.ndarray:
    """Choose genes of all count levels, high-count genes more densely, without a random draw; returns their columns."""
    totals = np.asarray(counts.sum(axis=0)).ravel()
    usable = np.flatnonzero(totals >= _MIN_CALIBRATION_COUNTS)
    ranked = usable[np.argsort(-totals[usable], kind="stable")]
    if len(ranked) <= MAX_CALIBRATION_GENES:
        return np.sort(ranked)
    rank = np.unique(np.rint(np.linspace(0, 1, MAX_CALIBRATION_GENES) ** 1.5 * (len(ranked) - 1)).astype(int))
    return np.sort(ranked[rank])
