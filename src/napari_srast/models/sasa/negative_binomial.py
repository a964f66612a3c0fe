"""The negative binomial likelihood of counts, with its derivatives written out.

Whole counts are mostly small and the same few come again and again, while the gamma function is slow: it is worked out
once for each gene and small count. Everything else is one pass forward and one back.

Shape legend: B spots, G genes, K counts in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["negative_binomial"]

_TABLE = 64  # counts below are looked up


def negative_binomial(log_rate: Tensor, dispersion: Tensor, counts: Tensor) -> Tensor:
    """Return the log-likelihood of counts, without the term that no parameter changes, log y!.

    ``log G(y + d) - log G(d) + d log d + y log m - (y + d) log(m + d)`` with the gamma function G, the mean m and the
    dispersion d, so that the variance is ``m + m**2 / d``.

    Parameters
    ----------
    log_rate
        Logarithm of the mean, shape (B, G).
    dispersion
        Above 0, shape (G,).
    counts
        At least 0, shape (B, G); fractions are allowed.
    """
    likelihood: Tensor = _NegativeBinomial.apply(log_rate, dispersion, counts)
    return likelihood


class _NegativeBinomial(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_rate: Tensor, dispersion: Tensor, counts: Tensor) -> Tensor:
        place = counts.clamp(max=_TABLE - 1).long()
        # Large counts, and fractions; a GPU has the function of all sooner than the number of those.
        others = torch.nonzero(counts != place) if counts.device.type == "cpu" else None
        rate = torch.exp(log_rate)
        log_total = torch.log(rate + dispersion)
        ctx.save_for_backward(rate, log_total, dispersion, counts, place, others)
        own = dispersion * torch.log(dispersion) - torch.lgamma(dispersion)
        likelihood = _looked_up(torch.lgamma, dispersion, counts, place, others).add_(own)
        return likelihood.addcmul_(counts, log_rate).sub_((counts + dispersion).mul_(log_total))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        rate, log_total, dispersion, counts, place, others = ctx.saved_tensors
        share = (counts + dispersion).div_(rate + dispersion)
        own = torch.log(dispersion) + 1 - torch.digamma(dispersion)
        of_dispersion = _looked_up(torch.digamma, dispersion, counts, place, others)
        of_dispersion.sub_(log_total).sub_(share).add_(own).mul_(grad)
        return torch.addcmul(counts, share, rate, value=-1).mul_(grad), of_dispersion.sum(dim=0), None


def _looked_up(
    function: Callable[[Tensor], Tensor], dispersion: Tensor, counts: Tensor, place: Tensor, others: Tensor | None
) -> Tensor:
    """Return function(counts + dispersion), shape (B, G), from a table but for some others, (E, 2), or all (None)."""
    if others is None:
        return function(counts + dispersion)
    table = function(torch.arange(_TABLE, device=counts.device)[:, None] + dispersion)  # (K, G)
    values = table.gather(0, place)
    spot, gene = others.unbind(dim=1)
    values[spot, gene] = function(counts[spot, gene] + dispersion[gene])
    return values
