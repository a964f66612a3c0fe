"""The training loop of the flow, under Lightning Fabric: seeds, EMA, mixed precision where the device has it, resume.

Shape legend: B pairs, K pixels of a spot (padded, masked), Q pixels, F fields.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_srast.models.pcfm.condition import PairBatch
from napari_srast.models.pcfm.loss import boundary_loss, endpoint_loss, pair_weight
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.pcfm.path import dirichlet_noise, interpolate
from napari_srast.training.pseudo_slides import PseudoSlide, studies

__all__ = ["TrainerConfig", "train_flow"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """How the flow is trained.

    Parameters
    ----------
    steps
        Optimizer steps.
    patch_spots, patch_fields
        A step sees a patch of neighboring spots and some fields of one case.
    learning_rate, weight_decay, warmup
        AdamW with linear warm-up and cosine decay.
    boundary_weight
        Weight of the boundary-aware term.
    mean_share
        Share of pairs at t = 0, where the mean is predicted; the rest has t uniform in (0, 1).
    ema
        Decay of the averaged weights, which are the ones that are kept.
    seed
        Seeds everything.
    checkpoint_every
        Steps between resumable states.
    """

    steps: int = 4000
    patch_spots: int = 40
    patch_fields: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    boundary_weight: float = 0.01
    mean_share: float = 0.6
    ema: float = 0.998
    seed: int = 0
    checkpoint_every: int = 500


def train_flow(
    cases: Sequence[PseudoSlide],
    config: TrainerConfig,
    network: DiTConfig,
    *,
    accelerator: str = "auto",
    state_file: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[DiT, list[float]]:
    """Train the flow on cases, every study as often as every other.

    Parameters
    ----------
    cases
        Pseudo-slides.
    config, network
        How, and how large.
    accelerator
        Of Lightning Fabric.
    state_file
        Where the resumable state lives; a run that was killed goes on from there to the same result.
    progress
        Called with step, steps and the running loss.

    Returns
    -------
    network, losses
        The averaged network, and the loss of every step.
    """
    from lightning_fabric import Fabric

    mixed = accelerator != "cpu" and torch.cuda.is_available()
    fabric = Fabric(accelerator=accelerator, devices=1, precision="bf16-mixed" if mixed else "32-true")
    fabric.launch()
    torch.manual_seed(config.seed)
    model = DiT(network)
    rng = np.random.default_rng(config.seed)
    groups = list(studies(cases).values())
    model.set_scales(_scale_batch(cases, groups, rng, config))
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    flow, optimizer = fabric.setup(model, optimizer)
    average = average.to(fabric.device)
    generator = torch.Generator().manual_seed(config.seed)
    losses: list[float] = []
    if state_file is not None and state_file.exists():
        losses = _resume(state_file, fabric.device, model, average, optimizer, generator, rng)
    for step in range(len(losses), config.steps):
        group = groups[rng.integers(len(groups))]
        case = cases[group[rng.integers(len(group))]]
        target, field = _patch(case, config, rng)
        if len(target) < 8:
            losses.append(losses[-1] if losses else 0.0)
            continue
        for parameters in optimizer.param_groups:
            parameters["lr"] = config.learning_rate * _schedule(step, config)
        loss = _loss(flow, case, target, field, config, generator, fabric.device)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        fabric.clip_gradients(flow, optimizer, max_norm=1.0)
        optimizer.step()
        decay = min(config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        losses.append(float(loss.detach()))
        if progress is not None and (step + 1) % 20 == 0:
            progress(step + 1, config.steps, float(np.mean(losses[-200:])))
        if state_file is not None and ((step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps):
            _save(state_file, model, average, optimizer, generator, rng, losses)
    return average.cpu().eval(), losses


def _loss(
    flow: Any,
    case: PseudoSlide,
    target: Tensor,
    field: Tensor,
    config: TrainerConfig,
    generator: torch.Generator,
    device: Any,
) -> Tensor:
    """Endpoint loss of a patch, plus the boundary-aware term over its seams."""
    condition = case.condition
    batch = condition.pairs(target, field)
    pixel = condition.geometry.pixel[target]
    y = case.truth[pixel, field[:, None]] * batch.mask
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
        loss = loss + config.boundary_weight * _seams(case, target, field, log_ratio, batch.mask, pixel, t)
    return loss


def _seams(
    case: PseudoSlide, target: Tensor, field: Tensor, log_ratio: Tensor, mask: Tensor, pixel: Tensor, t: Tensor
) -> Tensor:
    """Boundary term over the touching pixels of a patch's spots, for pairs at t = 0 (others saw part of the answer)."""
    device = log_ratio.device
    fields, column = torch.unique(field, return_inverse=True)
    spot = torch.from_numpy(case.condition.geometry.target)[target]
    level = case.condition.log_denoised[spot, field].to(device)
    density = torch.full((case.layout.n_pixels, len(fields)), torch.nan, device=device)
    use = mask & (t == 0)[:, None]
    columns = column[:, None].expand(mask.shape)[use]
    density[pixel[use].to(device), columns.to(device)] = (log_ratio + level[:, None])[use.to(device)]
    edges = case.edges.to(device)
    known = torch.isfinite(density[edges[0]]) & torch.isfinite(density[edges[1]])
    density = torch.nan_to_num(density)
    return boundary_loss(density, edges, case.edge_similarity.to(device), known.float())


