"""SASA + PCFM as a method: every gene by the flow itself, or many genes of a large panel by maps that they share.

Shape legend: N spots, G genes, Q pixels, F genes of a block, P programs, D genes that the flow splits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from napari_srast._utils.devices import choose_device, one_thread
from napari_srast.calibration.dispersion import Concentration
from napari_srast.calibration.experts import Experts
from napari_srast.calibration.skill import apply_fallback
from napari_srast.calibration.weights import PoolWeights, pool_ratios
from napari_srast.checkpoints.storage import Checkpoint, load_checkpoint
from napari_srast.inference.allocation import CountAllocator
from napari_srast.inference.fitted_slide import FittedSlide, fit_slide
from napari_srast.inference.job import UpsampleJob
from napari_srast.inference.methods.base import Block, PreparedMethod, TileInput, TilePredictor
from napari_srast.inference.methods.histology_context import HistologyContext, image_of
from napari_srast.inference.methods.program_mixture import ProgramMixture
from napari_srast.inference.methods.program_weights import fit_program_gate
from napari_srast.inference.tiles import blocks
from napari_srast.models.pcfm.field_statistics import FieldStatistics, summarize_fields
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.sampler import Sampler
from napari_srast.models.programs.program_fields import PER_GENE_LIMIT, fit_program_fields

__all__ = ["FLOW_PAIR_BUDGET", "prepare_srast"]

FLOW_PAIR_BUDGET = 1_000_000
"""Pairs of a spot and a gene that the flow splits in a run on a larger panel, the check of the genes included: a
quarter of a minute on two cores. A pair without counts is a fifth of one, for what is done for all spots of a gene."""
_EMPTY_PAIR, _PIXELS_OF_PAIR = 0.2, 4.0  # of its price; pixels of a spot that the price is for
_STEPS, _DRAWS = 8, 16
_INTEGER_GENES = 256  # drawn at once: draws are dense


def prepare_srast(job: UpsampleJob) -> Generator[tuple[str, int, int], None, PreparedMethod]:
    """Fit SASA, calibrate and check the genes; yields (stage, done, total) and returns the method."""
    with one_thread():
        return (yield from _prepare(job))


def _prepare(job: UpsampleJob) -> Generator[tuple[str, int, int], None, PreparedMethod]:
    device = choose_device(job.settings.device)
    checkpoint = load_checkpoint(job.settings.model)
    checkpoint.network.to(device)
    fitting = fit_slide(
        job.counts,
        job.centers,
        job.lattice,
        checkpoint,
        seed=job.settings.seed,
        device=device,
        should_stop=job.should_stop,
        fit=job.fit,
    )
    stage = None
    while True:
        try:
            following = next(fitting)
        except StopIteration as done:
            model = done.value
            break
        if stage is not None:
            yield stage, 1, 1
        stage = following
        yield stage, 0, 1
    image = image_of(job, model.coarse)
    yield "calibrate", 1, 1
    deep = np.ones(len(job.columns), dtype=bool)
    if len(deep) > PER_GENE_LIMIT and job.settings.mode != "sample":
        deep = _genes_for_the_flow(job, model)
    if deep.all():
        method = _by_gene(job, checkpoint, model, image)
    else:
        method = _with_shared(job, checkpoint, model, image, deep)
    chosen = job.chosen()
    told = image.recorded(image.slopes(chosen), np.asarray(chosen.sum(axis=0)).ravel())
    calibration = (
        model.calibration.to_dict() | model.concentration.to_dict() | ({} if told is None else {"image": told})
    )
    calibration |= method.record.get("calibration", {})
    record = {"device": device, "model_sha256": checkpoint.sha256, "calibration": calibration}
    return replace(method, image=image.local, notices=image.notices, record=record)


def _genes_for_the_flow(job: UpsampleJob, model: FittedSlide) -> np.ndarray:
    """Choose the genes of a large panel that the flow splits, the deepest as far as time allows; returns (G,) bool."""
    n_pixels = job.layout.n_pixels_of_spot
    # As for the whole slide: a region gets the maps that the slide would get.
    parts = [(job.counts, float(np.median(n_pixels[n_pixels > 0])))]
    parts += [(slide.counts, _PIXELS_OF_PAIR) for slide in model.coarse]
    price = np.zeros(len(job.columns))
    for counts, pixels_of_spot in parts:
        n_pairs = counts.getnnz(axis=0)[job.columns]
        price += pixels_of_spot / _PIXELS_OF_PAIR * (n_pairs + _EMPTY_PAIR * (counts.shape[0] - n_pairs))
    order = np.argsort(-np.asarray(job.counts.sum(axis=0)).ravel()[job.columns], kind="stable")
    chosen = np.zeros(len(job.columns), dtype=bool)
    chosen[order[: max(1, int((np.cumsum(price[order]) <= FLOW_PAIR_BUDGET).sum()))]] = True
    return chosen


@dataclass(frozen=True, kw_only=True, eq=False)
class PerGenePredictor(TilePredictor):
    """Every gene by the flow itself, pooled with the interpolations as the calibration says."""

    network: DiT
    calibration: PoolWeights
    concentration: Concentration
    known: FieldStatistics
    methods: np.ndarray
    slopes: np.ndarray | None
    sampler: Sampler
    assembler: CountAllocator

    def blocks(self, n_pixels: int) -> list[slice]:
        return blocks(len(self.methods), 4 * n_pixels)

    def on(self, device: str) -> TilePredictor:
        return replace(self, network=_moved(self.network, device))

    def open(self, packed: TileInput, should_stop: Callable[[], bool] | None) -> Callable[[slice], Block]:
        unit, layout, methods = packed.unit, packed.unit.layout, self.methods
        assert packed.features is not None
        experts = Experts.on(layout, packed.features, self.network, unit.surroundings)
        sampler = replace(self.sampler, seed=(self.sampler.seed + 7919 * unit.index) % 2**32)

        def split_block(block: slice) -> Block:
            fields = packed.counts[:, block]
            condition, log_experts = experts.predict(fields, should_stop, self.known[block])
            dense = fields.toarray().astype(np.float64)
            log_ratio = pool_ratios(log_experts, dense, layout, self.calibration)
            if packed.image is not None and self.slopes is not None:
                log_ratio = packed.image.added_to(log_ratio, self.slopes[:, block], layout)
            log_ratio = apply_fallback(log_ratio, log_experts, methods[block])
            counts = self.assembler.counts(np.exp(log_ratio), dense, layout, block, unit.spots)
            if self.assembler.mode != "sample":
                return counts, None
            deviation = np.zeros(counts.shape)
            flow = np.exp(log_experts[0])
            for sample in sampler.samples(experts.network, condition, should_stop):
                deviation += (sample - flow) ** 2
            own = dense[layout.parent]
            variance = self.concentration.std(layout.normalize(np.exp(log_ratio)), own) ** 2
            # Of two predictions mixed evenly: the scatter that the slide's check shows, and the flow's draws. Where the
            # flow was not taken, its draws say nothing.
            taken = methods[block] == "srast"
            drawn = deviation[:, taken] / sampler.draws * own[:, taken] ** 2
            variance[:, taken] = (variance[:, taken] + drawn) / 2
            return counts, sparse.csc_matrix(np.sqrt(variance).astype(np.float32))

        return split_block


def _by_gene(job: UpsampleJob, checkpoint: Checkpoint, model: FittedSlide, image: HistologyContext) -> PreparedMethod:
    """Every gene by the flow itself."""
    settings = job.settings
    checks = []
    for block in blocks(len(job.columns), 4 * model.n_coarse_pixels):
        job.check_stop()
        checks.append(model.check(job.columns[block], job.should_stop, image.refine))
    methods = np.concatenate([check.fall_back() for check in checks])
    splitter = PerGenePredictor(
        network=checkpoint.network,
        calibration=model.calibration,
        concentration=model.concentration,
        known=summarize_fields(job.layout, model.pool, job.chosen()),
        methods=methods,
        slopes=image.slopes(job.chosen()),
        sampler=Sampler(steps=settings.steps or _STEPS, draws=settings.draws or _DRAWS, seed=settings.seed),
        assembler=replace(job.assembler, concentration=model.concentration),
    )
    skill = np.concatenate([check.skill for check in checks])
    return PreparedMethod(splitter=splitter, skill=skill, method=methods, features=model.pool)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgramPredictor(TilePredictor):
    """Programs and totals by the flow, every gene by what these say of it; some genes by the flow itself.

    Of a unit's fields (n, P + 1 + P + D) the first are counts by program and all counts, then come the programs'
    activities, then the counts of the genes that the flow splits.
    """

    network: DiT
    calibration: PoolWeights
    known: FieldStatistics
    slopes: np.ndarray | None
    loading: np.ndarray
    weights: np.ndarray
    trust: np.ndarray
    assembler: CountAllocator
    deep: np.ndarray
    by_gene: PerGenePredictor
    own_counts_only = True

    def blocks(self, n_pixels: int) -> list[slice]:
        return [slice(0, len(self.deep))]

    def on(self, device: str) -> TilePredictor:
        network = _moved(self.network, device)
        return replace(self, network=network, by_gene=replace(self.by_gene, network=network))

    def open(self, packed: TileInput, should_stop: Callable[[], bool] | None) -> Callable[[slice], Block]:
        unit, layout, fields = packed.unit, packed.unit.layout, packed.fields
        assert packed.features is not None
        assert fields is not None
        experts = Experts.on(layout, packed.features, self.network, unit.surroundings)
        n_programs = self.loading.shape[1]
        shared = fields[:, : n_programs + 1]
        _, log_experts = experts.predict(sparse.csr_matrix(shared), should_stop, self.known)
        log_ratio = pool_ratios(log_experts, shared, layout, self.calibration)
        if packed.image is not None and self.slopes is not None:
            log_ratio = packed.image.added_to(log_ratio, self.slopes, layout)
        mixture = ProgramMixture(
            layout=layout,
            log_ratio=log_ratio,
            activity=fields[unit.own, n_programs + 1 : 2 * n_programs + 1],
            loading=self.loading,
            weights=self.weights,
            trust=self.trust,
        )
        deep_counts = sparse.csr_matrix(fields[:, 2 * n_programs + 1 :], dtype=np.float32)

        def split_block(block: slice) -> Block:
            rest = _without(packed.counts, self.deep)
            whole = mixture.split(rest)
            if self.assembler.mode == "integer":
                whole = self._drawn(whole, rest, packed)
            return whole + self._deep_ones(packed, deep_counts, should_stop), None

        return split_block

    def _deep_ones(
        self, packed: TileInput, counts: sparse.csr_matrix, should_stop: Callable[[], bool] | None
    ) -> sparse.csr_matrix:
        """Split the genes that the flow splits; the columns of all others are empty, (Q, G)."""
        layout, columns = packed.unit.layout, np.flatnonzero(self.deep)
        shape = (layout.n_pixels, len(self.deep))
        if len(columns) == 0:
            return sparse.csr_matrix(shape, dtype=np.float32)
        split_block = self.by_gene.open(replace(packed, counts=counts), should_stop)
        parts = [split_block(block)[0] for block in self.by_gene.blocks(layout.n_pixels)]
        split = sparse.csr_matrix(sparse.hstack(parts, format="csr"), dtype=np.float32)
        return sparse.csr_matrix((split.data, columns[split.indices], split.indptr), shape=shape)

    def _drawn(self, expected: sparse.csr_matrix, counts: sparse.csr_matrix, packed: TileInput) -> sparse.csr_matrix:
        """Draw whole counts around expected ones."""
        unit = packed.unit
        ratios, by_gene = expected.tocsc(), counts.tocsc()
        drawn = []
        for start in range(0, len(self.deep), _INTEGER_GENES):
            block = slice(start, min(start + _INTEGER_GENES, len(self.deep)))
            dense = np.zeros((unit.layout.n_spots, block.stop - start))
            dense[unit.own] = by_gene[:, block].toarray()
            of_block = unit.layout.normalize(ratios[:, block].toarray())
            drawn.append(self.assembler.draw(of_block, dense, unit.layout, block, unit.spots))
        return sparse.csr_matrix(sparse.hstack(drawn, format="csr"))


def _without(counts: sparse.csr_matrix, columns: np.ndarray) -> sparse.csr_matrix:
    """Return counts with nothing in some columns, given as (G,) bool."""
    keep = ~columns[counts.indices]
    pointer = np.concatenate([[0], np.cumsum(keep)])[counts.indptr]
    return sparse.csr_matrix((counts.data[keep], counts.indices[keep], pointer), shape=counts.shape)


def _with_shared(
    job: UpsampleJob, checkpoint: Checkpoint, model: FittedSlide, image: HistologyContext, deep: np.ndarray
) -> PreparedMethod:
    """Split some genes, given as (G,) bool, by the flow itself, the others by the maps that they share."""
    job.check_stop()
    by_flow = _by_gene(replace(job, columns=job.columns[deep]), checkpoint, model, image)
    shared = fit_program_fields(job.counts, model.pool, seed=job.settings.seed)
    job.check_stop()
    others = fit_program_gate(model, job, job.columns[~deep], checkpoint.fleet.shared, image.refine)
    trust, skill, methods = np.ones(len(deep)), np.empty(len(deep)), np.empty(len(deep), dtype=object)
    trust[~deep], skill[~deep] = others.trust, others.skill
    methods[~deep] = np.where(others.trust > 0, "srast-programs", "uniform")
    skill[deep], methods[deep] = by_flow.skill, by_flow.method
    assert isinstance(by_flow.splitter, PerGenePredictor)
    splitter = ProgramPredictor(
        network=checkpoint.network,
        calibration=model.calibration,
        known=summarize_fields(job.layout, model.pool, sparse.csr_matrix(shared.fields)),
        slopes=image.slopes(shared.fields),
        loading=np.ascontiguousarray(shared.programs.loading.T[job.columns], dtype=np.float32),
        weights=others.calibration.weights,
        trust=trust,
        assembler=replace(job.assembler, concentration=model.concentration),
        deep=deep,
        by_gene=by_flow.splitter,
    )
    return PreparedMethod(
        splitter=splitter,
        skill=skill,
        method=methods,
        features=model.pool,
        fields=np.hstack([shared.fields, shared.programs.activity, job.counts[:, job.columns[deep]].toarray()]),
        record={"calibration": {"shared": others.calibration.to_dict()}},
    )


def _moved(network: DiT, device: str) -> DiT:
    """Return a copy on a device; other threads may still use the one where it is."""
    moved: DiT = copy.deepcopy(network).to(device)
    return moved
