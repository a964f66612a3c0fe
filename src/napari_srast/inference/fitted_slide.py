"""TODO docstring."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import sparse

from napari_srast.calibration.dispersion import DEFAULT_CONCENTRATION, Concentration, check_concentration
from napari_srast.calibration.experts import Experts
from napari_srast.calibration.fitting import fit_pool_weights
from napari_srast.calibration.holdout import (
    _CALIBRATION_PATCHES,
    _CALIBRATION_SPOTS,
    CoarseSlide,
    LogRatioAdjustment,
    coarsened_variants,
)
from napari_srast.calibration.skill import GeneSkill
from napari_srast.calibration.weights import PoolWeights
from napari_srast.checkpoints.storage import Checkpoint
from napari_srast.geometry.bisection import sample_patches
from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.models.sasa.embedding import SlideEmbedding
from napari_srast.models.sasa.fitting import fit_sasa

__all__ = ["FittedSlide", "calibration_genes", "fit_slide", "slide_key"]

_lock = threading.Lock()
_KEPT = 4
_CALIBRATION_GENES = 160


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedSlide:
    """What is known of a slide: features, calibration, and the coarsened slides that the calibration was made on.

    Parameters
    ----------
    pool
        Features of the spots.
    calibration
        Weights of the experts.
    coarse
        The slide coarsened once, in as many ways as it was looked at; none where the slide is too small.
    lattice
        The slide's lattice.
    concentration
        How counts scatter around the pool; that of a middling slide where this one is too small.
    """

    pool: SlideEmbedding
    calibration: PoolWeights
    lattice: Lattice
    concentration: Concentration = field(default_factory=DEFAULT_CONCENTRATION.finer)
    coarse: tuple[CoarseSlide, ...] = ()

    @property
    def n_coarse_pixels(self) -> int:
        """Pixels of a coarsened slide."""
        return self.coarse[0].experts.layout.n_pixels if self.coarse else 0

    def check(
        self,
        columns: np.ndarray,
        should_stop: Callable[[], bool] | None = None,
        refine: LogRatioAdjustment | None = None,
    ) -> GeneSkill:
        """Score genes on the coarsened slides; ``refine`` gives the pool what else the method knows there."""
        if not self.coarse:
            return GeneSkill.unknown(len(columns))
        checks = [coarse.ask(columns, should_stop) for coarse in self.coarse]
        return GeneSkill.of(checks, self.calibration, refine)


def slide_key(counts: sparse.csr_matrix, centers: np.ndarray, *extra: object) -> str:
    """Digest a slide's content, so that its model is found again."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (counts.indptr, counts.indices, counts.data, np.ascontiguousarray(centers)):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr(extra).encode())
    return digest.hexdigest()


def fit_slide(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    lattice: Lattice,
    checkpoint: Checkpoint,
    *,
    seed: int = 0,
    device: str = "cpu",
    calibrate: bool = True,
    should_stop: Callable[[], bool] | None = None,
    fit: Callable[..., SlideEmbedding] | None = None,
) -> Generator[str, None, FittedSlide]:
    """Fit SASA to a slide and calibrate the experts on it; yields the name of each stage as it begins.

    Parameters
    ----------
    counts, centers
        All spots (N, G), (N, 2).
    lattice
        Their lattice.
    checkpoint
        The flow, SASA's configuration, and the fleet's prior.
    calibrate
        Whether to fit the weights on the slide; otherwise the fleet's are taken.
    fit
        What fits SASA, with the same bytes; :func:`napari_srast.models.sasa.fitting.fit_sasa` by default.
    """
    fit = fit or fit_sasa
    key = slide_key(counts, centers, checkpoint.sha256, seed, device, calibrate)
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    yield "align"
    # The check on the coarsened slide asks nothing of the slide's own features: a core each.
    with ThreadPoolExecutor(1, "napari-srast-check", torch.set_num_threads, (1,)) as beside:
        checking = beside.submit(
            _calibrated, counts, centers, lattice, checkpoint, seed, device, should_stop, fit, calibrate=calibrate
        )
        pool = fit(counts, centers, lattice, config=checkpoint.sasa, seed=seed, device=device, should_stop=should_stop)
        yield "calibrate"
        model = FittedSlide(pool=pool, lattice=lattice, **checking.result())
    with _lock:
        _cache[key] = model
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    return model


def _calibrated(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    lattice: Lattice,
    checkpoint: Checkpoint,
    seed: int,
    device: str,
    should_stop: Callable[[], bool] | None,
    fit: Callable[..., SlideEmbedding],
    *,
    calibrate: bool,
) -> dict[str, Any]:
    """Coarsen a slide and calibrate on it; returns fields of :class:`FittedSlide`."""
    coarse = []
    seen = sample_patches(centers, _CALIBRATION_SPOTS, _CALIBRATION_PATCHES)
    for coarsened in coarsened_variants(centers[seen], counts[seen], lattice, seed=seed) if calibrate else ():
        layout, low = coarsened.layout, coarsened.counts.tocsr()
        coarse_lattice = detect_lattice(layout.spots)
        coarse_pool = fit(
            low, layout.spots, coarse_lattice, config=checkpoint.sasa, seed=seed, device=device, should_stop=should_stop
        )
        experts = Experts.on(layout, coarse_pool, checkpoint.network)
        origin = centers[seen][coarsened.used[0]] - layout.pixels[0]
        coarse.append(CoarseSlide(experts=experts, counts=low, truth=coarsened.truth.tocsr(), origin=origin))
    if not coarse:
        return {"calibration": checkpoint.fleet.calibration}
    columns = calibration_genes(coarse[0].counts)
    checks = [slide.ask(columns, should_stop) for slide in coarse]
    calibration = fit_pool_weights(checks, checkpoint.fleet)
    concentration = check_concentration(checks, calibration)
    return {"calibration": calibration, "concentration": concentration, "coarse": tuple(coarse)}


def calibration_genes(counts: sparse.csr_matrix) -> np.ndarray:
    """Choose genes over the whole range of depth, deep ones denser, without a random draw."""
    totals = np.asarray(counts.sum(axis=0)).ravel()
    usable = np.flatnonzero(totals >= 20)
    ranked = usable[np.argsort(-totals[usable], kind="stable")]
    if len(ranked) <= _CALIBRATION_GENES:
        return np.sort(ranked)
    place = np.unique(np.rint(np.linspace(0, 1, _CALIBRATION_GENES) ** 1.5 * (len(ranked) - 1)).astype(int))
    return np.sort(ranked[place])


_cache: OrderedDict[str, FittedSlide] = OrderedDict()
