"""From condition to ratios: the mean of the flow, samples of it, whole counts.

Shape legend: T target spots, Q pixels, K pixels of a spot (padded), F fields, B pairs, S draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_srast.errors import Cancelled
from napari_srast.geometry.layout import Layout
from napari_srast.models.pcfm.condition import Condition, PairBatch
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.path import dirichlet_noise, euler_step

__all__ = ["Sampler", "draw_counts"]

Stop = Callable[[], bool] | None
_PAIRS_CPU, _PAIRS_GPU = 2048, 32_768


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """How ratios are drawn.

    Parameters
    ----------
    steps
        Euler steps of a sample; the mean takes one step from t = 0, which is E[r | condition] at the optimum.
    draws
        Number of samples.
    seed
        Seeds the noise.
    batch_pairs
        Pairs of a spot and a field in one call of the network. None: as many as a GPU works on at once, and on a CPU
        few enough to stay in its cache, which made a pair three times as fast.
    """

    steps: int = 8
    draws: int = 16
    seed: int = 0
    batch_pairs: int | None = None

    def mean(
        self, network: DiT, condition: Condition, should_stop: Stop = None, *, only: np.ndarray | None = None
    ) -> np.ndarray:
        """Return log mean ratios of every pixel and field, float32, shape (Q, F).

        Spots that are not in ``only`` (indices) are split evenly; None asks about all.
        """
        out = _even(condition)
        with torch.inference_mode():
            for target, field, batch in self._batches(network, condition, should_stop, only):
                start = batch.mask / batch.mask.sum(dim=1, keepdim=True)
                log_ratio = network(batch, start, torch.zeros(len(target), device=start.device))
                _scatter(out, condition, target, field, log_ratio.cpu())
        return out.numpy()

    def samples(
        self, network: DiT, condition: Condition, should_stop: Stop = None, *, only: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yield ``draws`` samples of the ratios, float32, shape (Q, F) each; ``only`` as for the mean."""
        for draw in range(self.draws):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + draw)
            out = torch.exp(_even(condition))
            with torch.inference_mode():
                for target, field, batch in self._batches(network, condition, should_stop, only):
                    x = dirichlet_noise(batch.mask.cpu(), generator).to(batch.mask.device)
                    for step in range(self.steps):
                        t = step / self.steps
                        endpoint = torch.exp(network(batch, x, torch.full((len(x),), t, device=x.device)))
                        x = euler_step(x, endpoint, t, 1 / self.steps)
                    _scatter(out, condition, target, field, x.cpu())
            yield out.numpy()

    def _batches(
        self, network: DiT, condition: Condition, should_stop: Stop, only: np.ndarray | None
    ) -> Iterator[tuple[Tensor, Tensor, PairBatch]]:
        """Walk over the pairs that hold counts."""
        device = network.head.weight.device
        spots = torch.from_numpy(condition.geometry.target)
        held = condition.counts[spots] > 0
        if only is not None:
            held &= torch.isin(spots, torch.from_numpy(only))[:, None]
        target, field = torch.nonzero(held, as_tuple=True)
        at_once = self.batch_pairs or (_PAIRS_CPU if device.type == "cpu" else _PAIRS_GPU)
        for start in range(0, len(target), at_once):
            if should_stop is not None and should_stop():
                raise Cancelled
            part = slice(start, start + at_once)
            batch = condition.pairs(target[part], field[part])
            if device.type != "cpu":
                batch = PairBatch(
                    *(
                        v.to(device, non_blocking=True)
                        for v in (batch.tokens, batch.condition, batch.log_prior, batch.mask)
                    )
                )
            yield target[part], field[part], batch


def _even(condition: Condition) -> Tensor:
    """Log ratios of the even split, shape (Q, F)."""
    geometry = condition.geometry
    out = torch.zeros(len(geometry.offset), condition.n_fields)
    n_pixels = geometry.mask.sum(dim=1)
    log_even = -torch.log(n_pixels.float())[:, None].expand(geometry.mask.shape)
    out[geometry.pixel[geometry.mask]] = log_even[geometry.mask][:, None]
    return out


def _scatter(out: Tensor, condition: Condition, target: Tensor, field: Tensor, values: Tensor) -> None:
    """Write (B, K) values to their pixels and fields of ``out`` (Q, F)."""
    mask = condition.geometry.mask[target]
    pixel = condition.geometry.pixel[target][mask]
    out[pixel, field[:, None].expand(mask.shape)[mask]] = values[mask]


def draw_counts(ratios: np.ndarray, counts: np.ndarray, layout: Layout, seed: int) -> np.ndarray:
    """Draw whole counts: one multinomial draw for each spot and field, int64, shape (Q, F).

    Parameters
    ----------
    ratios
        Shape (Q, F), summing to 1 within each spot.
    counts
        Counts of the spots, shape (N, F); must be whole.
    layout
        Gives each pixel's spot.
    seed
        Seeds the draw.

    Notes
    -----
    A multinomial is a chain of binomials; pixels are walked slot by slot, all spots and fields at once.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(layout.parent, kind="stable")
    n_pixels = layout.n_pixels_of_spot
    starts = np.concatenate([[0], np.cumsum(n_pixels)[:-1]])
    left = np.rint(counts).astype(np.int64)
    mass = np.ones(counts.shape)
    drawn = np.zeros(ratios.shape, dtype=np.int64)
    for slot in range(int(n_pixels.max(initial=0))):
        spots = np.flatnonzero(n_pixels > slot)
        pixel = order[starts[spots] + slot]
        share = ratios[pixel].astype(np.float64)
        chance = np.clip(share / np.maximum(mass[spots], 1e-12), 0.0, 1.0)
        chance[n_pixels[spots] == slot + 1] = 1.0  # the last pixel takes what is left, to the last count
        drawn[pixel] = rng.binomial(left[spots], chance)
        left[spots] -= drawn[pixel]
        mass[spots] -= share
    return drawn
