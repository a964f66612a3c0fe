"""Splits the counts of a layout: by an interpolation, or by SASA + PCFM with the calibrated pool of experts.

Shape legend: N spots, G genes, Q pixels, F genes of a block, P programs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from napari_srast.errors import Cancelled
from napari_srast.geometry.lattice import Lattice
from napari_srast.geometry.layout import Layout
from napari_srast.interpolation import Interpolator
from napari_srast.slide import UpsampleSettings

if TYPE_CHECKING:
    from napari_srast.models.programs import Programs
    from napari_srast.models.slide_model import Experts, SlideModel

__all__ = ["FULL_GENES", "Job", "Split", "split_steps"]

FULL_GENES = 512
"""Up to this many genes each is split by the flow itself; beyond, by the programs that it belongs to."""
_BLOCK_VALUES = 4_000_000  # pixels x genes in work at once
_STEPS, _DRAWS = 8, 16

Steps = Generator[tuple[str, int, int], None, "Split"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Upsampled counts with how they came about.

    Parameters
    ----------
    counts, std
        float32 CSR, shape (Q, G).
    skill, method
        Per gene, shape (G,).
    device, model_sha256, calibration
        For the provenance.
    """

    counts: sparse.csr_matrix
    std: sparse.csr_matrix | None
    skill: np.ndarray
    method: np.ndarray
    device: str = "cpu"
    model_sha256: str | None = None
    calibration: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What is to be split, and how.

    Parameters
    ----------
    counts, centers, lattice
        The whole slide, (N, G) and (N, 2).
    layout
        Its spots, and the pixels to work on.
    inner
        Which of them are wanted, shape (Q,); the others are context.
    columns, genes
        Chosen columns, and the names of all genes.
    settings
        How.
    should_stop
        Asked before every large step.
    """

    counts: sparse.csr_matrix
    centers: np.ndarray
    lattice: Lattice
    layout: Layout
    inner: np.ndarray
    columns: np.ndarray
    genes: np.ndarray
    settings: UpsampleSettings
    should_stop: Callable[[], bool] | None = None

    def check_stop(self) -> None:
        """Raise Cancelled if the stop token says so."""
        if self.should_stop is not None and self.should_stop():
            raise Cancelled

    def dense(self, block: slice) -> np.ndarray:
        """Return counts of a block of the chosen genes, shape (N, F)."""
        return self.counts[:, self.columns[block]].toarray().astype(np.float64)

    def assemble(self, ratios: np.ndarray, counts: np.ndarray, block: slice) -> sparse.csc_matrix:
        """Multiply ratios (Q, F) by the spots' counts (N, F); in integer mode draw whole counts. Wanted pixels only."""
        if self.settings.mode == "integer":
            from napari_srast.models.pcfm.sampler import draw_counts

            drawn = [
                draw_counts(ratios[:, [j]], counts[:, [j]], self.layout, _gene_seed(self.settings.seed, gene))
                for j, gene in enumerate(self.genes[self.columns[block]])
            ]
            return sparse.csc_matrix(np.hstack(drawn)[self.inner].astype(np.float32))
        exact = self.layout.normalise(ratios) * counts[self.layout.parent]
        return sparse.csc_matrix(exact[self.inner].astype(np.float32))


def split_steps(job: Job) -> Steps:
    """Split the chosen genes; yields (stage, done, total) and returns the :class:`Split`."""
    return _split_srast(job) if job.settings.method == "srast" else _split_interpolated(job)


def _split_interpolated(job: Job) -> Steps:
    interpolator = Interpolator(job.layout)
    blocks = _blocks(len(job.columns), job.layout.n_pixels)
    parts = []
    for i, block in enumerate(blocks):
        job.check_stop()
        fields = job.dense(block)
        ratios = interpolator.ratios(job.settings.method, fields)
        parts.append(job.assemble(ratios, fields, block))
        yield "split", i + 1, len(blocks)
    return Split(
        counts=sparse.hstack(parts, format="csr", dtype=np.float32),
        std=None,
        skill=np.full(len(job.columns), np.nan),
        method=np.array([job.settings.method] * len(job.columns), dtype=object),
    )


