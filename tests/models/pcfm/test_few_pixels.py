"""Test the fast way to predict spots of few pixels, and pairs that get the prior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from napari_srast.geometry.raster import make_raster
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm import sampler as sampler_module
from napari_srast.models.pcfm.few_pixels import MAX_FEW_PIXELS, mean_of_few_pixels
from napari_srast.models.pcfm.inputs import (
    N_CONDITIONS,
    N_FEATURES,
    PRIOR,
    FlowInputs,
    PairBatch,
    SpotNeighborhoods,
    build_flow_inputs,
)
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.pcfm.sampler import FlowSampler
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.fitting import fit_sasa


@pytest.fixture(scope="module")
def network() -> DiT:
    """Return a network whose last layer and gates are not zero, as after training."""
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=16, depth=2, heads=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        network.feature_mean.normal_()
        network.feature_std.fill_(0.7)
        network.condition_mean.normal_()
    return network.eval()


@pytest.fixture(scope="module")
def bins() -> tuple[SpotPixelMap, FlowInputs]:
    """Return 49 bins of 2 x 2 pixels, and the flow's inputs of three fields."""
    rng = np.random.default_rng(0)
    centers = np.argwhere(np.ones((7, 7))) * 8.0
    counts = sparse.csr_matrix(rng.poisson(3.0 * np.exp(-0.3 * centers[:, :1] / 8) * [1, 2, 0.3]), dtype=np.float32)
    raster = make_raster(centers, factor=2, spot_diameter=8.0, spot_shape="square")
    layout = SpotPixelMap.of_raster(centers, raster)
    embedding = fit_sasa(counts, centers, raster.lattice, config=SasaConfig(epochs=2, n_components=2, n_panel=3))
    near = SpotNeighborhoods.from_layout(layout, embedding)
    return layout, build_flow_inputs(layout, embedding, near, Interpolator(layout), counts)


@pytest.mark.parametrize("n_pixels", [1, 4, MAX_FEW_PIXELS])
def test_fast_mean_equals_the_network(network: DiT, n_pixels: int) -> None:
    torch.manual_seed(1)
    mask = torch.ones(9, n_pixels, dtype=torch.bool)
    prior = torch.log_softmax(torch.randn(9, n_pixels), dim=1)
    batch = PairBatch(3 * torch.randn(9, n_pixels, N_FEATURES), torch.randn(9, N_CONDITIONS), prior, mask)
    with torch.inference_mode():
        expected = network(batch, mask / n_pixels, torch.zeros(9))
        np.testing.assert_allclose(mean_of_few_pixels(network, batch), expected, atol=2e-5)
    if n_pixels > 1:
        assert (expected - prior).abs().max() > 0.1


def test_sampler_takes_the_fast_way_on_large_slides_only(
    network: DiT, bins: tuple[SpotPixelMap, FlowInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_fast = 0

    def counted(network: DiT, batch: PairBatch) -> torch.Tensor:
        nonlocal n_fast
        n_fast += len(batch.mask)
        return mean_of_few_pixels(network, batch)

    monkeypatch.setattr(sampler_module, "mean_of_few_pixels", counted)
    _, inputs = bins
    plain = FlowSampler.for_slide(20_000, batch_pairs=17).mean_log_ratios(network, inputs)
    assert n_fast == 0
    fast = FlowSampler.for_slide(20_001, batch_pairs=17).mean_log_ratios(network, inputs)
    assert n_fast == int((inputs.counts > 0).sum())
    np.testing.assert_allclose(fast, plain, atol=2e-5)


def test_pairs_that_are_not_needed_get_the_prior(network: DiT, bins: tuple[SpotPixelMap, FlowInputs]) -> None:
    layout, inputs = bins
    needed = np.random.default_rng(0).random(inputs.counts.shape) < 0.5
    sampler = FlowSampler(of_large_slide=True)
    of_all = sampler.mean_log_ratios(network, inputs)
    some = sampler.mean_log_ratios(network, inputs, needed=needed)
    is_needed = needed[layout.parent]
    np.testing.assert_allclose(some[is_needed], of_all[is_needed], atol=2e-5)
    prior = layout.normalize(np.exp(inputs.expert_log_ratios[PRIOR].numpy()))
    has_counts = inputs.counts.numpy()[layout.parent] > 0
    np.testing.assert_allclose(np.exp(some)[~is_needed & has_counts], prior[~is_needed & has_counts], rtol=1e-4)
    np.testing.assert_allclose(np.exp(some)[~has_counts], 0.25, rtol=1e-5)
    assert np.abs(some - of_all).max() > 0.01
