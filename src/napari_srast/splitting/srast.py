"""SASA + PCFM as a method: every gene by the flow itself, or all genes of a large panel by their programs.

Shape legend: N spots, G genes, Q pixels, F genes of a block, P programs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from napari_srast.models.calibration import Calibration, pool_ratios
from napari_srast.models.checkpoint import Checkpoint, load_checkpoint
from napari_srast.models.devices import choose_device, one_thread
from napari_srast.models.fields import FieldSummary, summarise_fields
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.sampler import Sampler
from napari_srast.models.programs import fit_programs, program_panel
from napari_srast.models.slide_model import Experts, SlideModel, fallen_back, fit_slide_model
from napari_srast.models.uncertainty import Concentration
from napari_srast.splitting.image import JobImage, image_of
from napari_srast.splitting.job import Assembler, Job, blocks
from napari_srast.splitting.method import Block, Method, Packed, Splitter
from napari_srast.splitting.mixture import Mixture
from napari_srast.splitting.trust import program_trust

__all__ = ["FULL_GENES", "prepare_srast"]

FULL_GENES = 512
"""Up to this many genes each is split by the flow itself; beyond, by the programs that it belongs to."""
_STEPS, _DRAWS = 8, 16
_INTEGER_GENES = 256  # drawn at once: draws are dense


def prepare_srast(job: Job) -> Generator[tuple[str, int, int], None, Method]:
    """Fit SASA, calibrate and check the genes; yields (stage, done, total) and returns the method."""
    with one_thread():
        return (yield from _prepare(job))


def _prepare(job: Job) -> Generator[tuple[str, int, int], None, Method]:
    device = choose_device(job.settings.device)
    checkpoint = load_checkpoint(job.settings.model)
    checkpoint.network.to(device)
    fitting = fit_slide_model(
        job.counts,
        job.centers,
        job.lattice,
        checkpoint,
        seed=job.settings.seed,
        device=device,
        should_stop=job.should_stop,
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
    by_program = len(job.columns) > FULL_GENES and job.settings.mode != "sample"
    method = (_by_program if by_program else _by_gene)(job, checkpoint, model, image)
    chosen = job.chosen()
    told = image.recorded(image.slopes(chosen), np.asarray(chosen.sum(axis=0)).ravel())
    calibration = (
        model.calibration.to_dict() | model.concentration.to_dict() | ({} if told is None else {"image": told})
    )
    record = {"device": device, "model_sha256": checkpoint.sha256, "calibration": calibration}
    return replace(method, image=image.local, notices=image.notices, record=record)


@dataclass(frozen=True, kw_only=True, eq=False)
class _GeneSplitter(Splitter):
    """Every gene by the flow itself, pooled with the interpolations as the calibration says."""

    network: DiT
    calibration: Calibration
    concentration: Concentration
    known: FieldSummary
    methods: np.ndarray
    slopes: np.ndarray | None
    sampler: Sampler
    assembler: Assembler

    def blocks(self, n_pixels: int) -> list[slice]:
        return blocks(len(self.methods), 4 * n_pixels)

    def on(self, device: str) -> Splitter:
        return replace(self, network=_moved(self.network, device))

    def open(self, packed: Packed, should_stop: Callable[[], bool] | None) -> Callable[[slice], Block]:
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
            log_ratio = fallen_back(log_ratio, log_experts, methods[block])
            counts = self.assembler.counts(np.exp(log_ratio), dense, layout, block, unit.index)
            if self.assembler.mode != "sample":
                return counts, None
            deviation = np.zeros(counts.shape)
            flow = np.exp(log_experts[0])
            for sample in sampler.samples(experts.network, condition, should_stop):
                deviation += (sample - flow) ** 2
            own = dense[layout.parent]
            variance = self.concentration.std(layout.normalise(np.exp(log_ratio)), own) ** 2
            # Of two predictions mixed evenly: the scatter that the slide's check shows, and the flow's draws. Where the
            # flow was not taken, its draws say nothing.
            taken = methods[block] == "srast"
            drawn = deviation[:, taken] / sampler.draws * own[:, taken] ** 2
            variance[:, taken] = (variance[:, taken] + drawn) / 2
            return counts, sparse.csc_matrix(np.sqrt(variance).astype(np.float32))

        return split_block


def _by_gene(job: Job, checkpoint: Checkpoint, model: SlideModel, image: JobImage) -> Method:
    """Every gene by the flow itself."""
    settings = job.settings
    checks = []
    for block in blocks(len(job.columns), 4 * model.n_coarse_pixels):
        job.check_stop()
        checks.append(model.check(job.columns[block], job.should_stop, image.refine))
    methods = np.concatenate([check.fall_back() for check in checks])
    splitter = _GeneSplitter(
        network=checkpoint.network,
        calibration=model.calibration,
        concentration=model.concentration,
        known=summarise_fields(job.layout, model.pool, job.chosen()),
        methods=methods,
        slopes=image.slopes(job.chosen()),
        sampler=Sampler(steps=settings.steps or _STEPS, draws=settings.draws or _DRAWS, seed=settings.seed),
        assembler=job.assembler,
    )
    skill = np.concatenate([check.skill for check in checks])
    return Method(splitter=splitter, skill=skill, method=methods, features=model.pool)


@dataclass(frozen=True, kw_only=True, eq=False)
class _ProgramSplitter(Splitter):
    """Programs by the flow, every gene as a mixture of its programs."""

    network: DiT
    calibration: Calibration
    known: FieldSummary
    slopes: np.ndarray | None
    loading: np.ndarray
    trust: np.ndarray
    assembler: Assembler
    own_counts_only = True

    def blocks(self, n_pixels: int) -> list[slice]:
        return [slice(0, len(self.trust))]

    def on(self, device: str) -> Splitter:
        return replace(self, network=_moved(self.network, device))

    def open(self, packed: Packed, should_stop: Callable[[], bool] | None) -> Callable[[slice], Block]:
        unit, layout, fields = packed.unit, packed.unit.layout, packed.fields
        assert packed.features is not None
        assert fields is not None
        experts = Experts.on(layout, packed.features, self.network, unit.surroundings)
        n_programs = self.loading.shape[1]
        _, log_experts = experts.predict(sparse.csr_matrix(fields[:, :n_programs]), should_stop, self.known)
        log_ratio = pool_ratios(log_experts, fields[:, :n_programs], layout, self.calibration)
        if packed.image is not None and self.slopes is not None:
            log_ratio = packed.image.added_to(log_ratio, self.slopes, layout)
        mixture = Mixture(
            layout=layout,
            ratios=np.exp(log_ratio),
            activity=fields[unit.own, n_programs:],
            loading=self.loading,
            trust=self.trust,
        )

        def split_block(block: slice) -> Block:
            whole = mixture.split(packed.counts)
            return (self._drawn(whole, packed) if self.assembler.mode == "integer" else whole), None

        return split_block

    def _drawn(self, expected: sparse.csr_matrix, packed: Packed) -> sparse.csr_matrix:
        """Draw whole counts around expected ones."""
        unit = packed.unit
        ratios, counts = expected.tocsc(), packed.counts.tocsc()
        drawn = []
        for start in range(0, len(self.trust), _INTEGER_GENES):
            block = slice(start, min(start + _INTEGER_GENES, len(self.trust)))
            dense = np.zeros((unit.layout.n_spots, block.stop - start))
            dense[unit.own] = counts[:, block].toarray()
            of_block = unit.layout.normalise(ratios[:, block].toarray())
            drawn.append(self.assembler.draw(of_block, dense, unit.layout, block, unit.index))
        return sparse.csr_matrix(sparse.hstack(drawn, format="csr"))


def _by_program(job: Job, checkpoint: Checkpoint, model: SlideModel, image: JobImage) -> Method:
    """Programs by the flow, every gene as a mixture of its programs."""
    job.check_stop()
    pool = model.pool
    denoising = pool.fit_denoising(job.counts[:, program_panel(job.counts)])
    programs = fit_programs(
        job.counts,
        lambda spots: denoising.at(pool.surroundings[spots], pool.depth[spots]),
        seed=job.settings.seed,
    )
    job.check_stop()
    fields = programs.fields(job.counts)
    trust, skill = program_trust(programs, model, job, image.refine)
    splitter = _ProgramSplitter(
        network=checkpoint.network,
        calibration=model.calibration,
        known=summarise_fields(job.layout, pool, sparse.csr_matrix(fields)),
        slopes=image.slopes(fields),
        loading=np.ascontiguousarray(programs.loading.T[job.columns], dtype=np.float32),
        trust=trust,
        assembler=job.assembler,
    )
    return Method(
        splitter=splitter,
        skill=skill,
        method=np.where(trust > 0, "srast-programs", "uniform").astype(object),
        features=pool,
        fields=np.hstack([fields, programs.activity]),
    )


def _moved(network: DiT, device: str) -> DiT:
    """Return a copy on a device; other threads may still use the one where it is."""
    moved: DiT = copy.deepcopy(network).to(device)
    return moved
