"""SASA + PCFM as a method: every gene by the flow itself, or all genes of a large panel by their programs.

Shape legend: N spots, G genes, Q pixels, F genes of a block, P programs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

import numpy as np
from scipy import sparse

from napari_srast.geometry.layout import Layout
from napari_srast.models.calibration import POOL, pool_ratios
from napari_srast.models.checkpoint import Checkpoint, load_checkpoint
from napari_srast.models.devices import choose_device
from napari_srast.models.pcfm.sampler import Sampler
from napari_srast.models.programs import Programs, fit_programs, program_panel
from napari_srast.models.slide_model import FEWEST_COUNTS, Experts, SlideModel, fit_slide_model
from napari_srast.splitting.job import Job, Tile, blocks
from napari_srast.splitting.method import Block, Method

__all__ = ["FULL_GENES", "prepare_srast"]

FULL_GENES = 512
"""Up to this many genes each is split by the flow itself; beyond, by the programs that it belongs to."""
_STEPS, _DRAWS = 8, 16


def prepare_srast(job: Job) -> Generator[tuple[str, int, int], None, Method]:
    """Fit SASA, calibrate and check the genes; yields (stage, done, total) and returns the method."""
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
    by_program = len(job.columns) > FULL_GENES and job.settings.mode != "sample"
    method = (_by_program if by_program else _by_gene)(job, checkpoint, model)
    record = {"device": device, "model_sha256": checkpoint.sha256, "calibration": model.calibration.to_dict()}
    return replace(method, record=record)


def _by_gene(job: Job, checkpoint: Checkpoint, model: SlideModel) -> Method:
    """Every gene by the flow itself, pooled with the interpolations as the calibration says."""
    settings = job.settings
    sampler = Sampler(steps=settings.steps or _STEPS, draws=settings.draws or _DRAWS, seed=settings.seed)
    checks = []
    for block in blocks(len(job.columns), 1000):
        job.check_stop()
        checks.append(model.check(job.columns[block], job.should_stop))
    methods = np.concatenate([check.fall_back() for check in checks])

    def open_tile(tile: Tile) -> Callable[[slice], Block]:
        layout, spots = tile.layout, tile.spots
        experts = Experts.on(layout, model.pool, checkpoint.network)

        def split_block(block: slice) -> Block:
            condition, log_experts = experts.predict(job.counts[:, job.columns[block]], job.should_stop, only=spots)
            dense = job.dense(block)
            log_ratio = pool_ratios(log_experts, dense, layout, model.calibration)
            for name in POOL[1:]:
                chosen = methods[block] == name
                log_ratio[:, chosen] = log_experts[POOL.index(name)][:, chosen]
            log_ratio[:, methods[block] == "uniform"] = 0.0
            counts = job.assemble(tile, np.exp(log_ratio), dense, block)
            if settings.mode != "sample":
                return counts, None
            deviation = np.zeros(counts.shape)
            flow = np.exp(log_experts[0])
            for sample in sampler.samples(experts.network, condition, job.should_stop, only=spots):
                deviation += (sample - flow)[tile.inner] ** 2
            own = dense[layout.parent[tile.inner]]
            spread = np.sqrt(deviation / sampler.draws) * own
            # Where the flow was not taken, its spread says nothing: that of a multinomial draw of the split stays.
            other = methods[block] != "srast"
            share = layout.normalise(np.exp(log_ratio))[tile.inner][:, other]
            spread[:, other] = np.sqrt(own[:, other] * share * (1 - share))
            return counts, sparse.csc_matrix(spread.astype(np.float32))

        return split_block

    return Method(
        open_tile=open_tile,
        skill=np.concatenate([check.skill for check in checks]),
        method=methods,
        values_per_pixel=4,
    )


def _by_program(job: Job, checkpoint: Checkpoint, model: SlideModel) -> Method:
    """Programs by the flow, every gene as a mixture of its programs."""
    job.check_stop()
    panel = program_panel(job.counts)
    programs = fit_programs(job.counts, model.pool.denoise(job.counts[:, panel]), seed=job.settings.seed)
    job.check_stop()
    fields = programs.fields(job.counts)
    trust, skill = _program_trust(programs, model, job)

    def open_tile(tile: Tile) -> Callable[[slice], Block]:
        layout = tile.layout
        experts = Experts.on(layout, model.pool, checkpoint.network)
        _, log_experts = experts.predict(sparse.csr_matrix(fields), job.should_stop, only=tile.spots)
        of_program = np.exp(pool_ratios(log_experts, fields, layout, model.calibration))
        even = 1.0 / layout.n_pixels_of_spot[layout.parent]

        def split_block(block: slice) -> Block:
            ratios = _mix(of_program, programs, layout, job.columns[block])
            ratios = trust[block] * ratios + (1 - trust[block]) * even[:, None]
            return job.assemble(tile, ratios, job.dense(block), block), None

        return split_block

    return Method(
        open_tile=open_tile,
        skill=skill,
        method=np.where(trust > 0, "srast-programs", "uniform").astype(object),
        values_per_pixel=4,
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
    for block in blocks(len(columns), 4 * layout.n_pixels):
        job.check_stop()
        truth = model.coarse_truth[:, columns[block]].toarray().astype(np.float64)
        gain = np.maximum(_mix(of_program, coarse, layout, columns[block]) * n_pixels, 1e-6)
        share = np.full(truth.shape[1], 0.8)
        total = truth.sum(axis=0)
        for _ in range(20):
            responsible = share * gain / (share * gain + 1 - share)
            share = ((truth * responsible).sum(axis=0) + 18.0) / (total + 20.0)
        nats = (truth * np.log(share * gain + 1 - share)).sum(axis=0) / np.maximum(total, 1e-12)
        skill[block] = np.where(total >= FEWEST_COUNTS, nats, np.nan)
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
