"""Path, network and sampler: closed forms, symmetry, the simplex."""

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
from napari_srast.models.pcfm.condition import (
    N_CONDITIONS,
    N_FEATURES,
    FlowInputs,
    PairBatch,
    SpotNeighborhoods,
    condition_fields,
)
from napari_srast.models.pcfm.loss import boundary_loss, endpoint_loss, pair_weight
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.pcfm.path import dirichlet_noise, euler_step, interpolate
from napari_srast.models.pcfm.sampler import Sampler
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa


def lively_network() -> DiT:
    """Return a network whose head and gates are not zero, as after training."""
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=16, depth=2, heads=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network.eval()


def random_batch(b: int = 5, k: int = 6) -> PairBatch:
    torch.manual_seed(1)
    mask = torch.ones(b, k, dtype=torch.bool)
    mask[0, 4:] = False
    prior = torch.randn(b, k).masked_fill(~mask, -torch.inf)
    tokens = torch.randn(b, k, N_FEATURES) * mask[..., None]
    return PairBatch(tokens, torch.randn(b, N_CONDITIONS), torch.log_softmax(prior, dim=1), mask)


@pytest.fixture(scope="module")
def small() -> tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs]:
    rng = np.random.default_rng(0)
    row, col = (a.ravel() for a in np.mgrid[:6, :6])
    centers = np.column_stack([col + 0.5 * (row % 2), row * np.sqrt(3) / 2]) * 100.0
    counts = sparse.csr_matrix(
        rng.poisson(5.0 * np.exp(-0.5 * np.abs(col - 2))[:, None] * [1, 2, 0.1]), dtype=np.float32
    )
    raster = make_raster(centers, factor=2)
    layout = SpotPixelMap.of_raster(centers, raster)
    pool = fit_sasa(counts, centers, detect_lattice(centers), config=SasaConfig(epochs=5))
    condition = condition_fields(layout, pool, SpotNeighborhoods.of_layout(layout, pool), Interpolator(layout), counts)
    return layout, counts, condition


def test_noise_lies_on_the_simplex_of_the_mask() -> None:
    mask = random_batch().mask
    noise = dirichlet_noise(mask, torch.Generator().manual_seed(0))
    assert (noise[~mask] == 0).all()
    torch.testing.assert_close(noise.sum(dim=1), torch.ones(5))


def test_noise_is_uniform_on_the_simplex() -> None:
    noise = dirichlet_noise(torch.ones(20000, 4, dtype=torch.bool), torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.mean(dim=0), torch.full((4,), 0.25), atol=5e-3, rtol=0)
    # The variance of a coordinate of Dirichlet(1) on K = 4 is (K - 1) / (K^2 (K + 1)).
    torch.testing.assert_close(noise.var(dim=0), torch.full((4,), 3 / 80), atol=2e-3, rtol=0)


def test_path_ends_where_it_should_and_exact_endpoints_are_reached() -> None:
    x_0, x_1 = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]])
    torch.testing.assert_close(interpolate(x_0, x_1, torch.tensor([1.0])), x_1)
    x = x_0
    for step in range(5):
        x = euler_step(x, x_1, step / 5, 1 / 5)
        torch.testing.assert_close(x, interpolate(x_0, x_1, torch.tensor([(step + 1) / 5])))


def test_untrained_network_is_its_prior() -> None:
    batch = random_batch()
    log_ratio = DiT()(batch, batch.mask / batch.mask.sum(1, keepdim=True), torch.zeros(5))
    torch.testing.assert_close(log_ratio, batch.log_prior)


def test_order_of_pixels_does_not_matter() -> None:
    network, batch = lively_network(), random_batch()
    turn = torch.tensor([3, 1, 0, 2, 5, 4])
    x, t = torch.rand(5, 6) * batch.mask, torch.rand(5)
    turned = PairBatch(batch.tokens[:, turn], batch.condition, batch.log_prior[:, turn], batch.mask[:, turn])
    torch.testing.assert_close(network(batch, x, t)[:, turn], network(turned, x[:, turn], t))


def test_padding_changes_nothing() -> None:
    network, batch = lively_network(), random_batch()
    alone = PairBatch(batch.tokens[:1, :4], batch.condition[:1], batch.log_prior[:1, :4], batch.mask[:1, :4])
    x, t = torch.rand(5, 6) * batch.mask, torch.rand(5)
    torch.testing.assert_close(network(batch, x, t)[:1, :4], network(alone, x[:1, :4], t[:1]))


def test_state_is_not_seen_at_time_zero() -> None:
    network, batch = lively_network(), random_batch()
    a, b = (network(batch, torch.rand(5, 6) * batch.mask, torch.zeros(5)) for _ in range(2))
    torch.testing.assert_close(a, b)


def test_endpoint_loss_is_lowest_at_the_target() -> None:
    target = torch.tensor([[0.7, 0.3, 0.0]])
    k, weight = torch.tensor([3]), torch.tensor([1.0])
    at_target = endpoint_loss(torch.log(target), target, k, weight)
    even = endpoint_loss(torch.log(torch.full((1, 3), 1 / 3)), target, k, weight)
    assert float(even) == pytest.approx(0.0, abs=1e-6)
    assert at_target < even
    # The gain over the even split is the KL divergence from it.
    assert float(-at_target) == pytest.approx(0.7 * np.log(2.1) + 0.3 * np.log(0.9), rel=1e-5)


