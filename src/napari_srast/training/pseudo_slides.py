"""Prepare pseudo-slides for training and scoring: features, fields and flow inputs of a coarse slide with a fine truth.

A pseudo-slide shows the network only what a user's slide would show: SASA is fitted to the coarse counts.

Shape legend: N spots, Q pixels, G genes, F fields, E edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from napari_srast.calibration.holdout import coarsened_variants
from napari_srast.core.limits import PER_GENE_LIMIT
from napari_srast.geometry.disc_support import DiscSupport
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Denoiser, Interpolator
from napari_srast.models.intensity import PixelIntensity, fit_intensity
from napari_srast.models.pcfm.inputs import FlowInputs, SpotNeighborhoods, build_flow_inputs
from napari_srast.models.programs.program_fields import ProgramFields, fit_program_fields
from napari_srast.models.sasa.embedding import SlideEmbedding
from napari_srast.models.sasa.fitting import fit_sasa
from napari_srast.training.sources import SamplingContext, SourceSlide

__all__ = [
    "CACHE_FORMAT",
    "CoarseCounts",
    "ProgramInputs",
    "PseudoSlide",
    "group_by_study",
    "prepare_pseudo_slide",
    "with_embedding",
]

CACHE_FORMAT = 6
"""Version of the cached pseudo-slides; increase it when :class:`PseudoSlide` changes."""
_MIN_GENE_COUNTS = 20  # a gene with fewer counts on the coarse slide is no field


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseCounts:
    """Counts of a coarse slide and of its pixels.

    Parameters
    ----------
    layout
        Spots and pixels.
    counts
        Counts of the spots, CSR, shape (N, G).
    truth
        Counts of the pixels, CSR, shape (Q, G).
    description
        Lattice, pitch, factor and depth in words.
    scored
        Whether the pseudo-slide is scored when its study is held out.
    support
        Discs that the spots measure; None if their counts are those of their pixels.
    interior
        Spots whose cells are inside the area that the source observed, bool, shape (N,); None if all are.
    """

    layout: SpotPixelMap
    counts: sparse.csr_matrix
    truth: sparse.csr_matrix
    description: str
    scored: bool = True
    support: DiscSupport | None = None
    interior: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramInputs:
    """Gene programs of the whole panel and the total counts, as inputs of the flow.

    Parameters
    ----------
    fields
        The programs, with loadings of the pseudo-slide's genes only, and the counts by program, totals last.
    inputs
        Flow inputs of these fields.
    """

    fields: ProgramFields
    inputs: FlowInputs


@dataclass(frozen=True, kw_only=True, eq=False)
class PseudoSlide:
    """One pseudo-slide, ready to train on or to score.

    Parameters
    ----------
    name, study
        Name and study of the source slide.
    layout
        Spots and pixels of the coarse slide.
    embedding
        SASA features of the coarse slide.
    inputs
        Flow inputs of the fields.
    truth
        Pixel counts of the fields, shape (Q, F).
    n_genes
        Number of single genes; these come first. The other fields are sums over genes.
    denoised
        Fields denoised by :class:`napari_srast.interpolation.Denoiser`, for the baselines, shape (N, F).
    description
        Lattice, pitch, factor, depth and sizes in words.
    coarsened
        The same pseudo-slide coarsened once more, in the ways that calibration uses, with the same fields. Empty if
        the pseudo-slide is not scored.
    scored
        Whether it is scored when its study is held out. Procedural tissues and crops are not scored.
    edges
        Touching pixels of different spots, shape (2, E).
    edge_similarity
        Cosine similarity of the latents of the two spots of each edge, shape (E,).
    programs
        Gene programs; None if the pseudo-slide is not scored or its panel is small.
    log_intensity
        Log of the intensity field in the pixels, up to a constant for each field, of the single genes and of the sum
        of all genes (the last of the fields), float32, shape (Q, ``n_genes`` + 1); None if the pseudo-slide is not
        scored.
    interior
        Spots whose cells are inside the area that the source observed, bool, shape (N,); None if all are.
    """

    name: str
    study: str
    layout: SpotPixelMap
    embedding: SlideEmbedding
    inputs: FlowInputs
    truth: Tensor
    n_genes: int
    denoised: np.ndarray
    description: str
    coarsened: tuple[PseudoSlide, ...] = ()
    scored: bool = True
    edges: Tensor = field(default_factory=lambda: torch.zeros((2, 0), dtype=torch.int64))
    edge_similarity: Tensor = field(default_factory=lambda: torch.zeros(0))
    programs: ProgramInputs | None = None
    log_intensity: np.ndarray | None = None
    interior: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _FieldSelection:
    """Fields as sums over genes: an indicator matrix (G, F) whose first ``n_genes`` columns are single genes."""

    indicator: sparse.csr_matrix
    n_genes: int


def prepare_pseudo_slide(
    coarse: CoarseCounts, context: SamplingContext, rng: np.random.Generator
) -> PseudoSlide | None:
    """Fit SASA to coarse counts, choose fields and build the flow inputs, also of the slide coarsened once more.

    Parameters
    ----------
    coarse
        Counts of spots and pixels.
    context
        Source slide, ranges and SASA settings.
    rng
        Random generator for the choice of genes and the seeds of the fits.

    Returns
    -------
    PseudoSlide or None
        None if fewer than two genes have enough counts.
    """
    layout, counts = coarse.layout, coarse.counts
    totals = np.asarray(counts.sum(axis=0)).ravel()
    usable = np.flatnonzero(totals >= _MIN_GENE_COUNTS)
    if len(usable) < 2:
        return None
    weight = np.sqrt(totals[usable])
    n_genes = min(context.settings.fields, len(usable))
    genes = np.sort(rng.choice(usable, n_genes, replace=False, p=weight / weight.sum()))
    lattice = detect_lattice(layout.spots)
    embedding = fit_sasa(counts, layout.spots, lattice, config=context.sasa, seed=int(rng.integers(2**31)))
    groups = _gene_groups(embedding, counts, usable, context.settings.groups, rng)
    rows = np.searchsorted(usable, genes)
    single = sparse.csr_matrix((np.ones(n_genes), (rows, np.arange(n_genes))), shape=(len(usable), n_genes))
    indicator = sparse.csr_matrix(
        sparse.eye_array(counts.shape[1], format="csc")[:, usable] @ sparse.hstack([single, groups])
    )
    selection = _FieldSelection(indicator=indicator, n_genes=n_genes)
    sizes = f"{layout.n_spots} spots, {layout.n_pixels} pixels, {indicator.shape[1]} fields"
    programs = fit_program_fields(counts, embedding) if coarse.scored and len(usable) > PER_GENE_LIMIT else None
    described = replace(coarse, description=f"{coarse.description}, {sizes}")
    pseudo_slide = _assemble(context.source, described, selection, embedding, programs)
    seed = int(rng.integers(2**31))
    coarsened = []
    variants = coarsened_variants(layout.spots, counts, lattice, seed=seed)
    for variant in variants if coarse.scored else ():
        spots = variant.layout.spots
        variant_embedding = fit_sasa(variant.counts, spots, detect_lattice(spots), config=context.sasa, seed=seed)
        variant_programs = None if programs is None else fit_program_fields(variant.counts.tocsr(), variant_embedding)
        variant_counts = CoarseCounts(
            layout=variant.layout, counts=variant.counts, truth=variant.truth, description="coarsened once more"
        )
        coarsened.append(_assemble(context.source, variant_counts, selection, variant_embedding, variant_programs))
    return replace(
        pseudo_slide,
        coarsened=tuple(coarsened),
        scored=coarse.scored,
        log_intensity=_log_intensity(coarse, selection) if coarse.scored else None,
        interior=coarse.interior,
    )


def with_embedding(pseudo_slide: PseudoSlide, embedding: SlideEmbedding) -> PseudoSlide:
    """Return a pseudo-slide with another embedding; its coarsened versions keep theirs."""
    layout, counts = pseudo_slide.layout, sparse.csr_matrix(pseudo_slide.inputs.counts.numpy())
    neighborhoods = replace(
        SpotNeighborhoods.from_layout(layout, embedding), measured=pseudo_slide.inputs.neighborhoods.measured
    )
    return replace(
        pseudo_slide,
        embedding=embedding,
        inputs=build_flow_inputs(layout, embedding, neighborhoods, Interpolator(layout), counts),
        edge_similarity=_edge_similarity(pseudo_slide.edges, layout, embedding),
    )


def group_by_study(pseudo_slides: Sequence[PseudoSlide]) -> dict[str, list[int]]:
    """Group the indices of pseudo-slides by study."""
    groups: dict[str, list[int]] = {}
    for i, pseudo_slide in enumerate(pseudo_slides):
        groups.setdefault(pseudo_slide.study, []).append(i)
    return groups


def _assemble(
    source: SourceSlide,
    coarse: CoarseCounts,
    selection: _FieldSelection,
    embedding: SlideEmbedding,
    programs: ProgramFields | None,
) -> PseudoSlide:
    """Build the flow inputs of the selected fields and of the programs."""
    layout, indicator = coarse.layout, selection.indicator
    fields, truth = sparse.csr_matrix(coarse.counts @ indicator), sparse.csr_matrix(coarse.truth @ indicator)
    neighborhoods = SpotNeighborhoods.from_layout(layout, embedding).with_support(coarse.support)
    interpolator = Interpolator(layout)
    inputs = build_flow_inputs(layout, embedding, neighborhoods, interpolator, fields)
    program_inputs = None
    if programs is not None:
        loading = np.asarray((indicator[:, : selection.n_genes].T @ programs.programs.loading.T).T)
        programs = replace(programs, programs=replace(programs.programs, loading=loading))
        by_program = sparse.csr_matrix(programs.fields)
        program_inputs = ProgramInputs(
            fields=programs, inputs=build_flow_inputs(layout, embedding, neighborhoods, interpolator, by_program)
        )
    adjacent = layout.adjacent_pixels
    edges = torch.from_numpy(adjacent[:, layout.parent[adjacent[0]] != layout.parent[adjacent[1]]])
    return PseudoSlide(
        name=source.name,
        study=source.study,
        layout=layout,
        embedding=embedding,
        inputs=inputs,
        truth=torch.from_numpy(truth.toarray().astype(np.float32)),
        n_genes=selection.n_genes,
        denoised=Denoiser(coarse.counts, layout.spots, layout.pitch).fields() @ indicator,
        description=coarse.description,
        edges=edges,
        edge_similarity=_edge_similarity(edges, layout, embedding),
        programs=program_inputs,
    )


def _log_intensity(coarse: CoarseCounts, selection: _FieldSelection) -> np.ndarray:
    """Return the log intensity of the single genes and of the sum of all, fitted as in a run on whole cells."""
    layout, counts = coarse.layout, coarse.counts
    fitted = fit_intensity(counts, layout.spots, layout.pitch, measured_area=0.0)
    fields = sparse.csr_matrix(counts @ selection.indicator[:, [*range(selection.n_genes), -1]])
    pixels = PixelIntensity(fitted.model, layout, fitted.fields)
    return pixels.log_intensities(fields.toarray(), fitted.loadings(fields)).astype(np.float32)


def _edge_similarity(edges: Tensor, layout: SpotPixelMap, embedding: SlideEmbedding) -> Tensor:
    """Return the cosine similarity of the latents on the two sides of each edge, shape (E,)."""
    latent = embedding.latent / np.maximum(np.linalg.norm(embedding.latent, axis=1, keepdims=True), 1e-6)
    first, second = latent[layout.parent[edges.numpy()]]
    return torch.from_numpy(np.einsum("ed,ed->e", first, second).astype(np.float32))


def _gene_groups(
    embedding: SlideEmbedding, counts: sparse.csr_matrix, usable: np.ndarray, n_groups: int, rng: np.random.Generator
) -> sparse.csr_matrix:
    """Group genes around random seed genes by their loadings.

    Returns
    -------
    sparse.csr_matrix
        Indicator matrix (usable genes, groups); the last group holds all genes.
    """
    loading = embedding.gene_loadings(counts[:, usable])[1:].T
    loading = loading / np.maximum(np.linalg.norm(loading, axis=1, keepdims=True), 1e-9)
    n_groups = min(n_groups, max(len(usable) // 4, 1))
    seeds = rng.choice(len(usable), n_groups, replace=False)
    nearest = np.argmax(loading @ loading[seeds].T, axis=1)
    columns = np.concatenate([nearest, np.full(len(usable), n_groups)])
    rows = np.concatenate([np.arange(len(usable))] * 2)
    return sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(len(usable), n_groups + 1))
