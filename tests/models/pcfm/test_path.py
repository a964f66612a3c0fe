"""The path of the flow: noise, interpolation and Euler steps in closed form."""

from __future__ import annotations

import torch
from helpers.flow import random_batch

from napari_srast.models.pcfm.path import dirichlet_noise, euler_step, interpolate


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
