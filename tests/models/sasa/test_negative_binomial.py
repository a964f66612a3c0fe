"""Compare the negative binomial log-likelihood and its derivatives with those of torch and scipy."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from napari_srast._utils.devices import available_devices
from napari_srast.models.sasa.negative_binomial import _look_up, negative_binomial_log_likelihood

COUNTS = torch.tensor([[0.0, 3.0, 63.0], [64.0, 500.0, 2.5], [1.0, 0.0, 0.1]])  # small, large and fractional


def _plain(log_rate: Tensor, dispersion: Tensor) -> Tensor:
    constant = dispersion * torch.log(dispersion) - torch.lgamma(dispersion)
    total = torch.log(torch.exp(log_rate) + dispersion)
    return torch.lgamma(COUNTS + dispersion) + constant - (COUNTS + dispersion) * total + COUNTS * log_rate


def test_likelihood_equals_scipy() -> None:
    rate, dispersion = 2.0, 1.7
    counts = torch.tensor([[0.0], [1.0], [40.0], [90.0]])
    computed = negative_binomial_log_likelihood(torch.full((4, 1), rate).log(), torch.tensor([dispersion]), counts)
    expected = stats.nbinom.logpmf(counts.numpy(), dispersion, dispersion / (dispersion + rate))
    log_factorial = torch.lgamma(counts + 1)
    torch.testing.assert_close(computed - log_factorial, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device", available_devices())
def test_derivatives_equal_autograd(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    log_rate = torch.randn(3, 3, generator=generator, requires_grad=True)
    dispersion = (0.2 + torch.rand(3, generator=generator)).requires_grad_()
    weight = torch.rand(3, 3, generator=generator)
    plain = torch.autograd.grad((weight * _plain(log_rate, dispersion)).sum(), (log_rate, dispersion))
    likelihood = negative_binomial_log_likelihood(log_rate.to(device), dispersion.to(device), COUNTS.to(device)).cpu()
    computed = torch.autograd.grad((weight * likelihood).sum(), (log_rate, dispersion))
    for one, other in zip(computed, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_look_up_equals_direct_evaluation() -> None:
    dispersion = torch.tensor([0.3, 1.7, 20.0])
    row = COUNTS.clamp(max=63).long()
    looked_up = _look_up(torch.digamma, dispersion, COUNTS, row, torch.nonzero(COUNTS != row))
    torch.testing.assert_close(looked_up, _look_up(torch.digamma, dispersion, COUNTS, row, None))
