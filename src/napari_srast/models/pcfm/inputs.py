"""Build the inputs of the flow: tokens and conditions that describe a spot, a field and the pixels of the spot.

A *field* is any non-negative quantity over spots: a gene or a program. The inputs do not depend on which gene it is, so
any panel of any species works. All features are distances in pitches, logarithms of ratios and latent similarities, so
rotation, reflection, unit, lattice and gene order do not change them. The paper conditions the flow on general features
and on those of the neighborhood (SRast, arXiv 2602.10644); the features themselves are this project's choice
(docs/method.md).

Shape legend: N spots, T target spots (those with pixels), Q pixels, K pixels per spot (padded), F fields, M neighbors,
L spots of a local level, B spot-field pairs, E interpolations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from napari_srast.geometry.disc_support import DiscSupport
from napari_srast.geometry.nearest_spots import nearest_other_spots
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm.field_statistics import FieldStatistics, level_neighbors, summarize_fields
from napari_srast.models.sasa.embedding import SlideEmbedding, SpotEmbedding

__all__ = [
    "INTERPOLATION_EXPERTS",
    "N_CONDITIONS",
    "N_FEATURES",
    "N_NEIGHBORS",
    "N_SUPPORT_CONDITIONS",
    "N_SUPPORT_FEATURES",
    "PRIOR",
    "FlowInputs",
    "PairBatch",
    "SpotNeighborhoods",
    "build_flow_inputs",
]

N_NEIGHBORS = 10
"""Neighboring spots that each pixel sees, M."""

INTERPOLATION_EXPERTS = ("gp", "gp_denoised", "pycnophylactic_denoised", "bilinear", "gp_totals")
"""Interpolations whose log ratios are features of each pixel, in this order; ``gp_denoised`` is the network's prior."""

PRIOR = INTERPOLATION_EXPERTS.index("gp_denoised")
"""Index of the network's prior among them."""
_N_SPOT_FEATURES = 7  # six values of the spot and the pixel's offset from its center
N_FEATURES = 5 * N_NEIGHBORS + _N_SPOT_FEATURES + len(INTERPOLATION_EXPERTS)
"""Features of a token (one pixel)."""

N_CONDITIONS = 8
"""Features of a condition (one spot-field pair)."""

N_SUPPORT_FEATURES, N_SUPPORT_CONDITIONS = 2, 1
"""Further features of tokens and conditions for networks that know what a spot measures: the measured fraction of the
pixel, and that of its spot."""

