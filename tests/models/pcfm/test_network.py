"""The network of the flow: its prior, and the symmetries of its output."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.flow import random_batch, random_network
from scipy import sparse

from napari_srast.geometry.disc_support import DiscSupport
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.models.pcfm.inputs import FlowInputs, PairBatch
from napari_srast.models.pcfm.network import DiT, DiTConfig
from napari_srast.models.pcfm.sampler import FlowSampler


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


def test_support_is_an_input_of_networks_that_know_it(
    small: tuple[SpotPixelMap, sparse.csr_matrix, FlowInputs],
) -> None:
    _, _, inputs = small

    def predict(network: DiT, support: DiscSupport | None) -> np.ndarray:
        near = inputs.neighborhoods.with_support(support)
        return FlowSampler().mean_log_ratios(network, replace(inputs, neighborhoods=near))

    disc = DiscSupport(diameter=0.55, pixel_size=0.5)
    torch.manual_seed(0)
    knows = DiT(DiTConfig(width=16, depth=1, heads=2, support=True))
    torch.nn.init.normal_(knows.head.weight)
    assert np.abs(predict(knows, disc) - predict(knows, None)).max() > 1e-4
    other = DiT(DiTConfig(width=16, depth=1, heads=2))
    torch.nn.init.normal_(other.head.weight)
    expected = FlowSampler().mean_log_ratios(other, inputs)
    np.testing.assert_array_equal(predict(other, disc), expected)  # the same bytes as without


def test_support_must_be_a_bool() -> None:
    with pytest.raises(ValueError, match="true or false"):
        DiTConfig(support=1)  # type: ignore[arg-type]
