"""Pseudo-low-resolution data: slides whose fine truth is known.

A high-resolution slide (cells, beads or fine bins) is laid under a random lattice - hexagonal or square, any rotation,
offset, pitch, factor and depth - and re-binned; a low-resolution slide is coarsened once: its own spots are the truth.
What is known of a case is only what a user's slide would show: SASA is fitted to the coarse counts.

Shape legend: N spots, Q pixels, G genes, F fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import anndata
import numpy as np
import torch
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor

from napari_srast.calibration.holdout import coarsened_variants
from napari_srast.errors import InputError
from napari_srast.geometry.coarsening import bin_points, coarsen_points, coarsen_slide
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Denoiser, Interpolator
from napari_srast.models.pcfm.condition import FlowInputs, SpotNeighborhoods, condition_fields
from napari_srast.models.programs.program_fields import PER_GENE_LIMIT, ProgramFields, fit_program_fields
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding
from napari_srast.models.sasa.fitting import fit_sasa
from napari_srast.simulation.tissues import make_tissue

__all__ = [
    "CASE_FORMAT",
    "PseudoSlide",
    "PseudoSlideSettings",
    "SharedCase",
    "SourceSlide",
    "make_pseudo_slides",
    "prepare_case",
    "read_source",
    "with_pool",
]

CASE_FORMAT = 3
"""Changes with what a case holds: those that an earlier version kept are made anew."""
_FEWEST_SPOTS = 12  # of a coarsened slide


@dataclass(frozen=True, kw_only=True)
class SourceSlide:
    """A file, or a procedural tissue, to train on.

    Parameters
    ----------
    name, study
        Slides of one study, donor or animal stay on one side of any split.
    path
        The .h5ad, counts in X, coordinates in obsm["spatial"]; not used for a procedural tissue.
    resolution
        "high": cells, beads or bins, to be re-binned; "low": spots, to be coarsened once; "procedural": a tissue made
        up from its seed, to be re-binned.
    cases
        How many pseudo-slides are made of it.
    tissue_seed
        Of a procedural tissue.
    """

    name: str
    study: str
    path: Path | None = None
    resolution: str
    cases: int = 4
    tissue_seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoSlideSettings:
    """Ranges that cases are drawn from.

    Parameters
    ----------
    factors
        Pixels per pitch.
    least_spots
        Fewest spots of a case.
    most_observations
        Larger slides are cut to a window of about this many cells.
    cells_per_spot
        Range of cells (beads, bins) of a spot, on average.
    fields
        Most genes of a case; groups of genes are added.
    groups
        Number of gene groups, whose sums are deep fields like programs.
    thinning
        Shares of the counts that are kept, one drawn for each case.
    capture_noise
        Standard deviations, in logs, of the capture efficiency in procedural tissues; one is drawn for the spots of a
        case, one for its pixels, one for each gene of a pixel. Array platforms are so uneven, imaging ones are not: it
        teaches that deep counts need not be sure.
    missing_spots
        Shares of the spots that are left out, one drawn for each procedural tissue and each window.
    windows
        How many more pseudo-slides are made of each real slide to train on only: with spots missing, cut off on one
        side of a line or in a disc, and low-resolution slides coarsened in any of the ways there are.
    """

    factors: tuple[float, ...] = (2.0, 2.0, 2.0, 3.0, 4.0)
    least_spots: int = 60
    most_observations: int = 20_000
    cells_per_spot: tuple[float, float] = (6.0, 80.0)
    fields: int = 120
    groups: int = 12
    thinning: tuple[float, ...] = (1.0, 1.0, 0.5, 0.25)
    capture_noise: tuple[float, ...] = (0.0, 0.15, 0.3, 0.5)
    missing_spots: tuple[float, ...] = (0.0, 0.0, 0.03, 0.1)
    windows: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedCase:
    """What the genes of a case share: programs of its whole panel, and its totals.

    Parameters
    ----------
    fields
        The programs, with loadings of the case's genes only, and the counts by program, totals last.
    condition
        The condition of these fields.
    """

    fields: ProgramFields
    condition: FlowInputs


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoSlide:
    """One pseudo-slide, ready to train on or to score.

    Parameters
    ----------
    name, study
        Where it came from.
    layout, pool
        Geometry and feature pool of the coarse slide.
    condition
        The condition of its fields.
    truth
        Fine counts of the fields, shape (Q, F).
    n_genes
        The first fields are single genes; the others are sums of several.
    low_rank
        The fields as the baselines denoise them (:class:`napari_srast.interpolation.Denoiser`), shape (N, F).
    checks
        The same slide coarsened once more, in as many ways as its own calibration looks at: the same fields. None where
        the case is not scored.
    scored
        Whether it is scored where its study was not trained on: neither procedural tissues nor windows are.
    description
        Lattice, pitch, factor and depth in words.
    edges, edge_similarity
        Touching pixels of different spots (2, E), and the latent similarity of these spots (E,).
    shared
        What its genes share; None where the case is not scored or its panel is small.
    """

    name: str
    study: str
    layout: SpotPixelMap
    pool: SlideEmbedding
    condition: FlowInputs
    truth: Tensor
    n_genes: int
    low_rank: np.ndarray
    description: str
    checks: tuple[PseudoSlide, ...] = ()
    scored: bool = True
    edges: Tensor = field(default_factory=lambda: torch.zeros((2, 0), dtype=torch.int64))
    edge_similarity: Tensor = field(default_factory=lambda: torch.zeros(0))
    shared: SharedCase | None = None


def read_source(source: SourceSlide) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Return points (n, 2) and counts (n, G) of a file, or of a procedural tissue."""
    if source.path is None:
        tissue = make_tissue(source.tissue_seed)
        return tissue.points, tissue.counts
    if not source.path.is_file():
        raise InputError(f"The training slide '{source.path}' does not exist; correct the recipe's data folder.")
    table = anndata.read_h5ad(source.path)
    points = np.asarray(table.obsm["spatial"], dtype=float)[:, :2]
    return points, sparse.csr_matrix(table.X, dtype=np.float32)


