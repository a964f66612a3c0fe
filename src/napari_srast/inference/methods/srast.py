"""Prepare SASA + PCFM: every gene through the flow, or most genes of a large panel by shared maps.

Shape legend: N spots, n spots of a tile and around it, G chosen genes, F genes of a block, P programs, H high-count
genes, which go through the flow one by one, Q pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS
from napari_srast._utils.sparse import drop_columns
from napari_srast._utils.threads import single_threaded_torch
from napari_srast.calibration.dispersion import Concentration
from napari_srast.calibration.experts import Experts
from napari_srast.calibration.pooling import PoolWeights, average_with_intensity, pool_ratios, totals_shift
from napari_srast.calibration.skill import apply_fallback
from napari_srast.checkpoints.storage import Checkpoint
from napari_srast.core.limits import (
    EMPTY_PAIR_COST,
    FLOW_DRAWS,
    FLOW_PAIR_BUDGET,
    FLOW_STEPS,
    LARGE_SLIDE_PAIR_BUDGET,
    PER_GENE_LIMIT,
    PIXELS_PER_PAIR,
)
from napari_srast.core.progress import RunMonitor
from napari_srast.geometry.disc_support import DiscSupport
from napari_srast.inference.allocation import CountAllocator
from napari_srast.inference.fitted_slide import FittedSlide, SlideInput, fit_slide
from napari_srast.inference.job import ModelProvenance, UpsampleJob
from napari_srast.inference.methods.base import Block, PreparedMethod, TileInput, TilePredictor
from napari_srast.inference.methods.histology_context import HistologyContext, fit_histology
from napari_srast.inference.methods.loaded_intensity import LoadedIntensity
from napari_srast.inference.methods.program_mixture import ProgramMixture
from napari_srast.inference.methods.program_weights import fit_program_gate
from napari_srast.inference.methods.total_counts import TotalCountsPredictor, pool_shares
from napari_srast.inference.slide_intensity import fit_slide_intensity, support_of_spots
from napari_srast.inference.tiles import gene_blocks
from napari_srast.models.intensity import FittedIntensity
from napari_srast.models.pcfm.field_statistics import FieldStatistics, summarize_fields
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.sampler import FlowSampler
from napari_srast.models.programs.program_fields import fit_program_fields, leading_fields

__all__ = ["prepare_srast"]

_EXPERTS_PER_BLOCK = 4  # dense arrays of a block in memory at once, relative to an interpolation
_FLOW_SHARE = 0.5  # of the counts of a spot of a large slide: those of programs that the network predicts
_GENES_PER_SAMPLE = 256  # sampled at once: samples are dense


@dataclass(frozen=True, kw_only=True, eq=False)
class _Context:
    """Everything that both predictors are made from."""

    job: UpsampleJob
    checkpoint: Checkpoint
    fitted: FittedSlide
    image: HistologyContext
    intensity: FittedIntensity

    @property
    def allocator(self) -> CountAllocator:
        return replace(self.job.allocator, concentration=self.fitted.concentration)

    def for_genes(self, chosen: np.ndarray) -> _Context:
        """Return the context of some of the chosen genes, given as (G,) bool."""
        return replace(self, job=replace(self.job, columns=self.job.columns[chosen]))


def prepare_srast(job: UpsampleJob) -> PreparedMethod:
    """Fit SASA, calibrate the experts, score the genes, and return the method; reports progress."""
    with single_threaded_torch():
        slide = SlideInput.of_job(job)
        checkpoint, device = slide.checkpoint, slide.device
        fitted = fit_slide(slide, job.monitor, job.fit, job.cache, lambda: fit_slide_intensity(job))
        image = fit_histology(job, fitted.coarse)
        job.monitor.report("calibrate", 1, 1)
        job.monitor.check_canceled()
        intensity = fit_slide_intensity(job)
        job.release_counts()  # read again below, a part at a time
        context = _Context(job=job, checkpoint=checkpoint, fitted=fitted, image=image, intensity=intensity)
        high_count = np.ones(len(job.columns), dtype=bool)
        if len(high_count) > PER_GENE_LIMIT and job.settings.mode != "sample":
            high_count = _high_count_genes(job, fitted)
        method = _prepare_per_gene(context) if high_count.all() else _prepare_programs(context, high_count)
        calibration = fitted.weights.to_dict() | fitted.concentration.to_dict() | {"share": pool_shares(job)}
        calibration |= image.describe(job.select_counts()) | method.model.calibration
        model = ModelProvenance(device=device, model_sha256=checkpoint.sha256, calibration=calibration)
        return replace(
            method,
            image=image.evidence,
            image_predictor=image.predictor,
            intensity=intensity,
            warnings=image.warnings,
            model=model,
            skill_is_expected=job.settings.mode != "integer",
        )


def _high_count_genes(job: UpsampleJob, fitted: FittedSlide) -> np.ndarray:
    """Choose the genes of a large panel that go through the flow, as many as the budget allows; (G,) bool."""
    n_pixels = job.layout.n_pixels_per_spot
    # As for the whole slide, so that a region gets the maps that the slide would get.
    parts = [(job.counts, float(np.median(n_pixels[n_pixels > 0])))]
    parts += [(slide.counts, PIXELS_PER_PAIR) for slide in fitted.coarse]
    cost = np.zeros(len(job.columns))
    for counts, pixels_per_spot in parts:
        n_pairs = counts.getnnz(axis=0)[job.columns]
        cost += pixels_per_spot / PIXELS_PER_PAIR * (n_pairs + EMPTY_PAIR_COST * (counts.shape[0] - n_pairs))
    order = np.argsort(-np.asarray(job.counts.sum(axis=0)).ravel()[job.columns], kind="stable")
    chosen = np.zeros(len(job.columns), dtype=bool)
    budget = FLOW_PAIR_BUDGET if job.counts.shape[0] <= MAX_WHOLE_ROWS else LARGE_SLIDE_PAIR_BUDGET
    chosen[order[: max(1, int((np.cumsum(cost[order]) <= budget).sum()))]] = True
    return chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class PerGenePredictor(TilePredictor):
    """Predict every gene by the pool of the flow and the interpolations.

    Parameters
    ----------
    network
        The flow.
    weights, concentration
        Weights of the pool, and concentration of true counts around it.
    statistics
        Statistics of the genes over the whole slide.
    methods
        Method of each gene, after the fallback, shape (G,).
    image_loadings
        Loadings of the genes on the programs of the histology, shape (programs, G); None without.
    sampler
        Sampler of the flow.
    allocator
        Converts ratios to counts.
    intensity
        The intensity field and the genes' loadings, with which the pool is averaged
        (:func:`~napari_srast.calibration.pooling.average_with_intensity`).
    support
        Discs that the spots measure; None if they measure their whole cells.
    totals
        Predicts the shift of all genes by the totals, from the tile's only field; None for no shift.
    """

    network: DiT
    weights: PoolWeights
    concentration: Concentration
    statistics: FieldStatistics
    methods: np.ndarray
    image_loadings: np.ndarray | None
    sampler: FlowSampler
    allocator: CountAllocator
    intensity: LoadedIntensity
    support: DiscSupport | None
    totals: TotalCountsPredictor | None

    def blocks(self, n_pixels: int) -> list[slice]:
        return gene_blocks(len(self.methods), _EXPERTS_PER_BLOCK * n_pixels)

    def to_device(self, device: str) -> PerGenePredictor:
        network = copy.deepcopy(self.network).to(device)  # other threads may still use the original
        return replace(self, network=network)

    def experts_in(self, tile_input: TileInput) -> Experts:
        """Return the experts in the pixels of a tile."""
        assert tile_input.embedding is not None
        tile, embedding = tile_input.tile, tile_input.embedding
        return Experts.for_layout(tile.layout, embedding, self.network, tile.halo, self.sampler, self.support)

    def bind(self, tile_input: TileInput, monitor: RunMonitor) -> Callable[[slice], Block]:
        tile, layout, experts = tile_input.tile, tile_input.tile.layout, self.experts_in(tile_input)
        if self.totals is not None and tile_input.shift is None:
            tile_input = self.totals.add_shift(tile_input, experts, self.weights, monitor)
        intensity = self.intensity.bind(tile_input)

        def predict_block(block: slice) -> Block:
            fields = tile_input.counts[:, block]
            inputs, log_experts = experts.predict(fields, monitor, self.statistics[block])
            dense = fields.toarray().astype(np.float64)
            log_ratio = pool_ratios(log_experts, dense, layout, self.weights)
            log_ratio = average_with_intensity(log_ratio, intensity(dense, block), tile_input.shift)
            log_ratio = apply_fallback(log_ratio, log_experts, self.methods[block])
            if tile_input.image is not None and self.image_loadings is not None:
                log_ratio = tile_input.image.pool_with(log_ratio, self.image_loadings[:, block], layout)
            counts = self.allocator.allocate(np.exp(log_ratio), dense, layout, block, tile.spots)
            if self.allocator.mode != "sample":
                return counts, None
            sampler = replace(self.sampler, seed=(self.sampler.seed + 7919 * tile.index) % 2**32)
            flow, deviation = np.exp(log_experts[0]), np.zeros(counts.shape)
            for sample in sampler.sample_ratios(experts.network, inputs, monitor):
                deviation += (sample - flow) ** 2
            spot_counts = dense[layout.parent]
            variance = self.concentration.std(layout.normalize(np.exp(log_ratio)), spot_counts) ** 2
            # The mean of two predictive variances: the scatter on the coarsened slide, and the samples of the flow.
            # Where the gene fell back, the samples of the flow do not apply.
            in_pool = self.methods[block] == "srast"
            of_samples = deviation[:, in_pool] / sampler.draws * spot_counts[:, in_pool] ** 2
            variance[:, in_pool] = (variance[:, in_pool] + of_samples) / 2
            return counts, sparse.csc_matrix(np.sqrt(variance).astype(np.float32))

        return predict_block


def _prepare_per_gene(context: _Context) -> PreparedMethod:
    """Prepare the prediction of every gene through the flow."""
    job, fitted, settings = context.job, context.fitted, context.job.settings
    scores = []
    for block in gene_blocks(len(job.columns), _EXPERTS_PER_BLOCK * fitted.n_coarse_pixels):
        job.monitor.check_canceled()
        scores.append(fitted.score_genes(job.columns[block], job.monitor, context.image.adjust))
    methods = np.concatenate([score.fallback_methods() for score in scores])
    predictor = PerGenePredictor(
        network=context.checkpoint.network,
        weights=fitted.weights,
        concentration=fitted.concentration,
        statistics=summarize_fields(job.layout, fitted.embedding, job.select_counts()),
        methods=methods,
        image_loadings=context.image.loadings(job.select_counts()),
        sampler=FlowSampler.for_slide(
            len(job.centers), steps=settings.steps or FLOW_STEPS, draws=settings.draws or FLOW_DRAWS, seed=settings.seed
        ),
        allocator=context.allocator,
        intensity=LoadedIntensity.of_fields(context.intensity, job.select_counts()),
        support=support_of_spots(job),
        totals=TotalCountsPredictor.of_job(job, fitted, context.intensity),
    )
    skill = np.concatenate([score.skill for score in scores])
    starts = np.cumsum([0, *(len(score.skill) for score in scores)])
    gains = [one.describe_gain(job.genes[job.columns[start:]]) for one, start in zip(scores, starts, strict=False)]
    model = ModelProvenance(calibration={"held_out_gain": {k: v for gain in gains for k, v in gain.items()}})
    fields = None if predictor.totals is None else np.asarray(job.counts.sum(axis=1), dtype=np.float64)
    return PreparedMethod(
        predictor=predictor, skill=skill, method=methods, embedding=fitted.embedding, fields=fields, model=model
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramPredictor(TilePredictor):
    """Predict programs and totals through the flow, genes from their maps, and high-count genes through the flow.

    The fields of a tile have P + 1 + P + H columns: counts by program and total counts, the activities of the programs,
    and the counts of the high-count genes.

    Parameters
    ----------
    weights
        Weights of the pool.
    statistics
        Statistics of programs and totals over the whole slide.
    image_loadings
        Loadings of programs and totals on the programs of the histology, shape (programs, P + 1); None without.
    loading
        Loadings of the genes, float32, shape (G, P).
    program_weights
        Weights of the mixture of programs and of the totals, shape (2, 2).
    gate
        Factor of both for each gene, shape (G,); see :class:`ProgramMixture`.
    allocator
        Converts ratios to counts.
    high_count
        Which genes go through the flow one by one, bool, shape (G,).
    per_gene
        Predictor of these.
    intensity
        The intensity field and the loadings of programs and totals.
    """

    weights: PoolWeights
    statistics: FieldStatistics
    image_loadings: np.ndarray | None
    loading: np.ndarray
    program_weights: np.ndarray
    gate: np.ndarray
    allocator: CountAllocator
    high_count: np.ndarray
    per_gene: PerGenePredictor
    intensity: LoadedIntensity
    core_counts_only = True

    def blocks(self, n_pixels: int) -> list[slice]:
        return [slice(0, len(self.high_count))]  # sparse, so that all genes fit into one block

    def to_device(self, device: str) -> TilePredictor:
        return replace(self, per_gene=self.per_gene.to_device(device))

    def bind(self, tile_input: TileInput, monitor: RunMonitor) -> Callable[[slice], Block]:
        tile_input = replace(tile_input, pixel_intensity=self.intensity.in_pixels(tile_input))
        mixture, shift = self._mixture(tile_input, monitor)
        tile_input = replace(tile_input, shift=shift)

        def predict_block(block: slice) -> Block:
            assert block == slice(0, len(self.high_count)), "genes are predicted in one block"
            low_counts = drop_columns(tile_input.counts, self.high_count)
            counts = mixture.allocate(low_counts)
            if self.allocator.mode == "integer":
                counts = self._sample(counts, low_counts, tile_input)
            return counts + self._predict_high_counts(tile_input, monitor), None

        return predict_block

    def _mixture(self, tile_input: TileInput, monitor: RunMonitor) -> tuple[ProgramMixture, np.ndarray | None]:
        """Predict the maps of programs and totals, and the shift by the totals."""
        tile, layout, fields = tile_input.tile, tile_input.tile.layout, tile_input.fields
        assert fields is not None
        experts = self.per_gene.experts_in(tile_input)
        n_programs = self.loading.shape[1]
        program_counts = fields[:, : n_programs + 1]
        needed = leading_fields(program_counts, _FLOW_SHARE) if experts.sampler.of_large_slide else None
        _, log_experts = experts.predict(sparse.csr_matrix(program_counts), monitor, self.statistics, needed)
        log_pool = pool_ratios(log_experts, program_counts, layout, self.weights)
        log_intensity = self.intensity.bind(tile_input)(program_counts, slice(None))
        shift = None if self.per_gene.totals is None else totals_shift(log_pool[:, -1], log_intensity[:, -1])
        log_ratio = average_with_intensity(log_pool, log_intensity, shift)
        if tile_input.image is not None and self.image_loadings is not None:
            log_ratio = tile_input.image.pool_with(log_ratio, self.image_loadings, layout)
        mixture = ProgramMixture(
            layout=layout,
            log_ratio=log_ratio,
            activity=fields[tile.core_spots, n_programs + 1 : 2 * n_programs + 1],
            loading=self.loading,
            weights=self.program_weights,
            gate=self.gate,
        )
        return mixture, shift

    def _predict_high_counts(self, tile_input: TileInput, monitor: RunMonitor) -> sparse.csr_matrix:
        """Predict the high-count genes; the columns of all other genes are empty, (Q, G)."""
        layout, columns = tile_input.tile.layout, np.flatnonzero(self.high_count)
        shape = (layout.n_pixels, len(self.high_count))
        if len(columns) == 0:
            return sparse.csr_matrix(shape, dtype=np.float32)
        assert tile_input.fields is not None
        counts = sparse.csr_matrix(tile_input.fields[:, 2 * self.loading.shape[1] + 1 :], dtype=np.float32)
        predict_block = self.per_gene.bind(replace(tile_input, counts=counts), monitor)
        blocks = [predict_block(block)[0] for block in self.per_gene.blocks(layout.n_pixels)]
        result = sparse.csr_matrix(sparse.hstack(blocks, format="csr"), dtype=np.float32)
        return sparse.csr_matrix((result.data, columns[result.indices], result.indptr), shape=shape)

    def _sample(
        self, expected: sparse.csr_matrix, counts: sparse.csr_matrix, tile_input: TileInput
    ) -> sparse.csr_matrix:
        """Sample integer counts around expected counts."""
        tile = tile_input.tile
        expected, counts = expected.tocsc(), counts.tocsc()
        samples = []
        for start in range(0, len(self.high_count), _GENES_PER_SAMPLE):
            block = slice(start, min(start + _GENES_PER_SAMPLE, len(self.high_count)))
            spot_counts = np.zeros((tile.layout.n_spots, block.stop - start))
            spot_counts[tile.core_spots] = counts[:, block].toarray()
            ratios = tile.layout.normalize(expected[:, block].toarray())
            samples.append(self.allocator.sample(ratios, spot_counts, tile.layout, block, tile.spots))
        return sparse.csr_matrix(sparse.hstack(samples, format="csr"))


def _prepare_programs(context: _Context, high_count: np.ndarray) -> PreparedMethod:
    """Prepare the prediction of some genes, given as (G,) bool, through the flow, and of the others by shared maps."""
    job, fitted = context.job, context.fitted
    per_gene = _prepare_per_gene(context.for_genes(high_count))  # checks for cancellation first
    shared = fit_program_fields(job.counts, fitted.embedding, seed=job.settings.seed)
    job.release_counts()
    job.monitor.check_canceled()
    others = fit_program_gate(
        fitted, job, job.columns[~high_count], context.checkpoint.priors.programs, context.image.adjust
    )
    n_genes = len(high_count)
    gate, skill, methods = np.ones(n_genes), np.empty(n_genes), np.empty(n_genes, dtype=object)
    gate[~high_count], skill[~high_count] = others.gate, others.skill
    methods[~high_count] = np.where(others.gate > 0, "srast-programs", "uniform")
    skill[high_count], methods[high_count] = per_gene.skill, per_gene.method
    assert isinstance(per_gene.predictor, PerGenePredictor)
    predictor = ProgramPredictor(
        weights=fitted.weights,
        statistics=summarize_fields(job.layout, fitted.embedding, sparse.csr_matrix(shared.fields)),
        image_loadings=context.image.loadings(shared.fields),
        loading=np.ascontiguousarray(shared.programs.loading.T[job.columns], dtype=np.float32),
        program_weights=others.weights.weights,
        gate=gate,
        allocator=context.allocator,
        high_count=high_count,
        per_gene=per_gene.predictor,
        intensity=LoadedIntensity.of_fields(context.intensity, sparse.csr_matrix(shared.fields)),
    )
    high_counts = job.counts[:, job.columns[high_count]].toarray()
    return PreparedMethod(
        predictor=predictor,
        skill=skill,
        method=methods,
        embedding=fitted.embedding,
        fields=np.hstack([shared.fields, shared.programs.activity, high_counts]),
        model=ModelProvenance(calibration=per_gene.model.calibration | {"shared": others.weights.to_dict()}),
    )