def test_pair_weight_saturates() -> None:
    weight = pair_weight(torch.tensor([0.0, 1.0, 1e6]))
    torch.testing.assert_close(weight, torch.tensor([0.0, 1 / 1.1, 10.0]), rtol=1e-3, atol=0)


def test_boundary_loss_spares_unlike_spots() -> None:
    density, edges = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[0, 1], [1, 2]])
    like, unlike = torch.tensor([1.0, 0.0]), torch.tensor([1.0, -1.0])
    weight = torch.ones(2, 1)
    assert float(boundary_loss(density, edges, like, weight)) == pytest.approx(1.0)
    assert float(boundary_loss(density, edges, unlike, weight)) == pytest.approx(1.0)
    assert float(boundary_loss(density, edges, torch.ones(2), weight)) == pytest.approx((1 + 16) / 2)


@pytest.mark.parametrize("device", available_devices())
def test_mean_and_samples_stay_on_the_simplex(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], device: str
) -> None:
    layout, _, condition = small
    network = lively_network().to(device)
    sampler = Sampler(steps=4, draws=3, batch_pairs=17)
    for ratios in (np.exp(sampler.mean(network, condition)), *sampler.samples(network, condition)):
        assert ratios.min() >= 0
        sums = layout.membership @ ratios
        np.testing.assert_allclose(sums[layout.n_pixels_of_spot > 0], 1.0, atol=1e-5)


@pytest.mark.parametrize("device", available_devices())
def test_samples_differ_and_repeat(small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], device: str) -> None:
    _, _, condition = small
    network = lively_network().to(device)
    first, second = list(Sampler(draws=2, seed=5).samples(network, condition))
    again = next(iter(Sampler(draws=2, seed=5).samples(network, condition)))
    assert first.tobytes() == again.tobytes()
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("device", available_devices())
def test_every_device_gives_the_ratios_of_the_network_pair_by_pair(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], device: str
) -> None:
    layout, counts, condition = small
    network = lively_network()
    found = Sampler(batch_pairs=7).mean(network.to(device), condition)
    network.to("cpu")
    even = 1 / layout.n_pixels_of_spot[layout.parent]
    for target, spot in enumerate(condition.geometry.target):
        for field in range(condition.n_fields):
            batch = condition.pairs(torch.tensor([target]), torch.tensor([field]))
            pixel = condition.geometry.pixel[target][batch.mask[0]].numpy()
            expected = np.log(even[pixel])
            if counts[spot, field] > 0:
                expected = network(batch, batch.mask / batch.mask.sum(), torch.zeros(1))[batch.mask].detach().numpy()
            np.testing.assert_allclose(found[pixel, field], expected, atol=1e-4)


class _Made(TorchDispatchMode):
    """Write down the types of what is made."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.device.type == "meta":
            self.types.add(made.dtype)
        return made


def test_nothing_is_asked_of_a_device_before_the_ratios_are_fetched(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs],
) -> None:
    """On the device "meta" no tensor has values: what needed one (.item(), the size of a choice) fails there."""
    _, _, condition = small
    network = lively_network().to("meta")
    sampler = Sampler(steps=3, draws=1, batch_pairs=17)
    for run in (lambda: sampler.mean(network, condition), lambda: next(iter(sampler.samples(network, condition)))):
        with _Made() as made, pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            run()
        assert made.types
        assert torch.float64 not in made.types  # which Apple's devices do not know


@pytest.mark.parametrize(
    ("n_pixels", "cpu", "gpu"), [(4, 2048, 32_768), (16, 1024, 16_384), (400, 40, 655), (10**6, 1, 1)]
)
def test_pairs_at_once_are_bounded_by_their_pixels(n_pixels: int, cpu: int, gpu: int) -> None:
    assert sampler_module._pairs_at_once(torch.device("cpu"), n_pixels) == cpu
    assert sampler_module._pairs_at_once(torch.device("cuda"), n_pixels) == gpu


def test_draws_in_bfloat16_stay_on_the_simplex_and_scatter_alike(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, _, condition = small
    sampler, network = Sampler(steps=4, draws=8), lively_network()
    exact = np.stack(list(sampler.samples(network, condition)))
    monkeypatch.setattr(sampler_module, "bfloat16_where_native", lambda _: torch.autocast("cpu", torch.bfloat16))
    rounded = np.stack(list(sampler.samples(network, condition)))
    assert rounded.tobytes() != exact.tobytes()
    assert rounded.dtype == np.float32
    for ratios in rounded:
        np.testing.assert_allclose((layout.membership @ ratios)[layout.n_pixels_of_spot > 0], 1.0, atol=1e-5)
    np.testing.assert_allclose(rounded.std(axis=0), exact.std(axis=0), atol=0.02)


def test_condition_ignores_turns_mirrors_and_units(small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs]) -> None:
    layout, counts, condition = small
    turn = 3.7 * np.array([[0.0, -1.0], [-1.0, 0.0]])
    pool = fit_sasa(counts, layout.spots, detect_lattice(layout.spots), config=SasaConfig(epochs=5))
    turned = SpotPixelMap(
        spots=layout.spots @ turn.T, pixels=layout.pixels @ turn.T, parent=layout.parent, pitch=layout.pitch * 3.7
    )
    other = condition_fields(turned, pool, SpotNeighborhoods.of_layout(turned, pool), Interpolator(turned), counts)
    a, b = (np.exp(Sampler().mean(lively_network(), c)) for c in (condition, other))
    # Not to the last digit: which of equally far spots the local kriging takes depends on rounding.
    np.testing.assert_allclose(a, b, atol=0.01)
