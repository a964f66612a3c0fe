"""Everything that is learned of one slide before a pixel of it is split: its feature pool and its calibration.

Made once for a slide and a checkpoint, then kept in memory, so that a second region costs only its own work.

Shape legend: N spots, Q pixels, G genes, F fields, E experts.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import sparse

from napari_srast.geometry.lattice import Lattice, detect_lattice
from napari_srast.geometry.layout import Layout
from napari_srast.geometry.partition import patches
from napari_srast.geometry.rebin import Coarsened, coarsen_slide
from napari_srast.interpolation import Interpolator, Surroundings
from napari_srast.models.calibration import POOL, Calibration, Check, fit_calibration, pool_ratios
from napari_srast.models.checkpoint import Checkpoint
from napari_srast.models.features import FeaturePool, SpotFeatures
from napari_srast.models.fields import FieldSummary
from napari_srast.models.pcfm.condition import EXPERTS, Condition, Geometry, condition_fields
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.sampler import Sampler
from napari_srast.models.sasa import fit_sasa
from napari_srast.models.uncertainty import TYPICAL, Concentration, check_concentration

__all__ = [
    "FEWEST_COUNTS",
    "CoarseSlide",
    "Experts",
    "GeneCheck",
    "Refine",
    "SlideModel",
    "calibration_genes",
    "coarsened_variants",
    "fallen_back",
    "fit_slide_model",
    "log_experts_of",
    "slide_key",
]

_CALIBRATION_GENES = 160
_CALIBRATION_SPOTS = 6000  # at the most: a few weights are told by so many
_CALIBRATION_PATCHES = 4  # that they lie in, where the slide has more
_FEWEST_COARSE_SPOTS = 6
_MOST_VARIANTS = 4
_ENOUGH_COARSE_SPOTS = 300
FEWEST_COUNTS = 20
"""A gene with fewer in the check has no skill that could be told from chance."""
_KEPT = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Experts:
    """All experts of the pool on one layout.

    Parameters
    ----------
    layout, pool, geometry, interpolator
        Of the slide (or of the slide coarsened once).
    network
        The flow.
    """

    layout: Layout
    pool: FeaturePool | SpotFeatures
    geometry: Geometry
    interpolator: Interpolator
    network: DiT

    @classmethod
    def on(
        cls,
        layout: Layout,
        pool: FeaturePool | SpotFeatures,
        network: DiT,
        surroundings: Surroundings | None = None,
    ) -> Experts:
        """Prepare the experts for a layout, or for a part of a slide with its surroundings."""
        geometry = Geometry.of_layout(layout, pool)
        interpolator = Interpolator(layout, surroundings)
        return cls(layout=layout, pool=pool, geometry=geometry, interpolator=interpolator, network=network)

    def predict(
        self,
        counts: sparse.csr_matrix,
        should_stop: Callable[[], bool] | None = None,
        known: FieldSummary | None = None,
    ) -> tuple[Condition, np.ndarray]:
        """Return the condition of fields (N, F), and the experts' log ratios (E, Q, F) in the order of the pool.

        A part of a slide needs what is ``known`` of the fields over the whole of it.
        """
        condition = condition_fields(self.layout, self.pool, self.geometry, self.interpolator, counts, known)
        return condition, log_experts_of(self.network, condition, self.layout, should_stop)


def log_experts_of(
    network: DiT, condition: Condition, layout: Layout, should_stop: Callable[[], bool] | None = None
) -> np.ndarray:
    """Return the experts' log ratios of fields whose condition is known, (E, Q, F) in the order of the pool."""
    flow = Sampler().mean(network, condition, should_stop)
    log_k = np.log(layout.n_pixels_of_spot[layout.parent])[:, None]
    told = {name: condition.experts[i].numpy() - log_k for i, name in enumerate(EXPERTS)}
    return np.stack([flow if name == "pcfm" else told[name] for name in POOL]).astype(np.float64)


