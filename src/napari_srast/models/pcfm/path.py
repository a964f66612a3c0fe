"""Interpolate between noise and ratios on the probability simplex, and integrate the flow along this path.

The path is ``x_t = (1 - t) x_0 + t x_1`` with noise ``x_0 ~ Dirichlet(1)``, drawn independently of the ratios ``x_1``.
The optimal-transport (straight) flow from noise to ratios is the paper's (SRast, arXiv 2602.10644); the Dirichlet noise
and the end-point parameterization are this project's choice (docs/method.md). A network that predicts the end point,
``xhat = E[x_1 | x_t]``, gives the velocity ``(xhat - x_t) / (1 - t)``. An Euler step of length ``dt <= 1 - t`` is then
a convex combination of ``x_t`` and ``xhat``, so samples stay on the simplex without clipping.

Shape legend: B spot-field pairs, K pixels per spot (padded, masked).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dirichlet_noise", "euler_step", "interpolate"]


def dirichlet_noise(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Sample ``x_0 ~ Dirichlet(1)``, uniform on the simplex over the real pixels of each pair.

    Parameters
    ----------
    mask
        True for real pixels, False for padding, shape (B, K).
    generator
        Random generator on the CPU, so that every device gets the same noise.

    Returns
    -------
    Tensor
        Noise on the device of ``mask``, shape (B, K); rows sum to 1, padding is 0.
    """
    uniform = torch.rand(mask.shape, generator=generator).clamp_min(1e-20).to(mask.device)
    exponential = -torch.log(uniform) * mask
    return exponential / exponential.sum(dim=1, keepdim=True).clamp_min(1e-20)


def interpolate(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    """Evaluate the path ``x_t = (1 - t) x_0 + t x_1``.

    Parameters
    ----------
    x_0, x_1
        Noise and ratios, shape (B, K).
    t
        Flow time of each pair, from 0 to 1, shape (B,).
    """
    return x_0 + t[:, None] * (x_1 - x_0)


def euler_step(x_t: Tensor, endpoint: Tensor, t: float, dt: float) -> Tensor:
    """Take an Euler step ``x_(t + dt) = x_t + dt (xhat - x_t) / (1 - t)``.

    Parameters
    ----------
    x_t
        State at time ``t``, shape (B, K).
    endpoint
        Predicted end point ``xhat``, shape (B, K).
    t, dt
        Flow time, from 0 to 1, and step length, at most ``1 - t``.

    Examples
    --------
    >>> import torch
    >>> euler_step(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]), t=0.5, dt=0.25)
    tensor([[0.7500, 0.2500]])
    """
    fraction = min(dt / (1 - t), 1.0)
    return x_t + fraction * (endpoint - x_t)
