"""The negative binomial likelihood and its derivatives, against torch's own and against scipy."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from napari_srast._utils.devices import available_devices
from napari_srast.models.sasa.negative_binomial import _looked_up, negative_binomial

COUNTS = torch.tensor([[0.0, 3.0, 63.0], [64.0, 500.0, 2.5], [1.0, 0.0, 0.1]])  # small and large ones, and fractions


def _plain(log_rate: Tensor, dispersion: Tensor) -> Tensor:
    own = dispersion * torch.log(dispersion) - torch.lgamma(dispersion)
    total = torch.log(torch.exp(log_rate) + dispersion)
    return torch.lgamma(COUNTS + dispersion) + own - (COUNTS + dispersion) * total + COUNTS * log_rate


def test_likelihood_is_scipys() -> None:
    rate, dispersion = 2.0, 1.7
    counts = torch.tensor([[0.0], [1.0], [40.0], [90.0]])
    found = negative_binomial(torch.full((4, 1), rate).log(), torch.tensor([dispersion]), counts)
    expected = stats.nbinom.logpmf(counts.numpy(), dispersion, dispersion / (dispersion + rate))
    constant = torch.lgamma(counts + 1)
    torch.testing.assert_close(found - constant, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device", available_devices())
def test_derivatives_are_those_that_torch_finds(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    log_rate = torch.randn(3, 3, generator=generator, requires_grad=True)
    dispersion = (0.2 + torch.rand(3, generator=generator)).requires_grad_()
    weight = torch.rand(3, 3, generator=generator)
    plain = torch.autograd.grad((weight * _plain(log_rate, dispersion)).sum(), (log_rate, dispersion))
    likelihood = negative_binomial(log_rate.to(device), dispersion.to(device), COUNTS.to(device)).cpu()
    found = torch.autograd.grad((weight * likelihood).sum(), (log_rate, dispersion))
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_function_of_all_counts_is_what_is_looked_up() -> None:
    dispersion = torch.tensor([0.3, 1.7, 20.0])
    place = COUNTS.clamp(max=63).long()
    looked_up = _looked_up(torch.digamma, dispersion, COUNTS, place, torch.nonzero(COUNTS != place))
    torch.testing.assert_close(looked_up, _looked_up(torch.digamma, dispersion, COUNTS, place, None))