def _split_srast(job: Job) -> Steps:
    # Torch loads here, not when the program starts.
    from napari_srast.models.checkpoint import load_checkpoint
    from napari_srast.models.devices import choose_device
    from napari_srast.models.slide_model import Experts, fit_slide_model

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
    yield "calibrate", 1, 1
    experts = Experts.on(job.layout, model.pool, checkpoint.network)
    by_program = len(job.columns) > FULL_GENES and job.settings.mode != "sample"
    split = yield from (_by_program if by_program else _by_gene)(job, experts, model)
    return replace(split, device=device, model_sha256=checkpoint.sha256, calibration=model.calibration.to_dict())


def _by_gene(job: Job, experts: Experts, model: SlideModel) -> Steps:
    """Every gene by the flow itself, pooled with the interpolations as the calibration says."""
    from napari_srast.models.calibration import POOL, pool_ratios
    from napari_srast.models.pcfm.sampler import Sampler

    layout, settings = job.layout, job.settings
    sampler = Sampler(steps=settings.steps or _STEPS, draws=settings.draws or _DRAWS, seed=settings.seed)
    blocks = _blocks(len(job.columns), 4 * layout.n_pixels)
    wanted = np.unique(layout.parent[job.inner])
    parts, spreads, skills, methods = [], [], [], []
    for i, block in enumerate(blocks):
        job.check_stop()
        check = model.check(job.columns[block], job.should_stop)
        condition, log_experts = experts.predict(job.counts[:, job.columns[block]], job.should_stop, only=wanted)
        dense = job.dense(block)
        log_ratio = pool_ratios(log_experts, dense, layout, model.calibration)
        method = check.fall_back()
        for name in POOL[1:]:
            chosen = method == name
            log_ratio[:, chosen] = log_experts[POOL.index(name)][:, chosen]
        log_ratio[:, method == "uniform"] = 0.0
        parts.append(job.assemble(np.exp(log_ratio), dense, block))
        if settings.mode == "sample":
            deviation = np.zeros((int(job.inner.sum()), dense.shape[1]))
            flow = np.exp(log_experts[0])
            for sample in sampler.samples(experts.network, condition, job.should_stop, only=wanted):
                deviation += (sample - flow)[job.inner] ** 2
            spread = np.sqrt(deviation / sampler.draws) * dense[layout.parent[job.inner]]
            spreads.append(sparse.csr_matrix(spread.astype(np.float32)))
        skills.append(check.skill)
        methods.append(method)
        yield "split", i + 1, len(blocks)
    return Split(
        counts=sparse.hstack(parts, format="csr", dtype=np.float32),
        std=sparse.hstack(spreads, format="csr", dtype=np.float32) if spreads else None,
        skill=np.concatenate(skills),
        method=np.concatenate(methods),
    )


def _by_program(job: Job, experts: Experts, model: SlideModel) -> Steps:
    """Programs by the flow, every gene as a mixture of its programs."""
    from napari_srast.models.calibration import pool_ratios
    from napari_srast.models.programs import fit_programs, program_panel

    layout = job.layout
    job.check_stop()
    panel = program_panel(job.counts)
    programs = fit_programs(job.counts, model.pool.denoise(job.counts[:, panel]), seed=job.settings.seed)
    job.check_stop()
    blocks = _blocks(len(job.columns), 8 * layout.n_pixels)
    steps = len(blocks) + 3
    yield "split", 1, steps
    fields = programs.fields(job.counts)
    wanted = np.unique(layout.parent[job.inner])
    _, log_experts = experts.predict(sparse.csr_matrix(fields), job.should_stop, only=wanted)
    of_program = np.exp(pool_ratios(log_experts, fields, layout, model.calibration))
    yield "split", 2, steps
    trust, skill = _program_trust(programs, model, job)
    yield "split", 3, steps
    even = 1.0 / layout.n_pixels_of_spot[layout.parent]
    parts = []
    for i, block in enumerate(blocks):
        job.check_stop()
        ratios = _mix(of_program, programs, layout, job.columns[block])
        ratios = trust[block] * ratios + (1 - trust[block]) * even[:, None]
        parts.append(job.assemble(ratios, job.dense(block), block))
        yield "split", i + 4, steps
    return Split(
        counts=sparse.hstack(parts, format="csr", dtype=np.float32),
        std=None,
        skill=skill,
        method=np.where(trust > 0, "srast-programs", "uniform").astype(object),
    )


