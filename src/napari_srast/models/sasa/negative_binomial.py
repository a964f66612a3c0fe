"""Compute the negative binomial log-likelihood of counts, with explicit derivatives.

Integer counts are mostly small and repeat, while the gamma function is slow: it is evaluated once for each gene and
small count, and looked up. Everything else takes one forward and one backward pass.

Shape legend: B spots, G genes, K counts in the look-up table, E entries that are not in the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["negative_binomial_log_likelihood"]

_TABLE_SIZE = 64  # smaller integer counts are looked up


def negative_binomial_log_likelihood(log_rate: Tensor, dispersion: Tensor, counts: Tensor) -> Tensor:
    """Compute the log-likelihood of counts, without the term ``-log y!``, which no parameter changes.

    The formula is ``log G(y + d) - log G(d) + d log d + y log m - (y + d) log(m + d)`` with the gamma function G, count
    y, mean m and dispersion d; the variance is ``m + m**2 / d``.

    Parameters
    ----------
    log_rate
        Logarithm of the mean m, shape (B, G).
    dispersion
        Dispersion d of each gene, above 0, shape (G,).
    counts
        Counts y, at least 0, shape (B, G); fractions are allowed.

    Returns
    -------
    Tensor
        In nats, shape (B, G).
    """
    likelihood: Tensor = _NegativeBinomial.apply(log_rate, dispersion, counts)
    return likelihood


class _NegativeBinomial(torch.autograd.Function):
    """Evaluate the log-likelihood and its derivatives by the log rate and the dispersion."""

    @staticmethod
    def forward(ctx: Any, log_rate: Tensor, dispersion: Tensor, counts: Tensor) -> Tensor:
        row = counts.clamp(max=_TABLE_SIZE - 1).long()
        # Entries with large or fractional counts. A GPU evaluates the function for all entries faster than it counts
        # these.
        others = torch.nonzero(counts != row) if counts.device.type == "cpu" else None
        rate = torch.exp(log_rate)
        log_total = torch.log(rate + dispersion)
        ctx.save_for_backward(rate, log_total, dispersion, counts, row, others)
        constant = dispersion * torch.log(dispersion) - torch.lgamma(dispersion)
        likelihood = _look_up(torch.lgamma, dispersion, counts, row, others).add_(constant)
        return likelihood.addcmul_(counts, log_rate).sub_((counts + dispersion).mul_(log_total))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        rate, log_total, dispersion, counts, row, others = ctx.saved_tensors
        ratio = (counts + dispersion).div_(rate + dispersion)
        constant = torch.log(dispersion) + 1 - torch.digamma(dispersion)
        by_dispersion = _look_up(torch.digamma, dispersion, counts, row, others)
        by_dispersion.sub_(log_total).sub_(ratio).add_(constant).mul_(grad)
        return torch.addcmul(counts, ratio, rate, value=-1).mul_(grad), by_dispersion.sum(dim=0), None


def _look_up(
    function: Callable[[Tensor], Tensor], dispersion: Tensor, counts: Tensor, row: Tensor, others: Tensor | None
) -> Tensor:
    """Evaluate ``function(counts + dispersion)``, shape (B, G), mostly from a table.

    Parameters
    ----------
    function
        Elementwise function, such as ``torch.lgamma``.
    dispersion, counts
        Shape (G,) and (B, G).
    row
        Table row of each entry, shape (B, G).
    others
        Row and column indices of the entries that are not in the table, shape (E, 2). None evaluates all entries.
    """
    if others is None:
        return function(counts + dispersion)
    table = function(torch.arange(_TABLE_SIZE, device=counts.device)[:, None] + dispersion)  # (K, G)
    values = table.gather(0, row)
    spot, gene = others.unbind(dim=1)
    values[spot, gene] = function(counts[spot, gene] + dispersion[gene])
    return values
