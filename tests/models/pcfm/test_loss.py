"""The terms of the loss in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_srast.models.pcfm.loss import boundary_loss, endpoint_loss, pair_weight


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
