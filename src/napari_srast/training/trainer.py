"""Train the flow with Lightning Fabric: seeds, averaged weights, mixed precision where available, resume.

Shape legend: B pairs of a spot and a field, K pixels of a spot (padded, masked), Q pixels, F fields.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.errors import Cancelled
from napari_srast.models.pcfm.inputs import PairBatch
from napari_srast.models.pcfm.loss import boundary_loss, endpoint_loss, pair_weight
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.pcfm.path import dirichlet_noise, interpolate
from napari_srast.training.pseudo_slides import PseudoSlide, group_by_study

__all__ = ["TrainerConfig", "train_flow"]

_STEPS_PER_REPORT = 20
_MIN_PAIRS = 8  # a patch with fewer pairs is skipped
_SCALE_PATCHES = 4  # patches per study that the input scales are computed from


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """Configure the training of the flow. The names are keys of a recipe's section ``[trainer]``.

    Parameters
    ----------
    steps
        Number of optimizer steps.
    patch_spots, patch_fields
        Number of neighboring spots and of fields of one pseudo-slide in a step.
    patch_pixels
        Largest number of pixels of a step, over all pairs of a spot and a field: of spots with many pixels fewer pairs
        are used. None: no limit.
    learning_rate, weight_decay
        Parameters of AdamW.
    warmup
        Number of steps of the linear warm-up; cosine decay follows.
    boundary_weight
        Weight of the boundary-aware term.
    mean_share
        Fraction of pairs at t = 0, where the mean is predicted; t is uniform in (0, 1) for the others.
    ema
        Decay of the exponential moving average of the weights; the averaged weights are the result.
    seed
        Random seed of the weights, the patches and the noise.
    checkpoint_every
        Number of steps between resumable states.
    """

    steps: int = 4000
    patch_spots: int = 40
    patch_fields: int = 32
    patch_pixels: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    boundary_weight: float = 0.01
    mean_share: float = 0.6
    ema: float = 0.998
    seed: int = 0
    checkpoint_every: int = 500


def train_flow(
    pseudo_slides: Sequence[PseudoSlide],
    config: TrainerConfig,
    network: DiTConfig,
    *,
    accelerator: str = "auto",
    state_file: Path | None = None,
    monitor: RunMonitor = NO_MONITOR,
    stage: str = "training",
) -> tuple[DiT, list[float]]:
    """Train the flow on pseudo-slides; every study is drawn equally often.

    Parameters
    ----------
    pseudo_slides
        Pseudo-slides to train on.
    config
        Schedule of the training.
    network
        Sizes of the network.
    accelerator
        Accelerator of Lightning Fabric.
    state_file
        File of the resumable state. An interrupted run resumes from it and gives the same result.
    monitor
        Receives the running loss every 20 steps, and can cancel the training, which saves its state first.
    stage
        Stage of the reports.

    Returns
    -------
    network
        The network with averaged weights.
    losses
        Loss of every step.

    Raises
    ------
    Cancelled
        The monitor was canceled.
    """
    from lightning_fabric import Fabric

    mixed = accelerator != "cpu" and torch.cuda.is_available()
    fabric = Fabric(accelerator=accelerator, devices=1, precision="bf16-mixed" if mixed else "32-true")
    fabric.launch()
    torch.manual_seed(config.seed)
    model = DiT(network)
    rng = np.random.default_rng(config.seed)
    groups = list(group_by_study(pseudo_slides).values())
    model.set_scales(_scale_batch(pseudo_slides, groups, rng, config))
    average = copy.deepcopy(model).requires_grad_(False)
    adam = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    flow, optimizer = fabric.setup(model, adam)
    average = average.to(fabric.device)
    generator = torch.Generator().manual_seed(config.seed)
    state = _TrainingState(model=model, average=average, optimizer=optimizer, generator=generator, rng=rng)
    if state_file is not None and state_file.exists():
        state.load(state_file, fabric.device)
    losses = state.losses
    for step in range(len(losses), config.steps):
        if monitor.is_canceled():
            if state_file is not None:
                state.save(state_file)
            raise Cancelled
        group = groups[rng.integers(len(groups))]
        patch = _sample_patch(pseudo_slides[group[rng.integers(len(group))]], config, rng)
        if len(patch) < _MIN_PAIRS:
            losses.append(losses[-1] if losses else 0.0)
            continue
        for parameters in optimizer.param_groups:
            parameters["lr"] = config.learning_rate * _schedule(step, config)
        loss = _patch_loss(flow, patch, config, generator, fabric.device)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(flow, optimizer, max_norm=1.0)
        optimizer.step()
        decay = min(config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for averaged, new in zip(average.parameters(), model.parameters(), strict=True):
                averaged.lerp_(new, 1 - decay)
        losses.append(float(loss.detach()))
        if (step + 1) % _STEPS_PER_REPORT == 0 or step + 1 == config.steps:
            monitor.report(stage, step + 1, config.steps, f"loss {np.mean(losses[-200:]):.4f}")
        if state_file is not None and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps):
            state.save(state_file)
    return average.cpu().eval(), losses


@dataclass(kw_only=True, eq=False)
class _TrainingState:
    """Everything that an interrupted training needs to resume with the same result."""

    model: DiT
    average: DiT
    optimizer: Any
    generator: torch.Generator
    rng: np.random.Generator
    losses: list[float] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "rng": self.rng.bit_generator.state,
                "losses": self.losses,
            },
            part,
        )
        part.replace(path)

    def load(self, path: Path, device: Any) -> None:
        """Restore a saved state."""
        state = torch.load(path, map_location=device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.rng.bit_generator.state = state["rng"]
        self.losses = list(state["losses"])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Patch:
    """Pairs of a spot and a field of one pseudo-slide: indices of target spots and of fields, both (B,)."""

    pseudo_slide: PseudoSlide
    target: Tensor
    field: Tensor

    def __len__(self) -> int:
        return len(self.target)


def _patch_loss(flow: Any, patch: _Patch, config: TrainerConfig, generator: torch.Generator, device: Any) -> Tensor:
    """Return the endpoint loss of a patch plus the boundary-aware term."""
    inputs, truth = patch.pseudo_slide.inputs, patch.pseudo_slide.truth
    batch = inputs.gather_pairs(patch.target, patch.field)
    pixel = inputs.neighborhoods.target_pixels[patch.target]
    y = truth[pixel, patch.field[:, None]] * batch.mask
    n = y.sum(dim=1)
    x_1 = y / n[:, None].clamp_min(1e-9)
    t = torch.rand(len(n), generator=generator) * (torch.rand(len(n), generator=generator) > config.mean_share)
    x_t = interpolate(dirichlet_noise(batch.mask, generator), x_1, t)
    moved = PairBatch(*(v.to(device) for v in (batch.tokens, batch.condition, batch.log_prior, batch.mask)))
    log_ratio = flow(moved, x_t.to(device), t.to(device))
    weight = pair_weight(n).to(device)
    n_pixels = batch.mask.sum(dim=1).to(device)
    loss = endpoint_loss(log_ratio, x_1.to(device), n_pixels, weight)
    if config.boundary_weight > 0:
        loss = loss + config.boundary_weight * _boundary_term(patch, log_ratio, batch.mask, pixel, t)
    return loss


def _boundary_term(patch: _Patch, log_ratio: Tensor, mask: Tensor, pixel: Tensor, t: Tensor) -> Tensor:
    """Return the boundary loss over touching pixels of a patch's spots.

    Only pairs at t = 0 count; the state of the others contains part of the answer.
    """
    pseudo_slide, device = patch.pseudo_slide, log_ratio.device
    fields, column = torch.unique(patch.field, return_inverse=True)
    spot = torch.from_numpy(pseudo_slide.inputs.neighborhoods.target_spots)[patch.target]
    level = pseudo_slide.inputs.log_denoised[spot, patch.field].to(device)
    density = torch.full((pseudo_slide.layout.n_pixels, len(fields)), torch.nan, device=device)
    use = mask & (t == 0)[:, None]
    columns = column[:, None].expand(mask.shape)[use]
    density[pixel[use].to(device), columns.to(device)] = (log_ratio + level[:, None])[use.to(device)]
    edges = pseudo_slide.edges.to(device)
    defined = torch.isfinite(density[edges[0]]) & torch.isfinite(density[edges[1]])
    density = torch.nan_to_num(density)
    return boundary_loss(density, edges, pseudo_slide.edge_similarity.to(device), defined.float())


def _sample_patch(pseudo_slide: PseudoSlide, config: TrainerConfig, rng: np.random.Generator) -> _Patch:
    """Sample neighboring spots and some fields; keep the pairs that have counts."""
    inputs = pseudo_slide.inputs
    target_spots = inputs.neighborhoods.target_spots
    centers = pseudo_slide.layout.spots[target_spots]
    seed = centers[rng.integers(len(centers))]
    n_spots = min(config.patch_spots, len(centers))
    nearest = np.argpartition(np.sum((centers - seed) ** 2, axis=1), n_spots - 1)[:n_spots]
    n_fields = min(config.patch_fields, inputs.n_fields)
    fields = rng.choice(inputs.n_fields, n_fields, replace=False)
    target, field = np.repeat(nearest, n_fields), np.tile(fields, n_spots)
    has_counts = inputs.counts.numpy()[target_spots[target], field] > 0
    if config.patch_pixels is not None:
        most = max(1, config.patch_pixels // inputs.neighborhoods.pixel_mask.shape[1])
        used = np.flatnonzero(has_counts)
        has_counts[rng.permutation(used)[most:]] = False
    return _Patch(
        pseudo_slide=pseudo_slide,
        target=torch.from_numpy(target[has_counts]),
        field=torch.from_numpy(field[has_counts]),
    )


def _scale_batch(
    pseudo_slides: Sequence[PseudoSlide], groups: list[list[int]], rng: np.random.Generator, config: TrainerConfig
) -> PairBatch:
    """Join patches of all studies; their statistics standardize the inputs."""
    parts = []
    for group in groups:
        for _ in range(_SCALE_PATCHES):
            patch = _sample_patch(pseudo_slides[group[rng.integers(len(group))]], config, rng)
            if len(patch):
                parts.append(patch.pseudo_slide.inputs.gather_pairs(patch.target, patch.field))
    tokens = torch.cat([p.tokens[p.mask] for p in parts])
    condition = torch.cat([p.condition for p in parts])
    return PairBatch(tokens, condition, torch.zeros(len(tokens)), torch.ones(len(tokens), dtype=torch.bool))


def _schedule(step: int, config: TrainerConfig) -> float:
    """Return the factor of the learning rate: linear warm-up, then cosine decay."""
    rise = min(1.0, (step + 1) / config.warmup)
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(step / config.steps, 1.0))))