Refine = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Takes the number of a coarsened slide, the pool's log ratios there (Q, F) and the coarse spots' counts (N, F), and
returns better log ratios: the image's part in the check."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneCheck:
    """How well genes were split in the check on the coarsened slide.

    Parameters
    ----------
    skill
        Nats per count of the pool over the even split, shape (F,); NaN where the check had under 20 counts.
    error
        Its standard error over spots, shape (F,).
    best
        The best single interpolation for each gene, shape (F,).
    best_skill
        And its nats per count, shape (F,).
    """

    skill: np.ndarray
    error: np.ndarray
    best: np.ndarray
    best_skill: np.ndarray

    @classmethod
    def unknown(cls, n_fields: int) -> GeneCheck:
        """Return the check of a slide that is too small to be coarsened."""
        nothing = np.full(n_fields, np.nan)
        return cls(skill=nothing, error=nothing, best=np.full(n_fields, "uniform", dtype=object), best_skill=nothing)

    @classmethod
    def of(cls, checks: Sequence[Check], calibration: Calibration, refine: Refine | None = None) -> GeneCheck:
        """Score genes on a slide coarsened once, in one way or in several; ``refine`` tells what else is known."""
        pooled = [
            pool_ratios(check.log_experts, check.counts, check.layout, calibration, check=True) for check in checks
        ]
        if refine is not None:
            pooled = [refine(i, told, check.counts) for i, (told, check) in enumerate(zip(pooled, checks, strict=True))]
        skill, error = _skill(pooled, checks)
        skill[sum(check.truth.sum(axis=0) for check in checks) < FEWEST_COUNTS * len(checks)] = np.nan
        singles = np.stack([_skill([check.log_experts[e] for check in checks], checks)[0] for e in range(1, len(POOL))])
        best = np.argmax(np.nan_to_num(singles, nan=-np.inf), axis=0)
        names = np.array(POOL[1:], dtype=object)
        return cls(skill=skill, error=error, best=names[best], best_skill=np.take_along_axis(singles, best[None], 0)[0])

    def fall_back(self) -> np.ndarray:
        """Return the method for each gene: the pool, unless it loses to the even split beyond its standard error."""
        lost = np.nan_to_num(self.skill, nan=0.0) < -np.nan_to_num(self.error, nan=0.0)
        other = np.where(np.nan_to_num(self.best_skill, nan=0.0) > 0, self.best, "uniform")
        return np.where(lost, other, "srast")


def fallen_back(log_ratio: np.ndarray, log_experts: np.ndarray, methods: np.ndarray) -> np.ndarray:
    """Return log ratios (Q, F) with genes (F,) that fell back split by their own method, an expert or even.

    Parameters
    ----------
    log_ratio, log_experts
        Of the pool (Q, F) and of its experts (E, Q, F).
    methods
        As :meth:`GeneCheck.fall_back` says, shape (F,).
    """
    log_ratio = log_ratio.copy()
    for expert, name in enumerate(POOL):
        chosen = methods == name
        log_ratio[:, chosen] = log_experts[expert][:, chosen]
    log_ratio[:, methods == "uniform"] = 0.0
    return log_ratio


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseSlide:
    """A slide coarsened once in one way.

    Parameters
    ----------
    experts
        On the coarsened slide.
    counts, truth
        Counts of the coarse spots (N', G) and of their pixels, which are spots of the slide (Q', G).
    origin
        By how much the slide's own frame lies beside that of the coarse layout, shape (2,).
    """

    experts: Experts
    counts: sparse.csr_matrix
    truth: sparse.csr_matrix
    origin: np.ndarray

    def ask(self, columns: np.ndarray, should_stop: Callable[[], bool] | None = None) -> Check:
        """Return what the experts say of some genes, beside their truth."""
        counts = self.counts[:, columns]
        _, log_experts = self.experts.predict(counts, should_stop)
        truth = self.truth[:, columns].toarray().astype(np.float64)
        return Check(log_experts=log_experts, counts=counts.toarray(), truth=truth, layout=self.experts.layout)


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideModel:
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

    pool: FeaturePool
    calibration: Calibration
    lattice: Lattice
    concentration: Concentration = field(default_factory=TYPICAL.finer)
    coarse: tuple[CoarseSlide, ...] = ()

    @property
    def n_coarse_pixels(self) -> int:
        """Pixels of a coarsened slide."""
        return self.coarse[0].experts.layout.n_pixels if self.coarse else 0

    def check(
        self,
        columns: np.ndarray,
        should_stop: Callable[[], bool] | None = None,
        refine: Refine | None = None,
    ) -> GeneCheck:
        """Score genes on the coarsened slides; ``refine`` gives the pool what else the method knows there."""
        if not self.coarse:
            return GeneCheck.unknown(len(columns))
        checks = [coarse.ask(columns, should_stop) for coarse in self.coarse]
        return GeneCheck.of(checks, self.calibration, refine)


