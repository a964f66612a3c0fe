"""Predict the end point of the flow at time 0 for spots of few pixels on a CPU.

On bins that are split into 2 x 2 pixels, nearly half of the time of :class:`~napari_srast.models.pcfm.network.DiT` goes
into attention over four tokens and into copies between layouts. Here the pairs are the last, contiguous dimension, so
that every operation runs over them. The arithmetic is that of the network in another order: results differ by rounding,
and are computed in this way on large slides only.

Shape legend: B spot-field pairs, K pixels per spot, H width, F features.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_srast.models.pcfm.inputs import PairBatch
from napari_srast.models.pcfm.network import Block, DiT

__all__ = ["MAX_FEW_PIXELS", "mean_of_few_pixels"]

MAX_FEW_PIXELS = 8
"""Pixels per spot up to which this is the faster way."""
_EPSILON = 1e-5  # of the layer norm


def mean_of_few_pixels(network: DiT, batch: PairBatch) -> Tensor:
    """Predict the log ratios of the end point at time 0, as :meth:`DiT.forward` does.

    At time 0 the state of the flow is multiplied by 0, so that its two features are left out.

    Parameters
    ----------
    network
        Network, on the CPU.
    batch
        Pairs whose spots all have K pixels, without padding.

    Returns
    -------
    Tensor
        Log ratios, shape (B, K).
    """
    n_pairs, n_pixels, _ = batch.tokens.shape
    n_features = network.config.n_features
    tokens = ((batch.tokens[..., :n_features] - network.feature_mean) / network.feature_std).clamp_(-6, 6)
    first, _, last = cast("tuple[nn.Linear, nn.Module, nn.Linear]", tuple(network.embed_token))
    h = torch.addmm(first.bias[:, None], first.weight[:, :n_features], tokens.permute(2, 1, 0).reshape(n_features, -1))
    h = _linear(last, F.silu(h, inplace=True).view(-1, n_pixels, n_pairs))
    condition = network.embed_condition(network.scaled_condition(batch, torch.zeros(n_pairs)))
    condition = condition.t().contiguous()
    for block in cast("Iterable[Block]", network.blocks):
        h = _apply_block(block, h, condition)
    h = _normalize(h).mul_(network.norm.weight[:, None, None]).add_(network.norm.bias[:, None, None])
    score = _linear(network.head, h)[0]
    return torch.log_softmax(batch.log_prior + score.t(), dim=1)


def _apply_block(block: Block, h: Tensor, condition: Tensor) -> Tensor:
    """Apply a transformer block to tokens (H, K, B), given the embedded condition (H, B)."""
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = _linear(block.modulation, condition)[:, None].chunk(6)
    x = _normalize(h).mul_(scale_a.add_(1)).add_(shift_a)
    h = h.addcmul_(gate_a, _linear(block.out, _attend(_linear(block.qkv, x), block.heads)))
    x = _normalize(h).mul_(scale_m.add_(1)).add_(shift_m)
    up, _, down = cast("tuple[nn.Linear, nn.Module, nn.Linear]", tuple(block.mlp))
    return h.addcmul_(gate_m, _linear(down, F.gelu(_linear(up, x))))


def _attend(qkv: Tensor, heads: int) -> Tensor:
    """Attend from every pixel to all pixels of its spot, given query, key and value (3H, K, B); returns (H, K, B)."""
    n_pixels, n_pairs = qkv.shape[1:]
    query, key, value = qkv.view(3, heads, -1, n_pixels, n_pairs)
    width = query.shape[1]
    weight = query[:, 0, :, None] * key[:, 0, None]  # (heads, K, K, B)
    for i in range(1, width):
        weight.addcmul_(query[:, i, :, None], key[:, i, None])
    weight.mul_(width**-0.5)
    weight.sub_(weight.amax(dim=2, keepdim=True)).exp_()
    weight.div_(weight.sum(dim=2, keepdim=True))
    mixed = weight[:, None, :, 0] * value[:, :, None, 0]
    for j in range(1, n_pixels):
        mixed.addcmul_(weight[:, None, :, j], value[:, :, None, j])
    return mixed.view(heads * width, n_pixels, n_pairs)


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer to the first dimension."""
    return torch.addmm(layer.bias[:, None], layer.weight, x.reshape(len(x), -1)).view(-1, *x.shape[1:])


def _normalize(x: Tensor) -> Tensor:
    """Subtract the mean over the first dimension, and divide by the standard deviation."""
    centered = x - x.mean(dim=0)
    return centered.mul_(torch.rsqrt((centered * centered).mean(dim=0).add_(_EPSILON)))