def _patch(case: PseudoSlide, config: TrainerConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Choose neighboring spots and some fields; keep the pairs that hold counts."""
    geometry = case.condition.geometry
    places = case.layout.spots[geometry.target]
    seed = places[rng.integers(len(places))]
    n_spots = min(config.patch_spots, len(places))
    near = np.argpartition(np.sum((places - seed) ** 2, axis=1), n_spots - 1)[:n_spots]
    n_fields = min(config.patch_fields, case.condition.n_fields)
    fields = rng.choice(case.condition.n_fields, n_fields, replace=False)
    target, field = np.repeat(near, n_fields), np.tile(fields, n_spots)
    held = case.condition.counts.numpy()[geometry.target[target], field] > 0
    return torch.from_numpy(target[held]), torch.from_numpy(field[held])


def _scale_batch(
    cases: Sequence[PseudoSlide], groups: list[list[int]], rng: np.random.Generator, config: TrainerConfig
) -> PairBatch:
    """Join patches of all studies: the inputs are standardized by their statistics."""
    parts = []
    for group in groups:
        for _ in range(4):
            case = cases[group[rng.integers(len(group))]]
            target, field = _patch(case, config, rng)
            if len(target):
                parts.append(case.condition.pairs(target, field))
    tokens = torch.cat([p.tokens[p.mask] for p in parts])
    condition = torch.cat([p.condition for p in parts])
    return PairBatch(tokens, condition, torch.zeros(len(tokens)), torch.ones(len(tokens), dtype=torch.bool))


def _schedule(step: int, config: TrainerConfig) -> float:
    rise = min(1.0, (step + 1) / config.warmup)
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(step / config.steps, 1.0))))


def _save(
    path: Path,
    model: DiT,
    average: DiT,
    optimizer: Any,
    generator: torch.Generator,
    rng: np.random.Generator,
    losses: list[float],
) -> None:
    """Write the resumable state, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(
        {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "generator": generator.get_state(),
            "rng": rng.bit_generator.state,
            "losses": losses,
        },
        part,
    )
    part.replace(path)


def _resume(
    path: Path,
    device: Any,
    model: DiT,
    average: DiT,
    optimizer: Any,
    generator: torch.Generator,
    rng: np.random.Generator,
) -> list[float]:
    state = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"].cpu())
    rng.bit_generator.state = state["rng"]
    return list(state["losses"])