def make_pseudo_slides(
    source: SourceSlide, settings: PseudoSlideSettings, sasa: SasaConfig, seed: int
) -> Iterator[PseudoSlide]:
    """Yield the pseudo-slides of one source; ones that come out too small are left out."""
    points, counts = read_source(source)
    make = _coarsened if source.resolution == "low" else _rebinned
    made_up = source.path is None
    rng = np.random.default_rng([seed, *source.name.encode()])
    for _ in range(source.cases):
        case = make(source, points, counts, settings, sasa, rng, made_up)
        if case is not None:
            yield case
    rng = np.random.default_rng([seed, 1, *source.name.encode()])
    for _ in range(0 if made_up else settings.windows):
        case = make(source, points, counts, settings, sasa, rng, True)
        if case is not None:
            yield case


def _rebinned(
    source: SourceSlide,
    points: np.ndarray,
    counts: sparse.csr_matrix,
    settings: PseudoSlideSettings,
    sasa: SasaConfig,
    rng: np.random.Generator,
    window: bool,
) -> PseudoSlide | None:
    if len(points) > settings.most_observations:
        near = cKDTree(points).query(points[rng.integers(len(points))], k=settings.most_observations)[1]
        points, counts = points[near], counts[near]
    area = _area_per_point(points)
    low, high = settings.cells_per_spot
    high = max(low, min(high, len(points) / (1.3 * settings.least_spots)))
    pitch = float(np.sqrt(area * np.exp(rng.uniform(np.log(min(low, high)), np.log(high)))))
    lattice: Literal["square", "hex"] = "square" if rng.random() < 0.5 else "hex"
    factor = float(rng.choice(settings.factors))
    share = float(rng.choice(settings.thinning))
    counts = _thinned(counts, share, rng)
    rebinned = coarsen_points(
        points,
        counts,
        pitch=pitch,
        lattice=lattice,
        factor=factor,
        angle=float(rng.uniform(0, np.pi / 2)),
        offset=tuple(rng.uniform(0, pitch, 2)),
        min_counts=5,
    )
    if len(rebinned.centers) < settings.least_spots * 0.6:
        return None
    words = f"{lattice} pitch {pitch:.4g} factor {factor:g} depth {share:g}"
    if not window:
        return prepare_case(source, rebinned.layout, rebinned.counts, rebinned.truth, settings, sasa, rng, words)
    centers = rebinned.centers[_window(rebinned.centers, settings, rng)]
    raster = make_raster(centers, factor=factor, spot_diameter=pitch)
    layout, truth = SpotPixelMap.of_raster(centers, raster), bin_points(raster, points, counts)
    if source.path is None:
        truth = _unevenly_captured(truth, layout, settings.capture_noise, rng)
    low = sparse.csr_matrix(layout.membership @ truth, dtype=np.float32)
    return prepare_case(source, layout, low, truth, settings, sasa, rng, f"window of {words}", scored=False)