def _skill(log_ratios: Sequence[np.ndarray], checks: Sequence[Check]) -> tuple[np.ndarray, np.ndarray]:
    """Return nats per count over the even split, and its standard error over spots (ratio estimator), (F,) each.

    Several ways of coarsening show the same spots again: they make the figure steadier, the error is as of one.
    """
    gains, masses = [], []
    for log_ratio, check in zip(log_ratios, checks, strict=True):
        log_k = np.log(check.layout.n_pixels_of_spot[check.layout.parent])[:, None]
        gains.append(check.layout.membership @ (check.truth * (log_ratio + log_k)))
        masses.append(check.layout.membership @ check.truth)
    gain, mass = np.concatenate(gains), np.concatenate(masses)
    total = mass.sum(axis=0)
    safe = np.where(total > 0, total, 1)
    skill = gain.sum(axis=0) / safe
    error = np.sqrt(len(checks) * ((gain - skill * mass) ** 2).sum(axis=0)) / safe
    return np.where(total > 0, skill, np.nan), np.where(total > 0, error, np.nan)


def coarsened_variants(
    centers: np.ndarray, counts: sparse.csr_matrix, lattice: Lattice, *, seed: int = 0
) -> Generator[Coarsened, None, None]:
    """Yield a slide coarsened once, a small one in several ways, so that a few hundred coarse spots can be checked."""
    n_seen = 0
    for variant in range(_MOST_VARIANTS):
        coarsened = coarsen_slide(centers, counts, lattice, seed=seed, variant=variant)
        n_targets = 0 if coarsened is None else len(np.unique(coarsened.layout.parent))
        if coarsened is None or n_targets < _FEWEST_COARSE_SPOTS:
            return
        yield coarsened
        n_seen += n_targets
        if n_seen >= _ENOUGH_COARSE_SPOTS:
            return


_cache: OrderedDict[str, SlideModel] = OrderedDict()
_lock = threading.Lock()


def slide_key(counts: sparse.csr_matrix, centers: np.ndarray, *extra: object) -> str:
    """Digest a slide's content, so that its model is found again."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (counts.indptr, counts.indices, counts.data, np.ascontiguousarray(centers)):
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(repr(extra).encode())
    return digest.hexdigest()


def fit_slide_model(
    counts: sparse.csr_matrix,
    centers: np.ndarray,
    lattice: Lattice,
    checkpoint: Checkpoint,
    *,
    seed: int = 0,
    device: str = "cpu",
    calibrate: bool = True,
    should_stop: Callable[[], bool] | None = None,
    fit: Callable[..., FeaturePool] | None = None,
) -> Generator[str, None, SlideModel]:
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
        What fits SASA, with the same bytes; :func:`napari_srast.models.sasa.fit_sasa` by default.
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
        model = SlideModel(pool=pool, lattice=lattice, **checking.result())
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
    fit: Callable[..., FeaturePool],
    *,
    calibrate: bool,
) -> dict[str, Any]:
    """Coarsen a slide and calibrate on it; returns fields of :class:`SlideModel`."""
    coarse = []
    seen = patches(centers, _CALIBRATION_SPOTS, _CALIBRATION_PATCHES)
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
    calibration = fit_calibration(checks, checkpoint.fleet)
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
