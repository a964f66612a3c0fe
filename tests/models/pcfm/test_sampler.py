"""Mean ratios and samples: simplex, reproducibility, batches and devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.flow import random_network
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode

from napari_srast._utils.devices import available_devices
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.pcfm import sampler as sampler_module
from napari_srast.models.pcfm.inputs import FlowInputs
from napari_srast.models.pcfm.sampler import FlowSampler


@pytest.mark.parametrize("device", available_devices())
def test_mean_and_samples_are_on_the_simplex(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], device: str
) -> None:
    layout, _, inputs = small
    network = random_network().to(device)
    sampler = FlowSampler(steps=4, draws=3, batch_pairs=17)
    for ratios in (np.exp(sampler.mean_log_ratios(network, inputs)), *sampler.sample_ratios(network, inputs)):
        assert ratios.min() >= 0
        sums = layout.membership @ ratios
        np.testing.assert_allclose(sums[layout.n_pixels_per_spot > 0], 1.0, atol=1e-5)


@pytest.mark.parametrize("device", available_devices())
def test_samples_differ_and_are_reproducible(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], device: str
) -> None:
    _, _, inputs = small
    network = random_network().to(device)
    first, second = list(FlowSampler(draws=2, seed=5).sample_ratios(network, inputs))
    again = next(iter(FlowSampler(draws=2, seed=5).sample_ratios(network, inputs)))
    assert first.tobytes() == again.tobytes()
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("device", available_devices())
def test_batched_mean_equals_pair_by_pair_prediction(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], device: str
) -> None:
    layout, counts, inputs = small
    network = random_network()
    batched = FlowSampler(batch_pairs=7).mean_log_ratios(network.to(device), inputs)
    network.to("cpu")
    uniform = 1 / layout.n_pixels_per_spot[layout.parent]
    for target, spot in enumerate(inputs.neighborhoods.target_spots):
        for field in range(inputs.n_fields):
            batch = inputs.gather_pairs(torch.tensor([target]), torch.tensor([field]))
            pixel = inputs.neighborhoods.target_pixels[target][batch.mask[0]].numpy()
            expected = np.log(uniform[pixel])
            if counts[spot, field] > 0:
                expected = network(batch, batch.mask / batch.mask.sum(), torch.zeros(1))[batch.mask].detach().numpy()
            np.testing.assert_allclose(batched[pixel, field], expected, atol=1e-4)


class _DtypeRecorder(TorchDispatchMode):
    """Record the dtypes of all tensors that operations create."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        created = func(*args, **(kwargs or {}))
        if isinstance(created, torch.Tensor) and created.device.type == "meta":
            self.dtypes.add(created.dtype)
        return created


def test_sampler_does_not_synchronize_with_the_device(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs],
) -> None:
    """On the device "meta" tensors have no values, so any synchronization (.item(), a mask) fails."""
    _, _, inputs = small
    network = random_network().to("meta")
    sampler = FlowSampler(steps=3, draws=1, batch_pairs=17)
    for run in (
        lambda: sampler.mean_log_ratios(network, inputs),
        lambda: next(iter(sampler.sample_ratios(network, inputs))),
    ):
        with _DtypeRecorder() as recorder, pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            run()
        assert recorder.dtypes
        assert torch.float64 not in recorder.dtypes  # Apple devices do not support it


@pytest.mark.parametrize(
    ("n_pixels", "cpu", "gpu"), [(4, 2048, 32_768), (16, 1024, 16_384), (400, 40, 655), (10**6, 1, 1)]
)
def test_batch_size_is_limited_by_pixels(n_pixels: int, cpu: int, gpu: int) -> None:
    assert sampler_module._pairs_per_batch(torch.device("cpu"), n_pixels) == cpu
    assert sampler_module._pairs_per_batch(torch.device("cuda"), n_pixels) == gpu


def test_bfloat16_samples_keep_simplex_and_scatter(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, _, inputs = small
    sampler, network = FlowSampler(steps=4, draws=8), random_network()
    exact = np.stack(list(sampler.sample_ratios(network, inputs)))
    monkeypatch.setattr(sampler_module, "bfloat16_where_native", lambda _: torch.autocast("cpu", torch.bfloat16))
    rounded = np.stack(list(sampler.sample_ratios(network, inputs)))
    assert rounded.tobytes() != exact.tobytes()
    assert rounded.dtype == np.float32
    for ratios in rounded:
        np.testing.assert_allclose((layout.membership @ ratios)[layout.n_pixels_per_spot > 0], 1.0, atol=1e-5)
    np.testing.assert_allclose(rounded.std(axis=0), exact.std(axis=0), atol=0.02)