def _window(centers: np.ndarray, settings: PseudoSlideSettings, rng: np.random.Generator) -> np.ndarray:
    """Choose spots to keep, (N,) bool: all, or those on one side of a line or in a disc; some are missing.

    Where spots end the tissue need not: capture areas end, too, and spots fail. Without such cases a network takes
    every missing neighbor for the edge of the tissue, and moves counts away from it.
    """
    keep = rng.random(len(centers)) >= rng.choice(settings.missing_spots)
    kind, least = rng.integers(3), int(0.6 * settings.least_spots)
    share, middle = rng.uniform(0.4, 0.9), centers[rng.integers(len(centers))]
    angle = rng.uniform(0, 2 * np.pi)
    along = centers @ [np.cos(angle), np.sin(angle)] if kind == 1 else np.linalg.norm(centers - middle, axis=1)
    if kind > 0:
        keep &= along <= np.quantile(along, share)
    return keep if keep.sum() >= least else np.ones(len(centers), dtype=bool)


def _coarsened(
    source: SourceSlide,
    points: np.ndarray,
    counts: sparse.csr_matrix,
    settings: PseudoSlideSettings,
    sasa: SasaConfig,
    rng: np.random.Generator,
    window: bool,
) -> PseudoSlide | None:
    share = float(rng.choice(settings.thinning))
    counts = _thinned(counts, share, rng)
    words, variant = f"coarsened once, depth {share:g}", 0
    if window:
        words, variant = f"window of {words}", int(rng.integers(4))
        keep = _window(points, settings, rng)
        points, counts = points[keep], counts[keep]
    coarse = coarsen_slide(points, counts, detect_lattice(points), seed=int(rng.integers(2**31)), variant=variant)
    if coarse is None or coarse.layout.n_spots < _FEWEST_SPOTS:
        return None
    return prepare_case(
        source, coarse.layout, coarse.counts, coarse.truth, settings, sasa, rng, words, scored=not window
    )


def _unevenly_captured(
    truth: sparse.csr_matrix, layout: SpotPixelMap, noise: tuple[float, ...], rng: np.random.Generator
) -> sparse.csr_matrix:
    """Thin each spot, each pixel and each gene of a pixel by an efficiency of its own, log-normal and at most 1."""
    of_spots, of_pixels, of_entries = rng.choice(noise, 3)
    efficiency = of_spots * (rng.normal(size=layout.n_spots)[layout.parent] - 1.5)
    efficiency += of_pixels * (rng.normal(size=layout.n_pixels) - 1.5)
    log_share = np.repeat(efficiency, np.diff(truth.indptr)) + of_entries * (rng.normal(size=truth.nnz) - 1.5)
    truth = truth.copy()
    kept = rng.binomial(np.rint(truth.data).astype(np.int64), np.exp(np.minimum(log_share, 0.0)))
    truth.data = kept.astype(np.float32)
    truth.eliminate_zeros()
    return truth


def _thinned(counts: sparse.csr_matrix, share: float, rng: np.random.Generator) -> sparse.csr_matrix:
    """Keep each count with a chance of ``share``: the same tissue, sequenced less deeply."""
    if share >= 1:
        return counts
    counts = counts.copy()
    counts.data = rng.binomial(np.rint(counts.data).astype(np.int64), share).astype(np.float32)
    counts.eliminate_zeros()
    return counts


def prepare_case(
    source: SourceSlide,
    layout: SpotPixelMap,
    counts: sparse.csr_matrix,
    truth: sparse.csr_matrix,
    settings: PseudoSlideSettings,
    sasa: SasaConfig,
    rng: np.random.Generator,
    description: str,
    scored: bool = True,
) -> PseudoSlide | None:
    """Fit SASA to the coarse counts, choose fields and prepare their condition, here and for scores one level up."""
    totals = np.asarray(counts.sum(axis=0)).ravel()
    usable = np.flatnonzero(totals >= 20)
    if len(usable) < 2:
        return None
    chance = np.sqrt(totals[usable])
    n_fields = min(settings.fields, len(usable))
    genes = np.sort(rng.choice(usable, n_fields, replace=False, p=chance / chance.sum()))
    lattice = detect_lattice(layout.spots)
    pool = fit_sasa(counts, layout.spots, lattice, config=sasa, seed=int(rng.integers(2**31)))
    groups = _gene_groups(pool, counts, usable, settings.groups, rng)
    place = np.searchsorted(usable, genes)
    ones = sparse.csr_matrix((np.ones(n_fields), (place, np.arange(n_fields))), shape=(len(usable), n_fields))
    chooser = sparse.csr_matrix(
        sparse.eye_array(counts.shape[1], format="csc")[:, usable] @ sparse.hstack([ones, groups])
    )
    words = f"{description}, {layout.n_spots} spots, {layout.n_pixels} pixels, {chooser.shape[1]} fields"
    shared = fit_program_fields(counts, pool) if scored and len(usable) > PER_GENE_LIMIT else None
    case = _case(source, layout, counts, truth, chooser, n_fields, pool, words, shared)
    seed = int(rng.integers(2**31))
    checks = []
    variants = coarsened_variants(layout.spots, counts, lattice, seed=seed)
    for check in variants if scored else ():
        check_pool = fit_sasa(
            check.counts, check.layout.spots, detect_lattice(check.layout.spots), config=sasa, seed=seed
        )
        of_check = None if shared is None else fit_program_fields(check.counts.tocsr(), check_pool)
        words = "coarsened once more"
        checks.append(
            _case(source, check.layout, check.counts, check.truth, chooser, n_fields, check_pool, words, of_check)
        )
    return replace(case, checks=tuple(checks), scored=scored)


