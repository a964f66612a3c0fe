"""From condition to ratios: the mean of the flow, and samples of it.

Shape legend: T target spots, Q pixels, K pixels of a spot (padded), F fields, B pairs, S draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_srast._utils.devices import bfloat16_where_native, device_lock, on_device
from napari_srast.errors import Cancelled
from napari_srast.models.pcfm.condition import FlowInputs, PairBatch
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.path import dirichlet_noise, euler_step

__all__ = ["Sampler"]

Stop = Callable[[], bool] | None
# Pairs, and pixels of all these pairs, that go through the network at once.
_AT_ONCE_CPU = 2048, 1 << 14  # what passes between its layers stays in the cache
_AT_ONCE_GPU = 32_768, 1 << 18  # CUDA's attention cannot take 65,536 pairs; the pixels take some 700 MB


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
        few enough to stay in its cache, which made a pair two to three times as fast.
    """

    steps: int = 8
    draws: int = 16
    seed: int = 0
    batch_pairs: int | None = None

    def mean(self, network: DiT, condition: FlowInputs, should_stop: Stop = None) -> np.ndarray:
        """Return log mean ratios of every pixel and field, float32, shape (Q, F)."""
        device = network.head.weight.device
        with device_lock(device), torch.inference_mode():
            resident = _moved(condition, device)
            out = _even(resident)
            for row, field, batch in self._batches(condition, resident, should_stop):
                start = batch.mask / batch.mask.sum(dim=1, keepdim=True)
                out[row, field] = network(batch, start, torch.zeros(len(start), device=device))
            return out[:-1].cpu().numpy()

    def samples(self, network: DiT, condition: FlowInputs, should_stop: Stop = None) -> Iterator[np.ndarray]:
        """Yield ``draws`` samples of the ratios, float32, shape (Q, F) each."""
        device = network.head.weight.device
        resident = _moved(condition, device)
        for draw in range(self.draws):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + draw)
            # Draws only tell how far counts scatter: rounding is nothing beside what so few of them leave open.
            with device_lock(device), torch.inference_mode(), bfloat16_where_native(device):
                out = torch.exp(_even(resident))
                for row, field, batch in self._batches(condition, resident, should_stop):
                    x = dirichlet_noise(batch.mask, generator)
                    for step in range(self.steps):
                        t = step / self.steps
                        endpoint = torch.exp(network(batch, x, torch.full((len(x),), t, device=device)))
                        x = euler_step(x, endpoint, t, 1 / self.steps)
                    out[row, field] = x
                ratios = out[:-1].cpu().numpy()
            yield ratios

    def _batches(
        self, condition: FlowInputs, resident: FlowInputs, should_stop: Stop
    ) -> Iterator[tuple[Tensor, Tensor, PairBatch]]:
        """Walk over the pairs that hold counts; yields where they go, rows (B, K) and fields (B, 1), and their input.

        Which pairs these are is asked of the condition on the CPU: for a device's answer everything would have to wait.
        """
        target, field = torch.nonzero(condition.counts[condition.geometry.target] > 0, as_tuple=True)
        rows = _rows(resident)
        at_once = self.batch_pairs or _pairs_at_once(rows.device, rows.shape[1])
        for start in range(0, len(target), at_once):
            if should_stop is not None and should_stop():
                raise Cancelled
            spots, of_fields = target[start : start + at_once], field[start : start + at_once]
            yield rows[spots], on_device(of_fields, rows.device)[:, None], resident.pairs(spots, of_fields)


def _pairs_at_once(device: torch.device, n_pixels: int) -> int:
    """Return how many pairs of spots with so many pixels go through the network at once."""
    pairs, pixels = _AT_ONCE_CPU if device.type == "cpu" else _AT_ONCE_GPU
    return max(1, min(pairs, pixels // n_pixels))


def _moved(condition: FlowInputs, device: torch.device) -> FlowInputs:
    """Return the condition on a device: all batches of a unit are gathered there, from this one transfer."""

    def tensors(part: Any) -> dict[str, Any]:
        values = {one.name: getattr(part, one.name) for one in fields(part)}
        return {name: on_device(value, device) for name, value in values.items() if isinstance(value, Tensor)}

    geometry = replace(condition.geometry, **tensors(condition.geometry))
    return replace(condition, geometry=geometry, **tensors(condition))


def _rows(condition: FlowInputs) -> Tensor:
    """Row of each pixel of each target spot in the ratios, (T, K); padding goes to one more row, which is left out.

    So nothing is chosen by a mask: a device would have to be waited for to tell how much that is.
    """
    geometry = condition.geometry
    return torch.where(geometry.mask, geometry.pixel, len(geometry.offset))


def _even(condition: FlowInputs) -> Tensor:
    """Log ratios of the even split, with a row for padding, shape (Q + 1, F)."""
    geometry = condition.geometry
    out = torch.zeros(len(geometry.offset) + 1, condition.n_fields, device=geometry.mask.device)
    out[_rows(condition)] = -torch.log(geometry.mask.sum(dim=1).float())[:, None, None]
    return out
