"""Integrate the flow: mean ratios in one step, or samples of ratios in several Euler steps.

Integration of the flow from noise to ratios is the paper's method (SRast, arXiv 2602.10644); the step rule and the
one-step mean are this project's choice (docs/method.md).

Shape legend: T target spots, Q pixels, K pixels per spot (padded), F fields, B spot-field pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_srast._utils.devices import bfloat16_where_native, device_lock, on_device
from napari_srast._utils.row_blocks import MAX_WHOLE_ROWS
from napari_srast.core.progress import NO_MONITOR, RunMonitor
from napari_srast.models.pcfm.few_pixels import MAX_FEW_PIXELS, mean_of_few_pixels
from napari_srast.models.pcfm.inputs import PRIOR, FlowInputs, PairBatch
from napari_srast.models.pcfm.network import DiT
from napari_srast.models.pcfm.path import dirichlet_noise, euler_step

__all__ = ["FlowSampler"]

# Limits of one network call: pairs, and pixels of all these pairs.
_BATCH_LIMITS_CPU = 2048, 1 << 14  # activations between layers stay in the cache
_BATCH_PAIRS_FEW_PIXELS = 1024
_BATCH_LIMITS_GPU = 32_768, 1 << 18  # CUDA attention is limited to 65,535 pairs; the pixels take about 700 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSampler:
    """Integrate the flow for all spot-field pairs of a slide or tile.

    Parameters
    ----------
    steps
        Euler steps of a sample, 8 by default. The mean takes a single step from t = 0, which is E[ratios | condition]
        for an optimal network.
    draws
        Number of samples, 16 by default.
    seed
        Seed of the noise.
    batch_pairs
        Spot-field pairs per network call. None chooses by device: as many as a GPU processes at once, and on a CPU few
        enough that activations stay in the cache, which makes a pair two to three times as fast.
    of_large_slide
        Whether means may be computed by :func:`~napari_srast.models.pcfm.few_pixels.mean_of_few_pixels`, whose results
        differ by rounding.
    """

    steps: int = 8
    draws: int = 16
    seed: int = 0
    batch_pairs: int | None = None
    of_large_slide: bool = False

    @classmethod
    def for_slide(cls, n_spots: int, **options: int) -> FlowSampler:
        """Return a sampler for a slide of some number of spots: small slides keep their bytes.

        Parameters
        ----------
        n_spots
            Number of spots of the whole slide.
        **options
            Other options of the sampler.
        """
        return cls(of_large_slide=n_spots > MAX_WHOLE_ROWS, **options)

    def mean_log_ratios(
        self,
        network: DiT,
        inputs: FlowInputs,
        monitor: RunMonitor = NO_MONITOR,
        needed: np.ndarray | None = None,
    ) -> np.ndarray:
        """Predict the log mean ratios of every pixel and field; pairs without counts get a uniform split.

        Parameters
        ----------
        network
            Network, on the device to use.
        inputs
            Inputs of the spots and fields, on the CPU.
        monitor
            Asked for cancellation before every network call.
        needed
            Which pairs the network predicts, bool, shape (N, F); the others with counts get the prior. Default: all.

        Returns
        -------
        np.ndarray
            Float32, shape (Q, F).

        Raises
        ------
        Cancelled
            The monitor is canceled.
        """
        device = network.head.weight.device
        with device_lock(device), torch.inference_mode():
            resident = _to_device(inputs, device)
            out = _uniform_log_ratios(resident)
            target, field = _pairs_with_counts(inputs)
            if needed is not None:
                is_needed = torch.from_numpy(needed[inputs.neighborhoods.target_spots])[target, field]
                _copy_prior(resident, target[~is_needed], field[~is_needed], out)
                target, field = target[is_needed], field[is_needed]
            for row, column, batch in self._batches(target, field, resident, monitor):
                if self._has_few_pixels(batch):
                    out[row, column] = mean_of_few_pixels(network, batch)
                    continue
                start = batch.mask / batch.mask.sum(dim=1, keepdim=True)
                out[row, column] = network(batch, start, torch.zeros(len(start), device=device))
            return out[:-1].cpu().numpy()

    def sample_ratios(self, network: DiT, inputs: FlowInputs, monitor: RunMonitor = NO_MONITOR) -> Iterator[np.ndarray]:
        """Yield ``draws`` samples of the ratios of every pixel and field.

        Parameters
        ----------
        network
            Network, on the device to use.
        inputs
            Inputs of the spots and fields, on the CPU.
        monitor
            Asked for cancellation before every batch of pairs.

        Yields
        ------
        np.ndarray
            Ratios, float32, shape (Q, F).

        Raises
        ------
        Cancelled
            The monitor is canceled.
        """
        device = network.head.weight.device
        resident = _to_device(inputs, device)
        for draw in range(self.draws):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + draw)
            # Samples only estimate a standard deviation: rounding to bfloat16 is far below its sampling error.
            with device_lock(device), torch.inference_mode(), bfloat16_where_native(device):
                out = torch.exp(_uniform_log_ratios(resident))
                for row, field, batch in self._batches(*_pairs_with_counts(inputs), resident, monitor):
                    x = dirichlet_noise(batch.mask, generator)
                    for step in range(self.steps):
                        t = step / self.steps
                        endpoint = torch.exp(network(batch, x, torch.full((len(x),), t, device=device)))
                        x = euler_step(x, endpoint, t, 1 / self.steps)
                    out[row, field] = x
                ratios = out[:-1].cpu().numpy()
            yield ratios

    def _batches(
        self, target: Tensor, field: Tensor, inputs: FlowInputs, monitor: RunMonitor
    ) -> Iterator[tuple[Tensor, Tensor, PairBatch]]:
        """Yield batches of pairs: their output rows (B, K), output columns (B, 1) and network input."""
        rows = _output_rows(inputs)
        batch_pairs = self.batch_pairs or _pairs_per_batch(rows.device, rows.shape[1])
        if self.batch_pairs is None and self.of_large_slide and rows.shape[1] <= MAX_FEW_PIXELS:
            batch_pairs = min(batch_pairs, _BATCH_PAIRS_FEW_PIXELS) if rows.device.type == "cpu" else batch_pairs
        for start in range(0, len(target), batch_pairs):
            monitor.check_canceled()
            spots, columns = target[start : start + batch_pairs], field[start : start + batch_pairs]
            yield rows[spots], on_device(columns, rows.device)[:, None], inputs.gather_pairs(spots, columns)

    def _has_few_pixels(self, batch: PairBatch) -> bool:
        """Return whether the fast way applies: on a CPU, with few pixels and no padding."""
        mask = batch.mask
        return bool(
            self.of_large_slide and mask.device.type == "cpu" and mask.shape[1] <= MAX_FEW_PIXELS and mask.all()
        )


def _pairs_with_counts(inputs: FlowInputs) -> tuple[Tensor, Tensor]:
    """Return the target and the field of each pair with counts.

    They are selected on the CPU: on a device, the number of selected pairs would force a synchronization.
    """
    target, field = torch.nonzero(inputs.counts[inputs.neighborhoods.target_spots] > 0, as_tuple=True)
    return target, field


def _copy_prior(inputs: FlowInputs, target: Tensor, field: Tensor, out: Tensor) -> None:
    """Write the log ratios of the prior for some pairs."""
    near, rows = inputs.neighborhoods, _output_rows(inputs)
    prior = inputs.expert_log_ratios[PRIOR][near.target_pixels[target], field[:, None]]
    prior = torch.log_softmax(prior.masked_fill(~near.pixel_mask[target], -torch.inf), dim=1)
    out[rows[target], on_device(field, rows.device)[:, None]] = prior


def _pairs_per_batch(device: torch.device, n_pixels: int) -> int:
    """Return the number of pairs per network call for spots of up to ``n_pixels`` pixels."""
    pairs, pixels = _BATCH_LIMITS_CPU if device.type == "cpu" else _BATCH_LIMITS_GPU
    return max(1, min(pairs, pixels // n_pixels))


def _to_device(inputs: FlowInputs, device: torch.device) -> FlowInputs:
    """Copy the inputs to a device in one transfer; all batches of a tile are gathered there."""

    def tensors(part: Any) -> dict[str, Any]:
        values = {one.name: getattr(part, one.name) for one in fields(part)}
        return {name: on_device(value, device) for name, value in values.items() if isinstance(value, Tensor)}

    neighborhoods = replace(inputs.neighborhoods, **tensors(inputs.neighborhoods))
    return replace(inputs, neighborhoods=neighborhoods, **tensors(inputs))


def _output_rows(inputs: FlowInputs) -> Tensor:
    """Return the output row of each pixel of each target spot, (T, K); padding maps to one extra row that is dropped.

    The extra row replaces selection by a mask, which would force a synchronization of the device.
    """
    near = inputs.neighborhoods
    return torch.where(near.pixel_mask, near.target_pixels, len(near.pixel_offset))


def _uniform_log_ratios(inputs: FlowInputs) -> Tensor:
    """Return the log ratios of a uniform split, with an extra row for padding, shape (Q + 1, F)."""
    near = inputs.neighborhoods
    out = torch.zeros(len(near.pixel_offset) + 1, inputs.n_fields, device=near.pixel_mask.device)
    out[_output_rows(inputs)] = -torch.log(near.pixel_mask.sum(dim=1).float())[:, None, None]
    return out
