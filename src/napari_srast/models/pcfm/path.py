"""The straight path on the simplex, from noise to ratios.

x_t = (1 - t) x_0 + t x_1 with x_0 ~ Dirichlet(1) drawn independently of x_1 (the displacement interpolation). A network
that predicts the endpoint, xhat = E[x_1 | x_t], gives the velocity (xhat - x_t) / (1 - t); an Euler step of length
dt <= 1 - t is then a convex combination of x_t and xhat: a sample never leaves the simplex, no clipping is needed.

Shape legend: B pairs, K pixels of a spot (padded, masked).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dirichlet_noise", "euler_step", "interpolate"]


def dirichlet_noise(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Draw x_0 uniformly from the simplex over the masked pixels, shape (B, K); zeros elsewhere."""
    uniform = torch.rand(mask.shape, generator=generator).clamp_min(1e-20).to(mask.device)
    exponential = -torch.log(uniform) * mask
    return exponential / exponential.sum(dim=1, keepdim=True).clamp_min(1e-20)


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Return x_t for times t (B,)."""
    return x_0 + t[:, None] * (x_1 - x_0)


def euler_step(x_t: Tensor, endpoint: Tensor, t: float, dt: float) -> Tensor:
    """Follow the velocity towards the predicted endpoint for dt <= 1 - t.

    >>> import torch
    >>> euler_step(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]), t=0.5, dt=0.25)
    tensor([[0.7500, 0.2500]])
    """
    share = min(dt / (1 - t), 1.0)
    return x_t + share * (endpoint - x_t)
