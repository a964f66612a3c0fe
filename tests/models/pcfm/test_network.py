"""The network of the flow: its prior, and the symmetries of its output."""

from __future__ import annotations

import torch
from helpers.flow import random_batch, random_network

from napari_srast.models.pcfm.inputs import PairBatch
from napari_srast.models.pcfm.network import DiT


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