_EXTRA_NEIGHBORS = 4  # candidates beyond the neighbors in use: ties at the last rank are broken among them
_RAW_PSEUDOCOUNT, _DENOISED_PSEUDOCOUNT = 0.5, 0.1
_MAX_LOG_RATIO = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotNeighborhoods:
    """Store the inputs that do not depend on a field; computed once for a set of spots and pixels.

    Parameters
    ----------
    target_spots
        Indices of the spots that have pixels, shape (T,).
    target_pixels
        Pixel indices of each target spot, padded with 0, shape (T, K).
    pixel_mask
        True for real pixels, False for padding, shape (T, K).
    neighbor_index
        Indices of the nearest other spots of each pixel, shape (Q, M).
    neighbor_distance
        Their distances from the pixel in pitches, at most 10, shape (Q, M).
    neighbor_similarity
        Inner products of their latents with that of the pixel's own spot, shape (Q, M).
    neighbor_log_totals
        Log ratios of their total counts to those of the pixel's own spot, shape (Q, M).
    pixel_offset
        Distance of each pixel from the center of its spot in pitches, shape (Q,).
    level_index
        Nearest spots of each spot, itself included, which define the local level of a field, shape (N, L).
    spot_descriptors
        Log total relative to the neighbors, and mean latent similarity to them, shape (N, 2).
    measured
        Fraction of the area of each pixel that its spot measures, shape (Q,); None for a network that has no such
        input.
    """

    target_spots: np.ndarray
    target_pixels: Tensor
    pixel_mask: Tensor
    neighbor_index: Tensor
    neighbor_distance: Tensor
    neighbor_similarity: Tensor
    neighbor_log_totals: Tensor
    pixel_offset: Tensor
    level_index: np.ndarray
    spot_descriptors: Tensor
    measured: Tensor | None = None

    @classmethod
    def from_layout(cls, layout: SpotPixelMap, embedding: SlideEmbedding | SpotEmbedding) -> SpotNeighborhoods:
        """Find the neighbors of all pixels and compare their embeddings.

        Parameters
        ----------
        layout
            Spots and pixels.
        embedding
            Embedding of the same spots, in the same order.
        """
        index, distance = nearest_other_spots(
            layout.spots, layout.pixels, layout.parent, N_NEIGHBORS + _EXTRA_NEIGHBORS
        )
        latent = embedding.unit_scaled_latent
        similarity = np.einsum("qmd,qd->qm", latent[index], latent[layout.parent])
        log_total = np.log1p(embedding.totals)
        total = np.clip(log_total[index] - log_total[layout.parent][:, None], -_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        missing = ~np.isfinite(distance)
        distance = np.where(missing, 10.0 * layout.pitch, distance)
        similarity[missing], total[missing] = 0.0, 0.0
        # On a lattice many spots are equally far: ties are broken by content, not by coordinates, so that a rotated
        # slide gives the same order.
        rounded_distance = np.rint(distance / layout.pitch * 1e4)
        order = np.lexsort((total, similarity, rounded_distance), axis=1)[:, :N_NEIGHBORS]
        index, distance, similarity, total = (
            np.take_along_axis(a, order, 1) for a in (index, distance, similarity, total)
        )

        target = np.flatnonzero(layout.n_pixels_per_spot)
        pixels = layout.padded_pixels()
        index_of_target, mask = pixels.pixel_index[target], pixels.mask[target]
        level = level_neighbors(layout, log_total)
        spot_descriptors = np.column_stack(
            [
                log_total - log_total[level].mean(axis=1),
                np.einsum("nld,nd->nl", latent[level], latent).mean(axis=1),
            ]
        )
        return cls(
            target_spots=target,
            target_pixels=torch.from_numpy(np.where(mask, index_of_target, 0)),
            pixel_mask=torch.from_numpy(mask),
            neighbor_index=torch.from_numpy(index),
            neighbor_distance=_float(np.minimum(distance / layout.pitch, 10.0)),
            neighbor_similarity=_float(similarity),
            neighbor_log_totals=_float(total),
            pixel_offset=_float(np.linalg.norm(layout.pixels - layout.spots[layout.parent], axis=1) / layout.pitch),
            level_index=level,
            spot_descriptors=_float(spot_descriptors),
        )

    def with_support(self, support: DiscSupport | None) -> SpotNeighborhoods:
        """Return the same with what the spots measure, for a network that knows it.

        Parameters
        ----------
        support
            Discs that the spots measure; None if they measure all of their pixels.
        """
        offset = self.pixel_offset.numpy()
        measured = np.ones_like(offset) if support is None else support.measured_fraction(offset)
        return replace(self, measured=_float(measured))


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Hold the network input of B spot-field pairs.

    Parameters
    ----------
    tokens
        Features of each pixel, zeros on padding, shape (B, K, N_FEATURES), or with N_SUPPORT_FEATURES more.
    condition
        Features of each pair, shape (B, N_CONDITIONS), or with N_SUPPORT_CONDITIONS more.
    log_prior
        Log ratios of the prior, minus infinity on padding, shape (B, K).
    mask
        True for real pixels, False for padding, shape (B, K).
    """

    tokens: Tensor
    condition: Tensor
    log_prior: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowInputs:
    """Hold the flow's inputs of all target spots and a block of fields.

    Parameters
    ----------
    neighborhoods
        Inputs that do not depend on a field.
    counts
        Counts of the fields, shape (N, F).
    log_raw, log_denoised
        Logarithms of observed and denoised counts, shape (N, F).
    log_level_raw, log_level_denoised
        Logarithms of the local levels of both, means over :attr:`SpotNeighborhoods.level_index`, shape (N, F).
    expert_log_ratios
        ``log(K r)`` of each interpolation, with K pixels of the spot and ratios r, shape (E, Q, F).
    field_descriptors
        Smoothness, correlation with the totals and log mean of each field, shape (F, 3).
    """

    neighborhoods: SpotNeighborhoods
    counts: Tensor
    log_raw: Tensor
    log_denoised: Tensor
    log_level_raw: Tensor
    log_level_denoised: Tensor
    expert_log_ratios: Tensor
    field_descriptors: Tensor

    @property
    def n_fields(self) -> int:
        """Number of fields, F."""
        return self.counts.shape[1]

    def gather_pairs(self, target: Tensor, field: Tensor) -> PairBatch:
        """Gather the network input of B spot-field pairs.

        Parameters
        ----------
        target
            Index into the target spots of each pair, shape (B,).
        field
            Index into the fields of each pair, shape (B,).
        """
        near = self.neighborhoods
        spot = torch.from_numpy(near.target_spots)[target]
        pixel, mask = near.target_pixels[target], near.pixel_mask[target]
        neighbor = near.neighbor_index[pixel]  # (B, K, M)
        column = field[:, None, None]
        level_raw, level_denoised = self.log_level_raw[spot, field], self.log_level_denoised[spot, field]
        raw = (self.log_raw[neighbor, column] - level_raw[:, None, None]).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        denoised = self.log_denoised[neighbor, column] - level_denoised[:, None, None]
        denoised = denoised.clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
        n = self.counts[spot, field]
        n_pixels = mask.sum(dim=1)
        spot_features = torch.stack(
            [
                torch.log1p(n),
                level_raw,
                (self.log_raw[spot, field] - level_raw).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO),
                (self.log_denoised[spot, field] - level_denoised).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO),
                torch.log(n_pixels.float()),
                near.spot_descriptors[spot, 0],
            ],
            dim=1,
        )
        experts = self.expert_log_ratios[:, pixel, field[:, None]].permute(1, 2, 0)  # (B, K, E)
        tokens = torch.cat(
            [
                near.neighbor_distance[pixel],
                raw,
                denoised,
                near.neighbor_similarity[pixel],
                near.neighbor_log_totals[pixel],
                near.pixel_offset[pixel][..., None],
                spot_features[:, None, :].expand(-1, pixel.shape[1], -1),
                experts,
            ],
            dim=2,
        )
        condition = torch.cat(
            [spot_features[:, [0, 1, 4]], near.spot_descriptors[spot], self.field_descriptors[field]], dim=1
        )
        if near.measured is not None:
            measured = near.measured[pixel]
            of_spot = (measured * mask).sum(dim=1, keepdim=True) / n_pixels[:, None]
            tokens = torch.cat([tokens, torch.stack([measured, of_spot.expand_as(measured)], dim=2)], dim=2)
            condition = torch.cat([condition, of_spot], dim=1)
        prior = experts[..., PRIOR].masked_fill(~mask, -torch.inf)
        return PairBatch(tokens * mask[..., None], condition, torch.log_softmax(prior, dim=1), mask)


def build_flow_inputs(
    layout: SpotPixelMap,
    embedding: SlideEmbedding | SpotEmbedding,
    neighborhoods: SpotNeighborhoods,
    interpolator: Interpolator,
    counts: sparse.csr_matrix,
    statistics: FieldStatistics | None = None,
) -> FlowInputs:
    """Build the flow's inputs of a block of fields.

    Parameters
    ----------
    layout
        Spots and pixels of a slide or of a tile.
    embedding
        Embedding of the spots.
    neighborhoods
        Inputs that do not depend on a field, from the same spots and pixels.
    interpolator
        Interpolations on the same spots and pixels.
    counts
        Counts of the fields, CSR, shape (N, F).
    statistics
        Statistics of the fields over the whole slide. None computes them from ``counts``, which is only valid if
        ``layout`` is a whole slide.

    Raises
    ------
    TypeError
        ``embedding`` covers a part of a slide and ``statistics`` is None.
    """
    if statistics is None:
        if isinstance(embedding, SpotEmbedding):
            raise TypeError("statistics of the whole slide are required for a SpotEmbedding; pass statistics=...")
        statistics = summarize_fields(layout, embedding, counts)
    raw = counts.toarray().astype(np.float64)
    denoised = statistics.denoiser.denoise(embedding.neighborhood_mean, embedding.size_factor)
    level = neighborhoods.level_index
    level_raw, level_denoised = raw[level].mean(axis=1), denoised[level].mean(axis=1)
    n_pixels = layout.n_pixels_per_spot[layout.parent][:, None]
    totals = interpolator.ratios("gp", embedding.totals[:, None], process=statistics.totals) * n_pixels
    experts = np.stack(
        [
            _log_scaled_ratio(interpolator.ratios("gp", raw, process=statistics.raw) * n_pixels),
            _log_scaled_ratio(interpolator.ratios("gp", denoised, process=statistics.denoised) * n_pixels),
            _log_scaled_ratio(interpolator.ratios("pycnophylactic", denoised) * n_pixels),
            _log_scaled_ratio(interpolator.ratios("bilinear", raw) * n_pixels),
            np.broadcast_to(_log_scaled_ratio(totals), (layout.n_pixels, raw.shape[1])),
        ]
    )
    log_raw, log_level_raw = np.log(raw + _RAW_PSEUDOCOUNT), np.log(level_raw + _RAW_PSEUDOCOUNT)
    return FlowInputs(
        neighborhoods=neighborhoods,
        counts=_float(raw),
        log_raw=_float(log_raw),
        log_denoised=_float(np.log(denoised + _DENOISED_PSEUDOCOUNT)),
        log_level_raw=_float(log_level_raw),
        log_level_denoised=_float(np.log(level_denoised + _DENOISED_PSEUDOCOUNT)),
        expert_log_ratios=_float(experts),
        field_descriptors=_float(statistics.descriptors),
    )


def _log_scaled_ratio(scaled_ratio: np.ndarray) -> np.ndarray:
    """Return ``log(K r)``, with ``K r`` limited to at least 0.01."""
    return np.log(np.maximum(scaled_ratio, 1e-2))


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
