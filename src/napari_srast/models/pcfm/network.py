"""Predict the end point of the flow, the ratios of a spot's pixels, with a diffusion transformer (DiT).

The end point is ``xhat = softmax(log prior + net(x_t, t, condition))`` over the pixels of a spot. Flow matching with a
DiT is the paper's (SRast, arXiv 2602.10644); adding the network to a prior interpolation is this project's choice
(docs/method.md). Tokens are the pixels of one spot. Attention does not depend on their order, and all features are
distances and similarities, so the network is invariant to rotations and reflections by construction. Blocks are
conditioned by adaLN-Zero (Peebles & Xie, 2023, arXiv 2212.09748). The last layer starts at zero: an untrained network
returns its prior.

Shape legend: B spot-field pairs, K pixels per spot (padded, masked), H width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_srast.models.pcfm.inputs import (
    N_CONDITIONS,
    N_FEATURES,
    N_SUPPORT_CONDITIONS,
    N_SUPPORT_FEATURES,
    PairBatch,
)

__all__ = ["Block", "DiT", "DiTConfig"]

# Far above what the few pixels of a spot need: a checkpoint from an unknown source cannot ask for unlimited memory.
_LIMITS = {"width": 2048, "depth": 64, "heads": 64, "frequencies": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """Configure the size of the network; stored in checkpoints.

    Parameters
    ----------
    width
        Width of a token H, a multiple of ``heads``, at most 2048.
    depth
        Number of transformer blocks, at most 64.
    heads
        Number of attention heads, at most 64.
    frequencies
        Number of sinusoids that encode the flow time, at most 64.
    support
        Whether the measured fractions of pixels and spots are inputs, as networks need that are trained on spots that
        measure discs.

    Raises
    ------
    ValueError
        A size is not an integer between 1 and its limit, ``width`` is not a multiple of ``heads``, or ``support`` is
        no bool.
    """

    width: int = 64
    depth: int = 2
    heads: int = 4
    frequencies: int = 8
    support: bool = False

    def __post_init__(self) -> None:
        for name, largest in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= largest:
                raise ValueError(f"{name} must be an integer from 1 to {largest}")
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        if type(self.support) is not bool:
            raise ValueError("support must be true or false")

    @property
    def n_features(self) -> int:
        """Number of features of a token."""
        return N_FEATURES + N_SUPPORT_FEATURES * self.support

    @property
    def n_conditions(self) -> int:
        """Number of features of a condition."""
        return N_CONDITIONS + N_SUPPORT_CONDITIONS * self.support


class Block(nn.Module):
    """Apply attention and an MLP, each shifted, scaled and gated by the condition; the gates start at zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, condition: Tensor, attend: Tensor) -> Tensor:
        """Apply the block to tokens (B, K, H), given the embedded condition (B, H) and the mask of the attention."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)[:, None, :].chunk(6, dim=2)
        b, k, width = h.shape
        x = self.norm_attention(h) * (1 + scale_a) + shift_a
        q, key, value = self.qkv(x).view(b, k, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, key, value, attn_mask=attend)
        h = h + gate_a * self.out(mixed.transpose(1, 2).reshape(b, k, width))
        x = self.norm_mlp(h) * (1 + scale_m) + shift_m
        return h + gate_m * self.mlp(x)


class DiT(nn.Module):
    """Predict the log ratios of the end point from tokens, condition, flow state and time.

    Parameters
    ----------
    config
        Size of the network; None for the default.
    """

    feature_mean: Tensor
    feature_std: Tensor
    condition_mean: Tensor
    condition_std: Tensor

    def __init__(self, config: DiTConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiTConfig()
        width = self.config.width
        for name, size in (("feature", self.config.n_features), ("condition", self.config.n_conditions)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.embed_token = nn.Sequential(
            nn.Linear(self.config.n_features + 2, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.embed_condition = nn.Sequential(
            nn.Linear(self.config.n_conditions + 2 * self.config.frequencies + 1, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )
        self.blocks = nn.ModuleList([Block(width, self.config.heads) for _ in range(self.config.depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def set_scales(self, batch: PairBatch) -> None:
        """Set mean and standard deviation of the input standardization from one large batch of pairs.

        Parameters
        ----------
        batch
            Pairs of all training studies.
        """
        tokens = batch.tokens[batch.mask][:, : self.config.n_features]
        self.feature_mean.copy_(tokens.mean(dim=0))
        self.feature_std.copy_(tokens.std(dim=0).clamp_min(1e-3))
        condition = batch.condition[:, : self.config.n_conditions]
        self.condition_mean.copy_(condition.mean(dim=0))
        self.condition_std.copy_(condition.std(dim=0).clamp_min(1e-3))

    def forward(self, batch: PairBatch, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict the log ratios of the end point, ``log xhat``.

        The state is multiplied by ``t``: at ``t = 0`` it is pure noise, and the prediction depends only on the
        condition (this project's choice, docs/method.md).

        Parameters
        ----------
        batch
            Tokens, conditions, prior and mask of B pairs.
        x_t
            State of the flow, on the simplex, zeros on padding, shape (B, K).
        t
            Flow time from 0 to 1, shape (B,).

        Returns
        -------
        Tensor
            Log ratios, minus infinity on padding, shape (B, K).
        """
        mask = batch.mask
        n_pixels = mask.sum(dim=1, keepdim=True)
        scaled = x_t * n_pixels
        state = torch.stack([scaled - 1, torch.log(scaled + 0.05)], dim=2) * t[:, None, None]
        tokens = ((batch.tokens[..., : self.config.n_features] - self.feature_mean) / self.feature_std).clamp(-6, 6)
        h = self.embed_token(torch.cat([tokens, state], dim=2))
        c = self.embed_condition(self.scaled_condition(batch, t))
        attend = mask[:, None, None, :]
        for block in self.blocks:
            h = block(h, c, attend)
        score = batch.log_prior.masked_fill(~mask, 0.0) + self.head(self.norm(h))[..., 0]
        return torch.log_softmax(score.masked_fill(~mask, -torch.inf), dim=1)

    def scaled_condition(self, batch: PairBatch, t: Tensor) -> Tensor:
        """Return the standardized conditions of the pairs with the encoded time (B,), the input of a linear layer."""
        condition = batch.condition[:, : self.config.n_conditions]
        condition = ((condition - self.condition_mean) / self.condition_std).clamp(-6, 6)
        return torch.cat([condition, self._encode_time(t)], dim=1)

    def _encode_time(self, t: Tensor) -> Tensor:
        """Encode the flow time by itself and by sinusoids of doubling frequency, shape (B, 2 * frequencies + 1)."""
        octave = 2.0 ** torch.arange(self.config.frequencies, device=t.device) * math.pi / 2
        angle = t[:, None] * octave
        return torch.cat([t[:, None], torch.sin(angle), torch.cos(angle)], dim=1)
