"""Test path, network and sampler: closed forms, symmetries, the simplex."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode

from napari_srast._utils.devices import available_devices
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm import sampler as sampler_module
from napari_srast.models.pcfm.inputs import (
    N_CONDITIONS,
    N_FEATURES,
    FlowInputs,
    PairBatch,
    SpotNeighborhoods,
    build_flow_inputs,
)
from napari_srast.models.pcfm.loss import boundary_loss, endpoint_loss, pair_weight
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.pcfm.path import dirichlet_noise, euler_step, interpolate
from napari_srast.models.pcfm.sampler import FlowSampler
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa


def random_network() -> DiT:
    """Return a network whose last layer and gates are not zero, as after training."""
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=16, depth=2, heads=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def random_batch(b: int = 5, k: int = 6) -> PairBatch:
    """Return random inputs of b pairs with k pixels; the first pair has only four."""
    torch.manual_seed(1)
    mask = torch.ones(b, k, dtype=torch.bool)
    mask[0, 4:] = False
    prior = torch.randn(b, k).masked_fill(~mask, -torch.inf)
    tokens = torch.randn(b, k, N_FEATURES) * mask[..., None]
    return PairBatch(tokens, torch.randn(b, N_CONDITIONS), torch.log_softmax(prior, dim=1), mask)


@pytest.fixture(scope="module")
def small() -> tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs]:
    """Return a hexagonal slide of 36 spots, the counts of three genes, and the flow's inputs."""
    rng = np.random.default_rng(0)
    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    centers = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(3) / 2]) * 100.0
    counts = sparse.csr_matrix(
        rng.poisson(5.0 * np.exp(-0.5 * np.abs(col - 2))[:, None] * [1, 2, 0.1]), dtype=np.float32
    )
    raster = make_raster(centers, factor=2)
    layout = SpotPixelMap.of_raster(centers, raster)
    embedding = fit_sasa(counts, centers, detect_lattice(centers), config=SasaConfig(epochs=5))
    inputs = build_flow_inputs(
        layout, embedding, SpotNeighborhoods.from_layout(layout, embedding), Interpolator(layout), counts
    )
    return layout, counts, inputs


def test_noise_is_on_the_simplex_of_real_pixels() -> None:
    mask = random_batch().mask
    noise = dirichlet_noise(mask, torch.Generator().manual_seed(0))
    assert (noise[~mask] == 0).all()
    torch.testing.assert_close(noise.sum(dim=1), torch.ones(5))


def test_noise_is_uniform_on_the_simplex() -> None:
    noise = dirichlet_noise(torch.ones(20000, 4, dtype=torch.bool), torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.mean(dim=0), torch.full((4,), 0.25), atol=5e-3, rtol=0)
    # The variance of a coordinate of Dirichlet(1) on K = 4 is (K - 1) / (K^2 (K + 1)).
    torch.testing.assert_close(noise.var(dim=0), torch.full((4,), 3 / 80), atol=2e-3, rtol=0)


def test_euler_steps_follow_the_path_to_its_end() -> None:
    x_0, x_1 = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    torch.testing.assert_close(interpolate(x_0, x_1, torch.tensor([1.0])), x_1)
    x = x_0
    for step in range(5):
        x = euler_step(x, x_1, step / 5, 1 / 5)
        torch.testing.assert_close(x, interpolate(x_0, x_1, torch.tensor([(step + 1) / 5])))


def test_untrained_network_returns_its_prior() -> None:
    batch = random_batch()
    log_ratio = DiT()(batch, batch.mask / batch.mask.sum(1, keepdim=True), torch.zeros(5))
    torch.testing.assert_close(log_ratio, batch.log_prior)


def test_pixel_order_does_not_matter() -> None:
    network, batch = random_network(), random_batch()
    permutation = torch.tensor([3, 1, 0, 2, 5, 4])
    x, t = torch.rand(5, 6) * batch.mask, torch.rand(5)
    permuted = PairBatch(
        batch.tokens[:, permutation], batch.condition, batch.log_prior[:, permutation], batch.mask[:, permutation]
    )
    torch.testing.assert_close(network(batch, x, t)[:, permutation], network(permuted, x[:, permutation], t))


def test_padding_does_not_change_the_output() -> None:
    network, batch = random_network(), random_batch()
    alone = PairBatch(batch.tokens[:1, :4], batch.condition[:1], batch.log_prior[:1, :4], batch.mask[:1, :4])
    x, t = torch.rand(5, 6) * batch.mask, torch.rand(5)
    torch.testing.assert_close(network(batch, x, t)[:1, :4], network(alone, x[:1, :4], t[:1]))


def test_state_is_ignored_at_time_zero() -> None:
    network, batch = random_network(), random_batch()
    a, b = (network(batch, torch.rand(5, 6) * batch.mask, torch.zeros(5)) for _ in range(2))
    torch.testing.assert_close(a, b)


def test_endpoint_loss_is_the_negative_kl_gain() -> None:
    target = torch.tensor([[0.7, 0.3, 0.0]])
    k, weight = torch.tensor([3]), torch.tensor([1.0])
    at_target = endpoint_loss(torch.log(target), target, k, weight)
    uniform = endpoint_loss(torch.log(torch.full((1, 3), 1 / 3)), target, k, weight)
    assert float(uniform) == pytest.approx(0.0, abs=1e-6)
    assert at_target < uniform
    # The gain over a uniform split is the KL divergence from it.
    assert float(-at_target) == pytest.approx(0.7 * np.log(2.1) + 0.3 * np.log(0.9), rel=1e-5)


def test_pair_weight_saturates() -> None:
    weight = pair_weight(torch.tensor([0.0, 1.0, 1e6]))
    torch.testing.assert_close(weight, torch.tensor([0.0, 1 / 1.1, 10.0]), rtol=1e-3, atol=0)


def test_boundary_loss_ignores_unlike_spots() -> None:
    density, edges = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0, 1], [1, 2]])
    like, unlike = torch.tensor([1.0, 0.0]), torch.tensor([1.0, -1.0])
    weight = torch.ones(2, 1)
    assert float(boundary_loss(density, edges, like, weight)) == pytest.approx(1.0)
    assert float(boundary_loss(density, edges, unlike, weight)) == pytest.approx(1.0)
    assert float(boundary_loss(density, edges, torch.ones(2), weight)) == pytest.approx((1 + 16) / 2)


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


def test_inputs_are_invariant_to_rotation_and_unit(small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs]) -> None:
    layout, counts, inputs = small
    transform = 3.7 * np.array([[0.0, -1.0], [-1.0, 0.0]])
    embedding = fit_sasa(counts, layout.spots, detect_lattice(layout.spots), config=SasaConfig(epochs=5))
    transformed = SpotPixelMap(
        spots=layout.spots @ transform.T,
        pixels=layout.pixels @ transform.T,
        parent=layout.parent,
        pitch=layout.pitch * 3.7,
    )
    other = build_flow_inputs(
        transformed, embedding, SpotNeighborhoods.from_layout(transformed, embedding), Interpolator(transformed), counts
    )
    a, b = (np.exp(FlowSampler().mean_log_ratios(random_network(), c)) for c in (inputs, other))
    # Not exact: rounding decides which of equally distant spots the local kriging uses.
    np.testing.assert_allclose(a, b, atol=0.01)