def _mix(of_program: np.ndarray, programs: Programs, layout: Layout, columns: np.ndarray) -> np.ndarray:
    """Return r_ig = sum_p a_igp r_ip for all pixels and some genes, shape (Q, F)."""
    weighted = of_program * programs.activity[layout.parent]
    ratios = weighted @ programs.loading[:, columns]
    return layout.normalise(ratios)


def _program_trust(programs: Programs, model: SlideModel, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Choose for each gene how much of its program mixture to trust against the even split, on the coarsened slide.

    The share is that of a two-component mixture, by expectation maximisation with a prior of 20 counts in favour; where
    the mixture then gains nothing, none is trusted.

    Returns
    -------
    trust, skill
        Shape (G,) each; skill in nats per count, NaN where the slide is too small to tell.
    """
    from napari_srast.models.calibration import pool_ratios

    columns = job.columns
    if model.coarse is None or model.coarse_counts is None or model.coarse_truth is None:
        return np.ones(len(columns)), np.full(len(columns), np.nan)
    layout = model.coarse.layout
    # The coarse spots' activities: the sums of those of their pixels are not at hand for spots left out of the coarse
    # slide, so they are fitted again with the slide's own loadings.
    activity = _activities(model.coarse_counts, programs.loading)
    coarse = replace(programs, activity=activity)
    fields = coarse.fields(model.coarse_counts)
    _, log_experts = model.coarse.predict(sparse.csr_matrix(fields), job.should_stop)
    of_program = np.exp(pool_ratios(log_experts, fields, layout, model.calibration))
    n_pixels = layout.n_pixels_of_spot[layout.parent][:, None]
    trust, skill = np.empty(len(columns)), np.empty(len(columns))
    for block in _blocks(len(columns), 4 * layout.n_pixels):
        job.check_stop()
        truth = model.coarse_truth[:, columns[block]].toarray().astype(np.float64)
        gain = np.maximum(_mix(of_program, coarse, layout, columns[block]) * n_pixels, 1e-6)
        share = np.full(truth.shape[1], 0.8)
        total = truth.sum(axis=0)
        for _ in range(20):
            responsible = share * gain / (share * gain + 1 - share)
            share = ((truth * responsible).sum(axis=0) + 18.0) / (total + 20.0)
        nats = (truth * np.log(share * gain + 1 - share)).sum(axis=0) / np.maximum(total, 1e-12)
        skill[block] = np.where(total > 0, nats, np.nan)
        trust[block] = np.where((total > 0) & (nats <= 0), 0.0, share)
    return trust, skill


def _activities(counts: sparse.csr_matrix, loading: np.ndarray, n_iterations: int = 15) -> np.ndarray:
    """Fit h >= 0 of spots to fixed loadings by KL updates."""
    entries = counts.tocoo()
    total = loading.sum(axis=1)
    sums = np.asarray(counts.sum(axis=1)).ravel()
    h = np.tile(sums[:, None] / max(total.sum(), 1e-12), (1, len(loading)))
    for _ in range(n_iterations):
        expected = np.einsum("np,pn->n", h[entries.row], loading[:, entries.col])
        ratio = sparse.csr_matrix(
            (entries.data / np.maximum(expected, 1e-12), (entries.row, entries.col)), shape=counts.shape
        )
        h *= (ratio @ loading.T) / np.maximum(total, 1e-12)
    return h


def _gene_seed(seed: int, gene: str) -> int:
    """Seed a gene's draw by its name, so that it does not depend on the genes that it comes with."""
    return (seed << 32) + zlib.crc32(str(gene).encode())


def _blocks(n_genes: int, n_pixels: int) -> list[slice]:
    size = int(np.clip(_BLOCK_VALUES // max(n_pixels, 1), 1, 256))
    return [slice(start, start + size) for start in range(0, n_genes, size)]