def with_pool(case: PseudoSlide, pool: SlideEmbedding) -> PseudoSlide:
    """Return a case as it is seen through another feature pool; its checks keep theirs."""
    layout, counts = case.layout, sparse.csr_matrix(case.condition.counts.numpy())
    condition = condition_fields(layout, pool, SpotNeighborhoods.of_layout(layout, pool), Interpolator(layout), counts)
    return replace(case, pool=pool, condition=condition, edge_similarity=_similarity(case.edges, layout, pool))


def _case(
    source: SourceSlide,
    layout: SpotPixelMap,
    counts: sparse.csr_matrix,
    truth: sparse.csr_matrix,
    chooser: sparse.csr_matrix,
    n_genes: int,
    pool: SlideEmbedding,
    description: str,
    shared: ProgramFields | None,
) -> PseudoSlide:
    """Prepare the condition of fields that are given as columns (G, F) of sums over genes."""
    fields, fine = sparse.csr_matrix(counts @ chooser), sparse.csr_matrix(truth @ chooser)
    geometry, interpolator = SpotNeighborhoods.of_layout(layout, pool), Interpolator(layout)
    condition = condition_fields(layout, pool, geometry, interpolator, fields)
    of_genes = None
    if shared is not None:
        loading = np.asarray((chooser[:, :n_genes].T @ shared.programs.loading.T).T)
        shared = replace(shared, programs=replace(shared.programs, loading=loading))
        by_program = sparse.csr_matrix(shared.fields)
        of_genes = SharedCase(
            fields=shared, condition=condition_fields(layout, pool, geometry, interpolator, by_program)
        )
    touching = layout.touching
    edges = torch.from_numpy(touching[:, layout.parent[touching[0]] != layout.parent[touching[1]]])
    return PseudoSlide(
        name=source.name,
        study=source.study,
        layout=layout,
        pool=pool,
        condition=condition,
        truth=torch.from_numpy(fine.toarray().astype(np.float32)),
        n_genes=n_genes,
        low_rank=Denoiser(counts, layout.spots, layout.pitch).fields() @ chooser,
        description=description,
        edges=edges,
        edge_similarity=_similarity(edges, layout, pool),
        shared=of_genes,
    )


def _similarity(edges: Tensor, layout: SpotPixelMap, pool: SlideEmbedding) -> Tensor:
    """Return the cosine of the latents on the two sides of each edge, shape (E,)."""
    latent = pool.latent / np.maximum(np.linalg.norm(pool.latent, axis=1, keepdims=True), 1e-6)
    first, second = latent[layout.parent[edges.numpy()]]
    return torch.from_numpy(np.einsum("ed,ed->e", first, second).astype(np.float32))


def _gene_groups(
    pool: SlideEmbedding, counts: sparse.csr_matrix, usable: np.ndarray, n_groups: int, rng: np.random.Generator
) -> sparse.csr_matrix:
    """Join genes around random ones by their loadings: an indicator matrix (usable genes, groups), all genes last."""
    loading = pool.loadings(counts[:, usable])[1:].T
    loading = loading / np.maximum(np.linalg.norm(loading, axis=1, keepdims=True), 1e-9)
    n_groups = min(n_groups, max(len(usable) // 4, 1))
    seeds = rng.choice(len(usable), n_groups, replace=False)
    nearest = np.argmax(loading @ loading[seeds].T, axis=1)
    columns = np.concatenate([nearest, np.full(len(usable), n_groups)])
    rows = np.concatenate([np.arange(len(usable))] * 2)
    return sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(usable), n_groups + 1))


def _area_per_point(points: np.ndarray) -> float:
    """Return the area that the points cover, divided by their number: occupied squares of a coarse grid."""
    spacing = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1])) or 1.0
    side = 6 * spacing
    occupied = np.unique(np.floor(points / side), axis=0)
    return len(occupied) * side**2 / len(points)


def studies(cases: Sequence[PseudoSlide]) -> dict[str, list[int]]:
    """Group the indices of cases by study."""
    groups: dict[str, list[int]] = {}
    for i, case in enumerate(cases):
        groups.setdefault(case.study, []).append(i)
    return groups
