"""What the flow is told about a spot and a field: its neighborhood, as each of its pixels sees it.

A *field* is any non-negative quantity over spots: a gene or a program; nothing here knows which, so any panel of any
species will do. All features are distances in pitches, logarithms of ratios and latent similarities, so that no
rotation, mirror image, unit, lattice or gene order changes them.

Shape legend: N spots, T target spots (those that own pixels), Q pixels, K pixels of a spot (padded), F fields,
M neighbors, B pairs of a spot and a field, C conditions, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from napari_srast.geometry.neighbors import nearest_other_spots
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.interpolation import Interpolator
from napari_srast.models.pcfm.field_statistics import FieldStatistics, level_neighbors, summarize_fields
from napari_srast.models.sasa.embedding import SlideEmbedding, SpotEmbedding

__all__ = [
    "INTERPOLATION_EXPERTS",
    "N_CONDITIONS",
    "N_FEATURES",
    "N_NEIGHBOURS",
    "FlowInputs",
    "PairBatch",
    "SpotNeighborhoods",
    "condition_fields",
]

N_NEIGHBOURS = 10
INTERPOLATION_EXPERTS = ("gp", "gp_denoised", "pycnophylactic_denoised", "bilinear", "gp_totals")
"""The interpolations whose log ratios each pixel is told, in this order; ``gp_denoised`` is the network's prior."""
PRIOR = INTERPOLATION_EXPERTS.index("gp_denoised")
_OWN = 7
N_FEATURES = 5 * N_NEIGHBOURS + _OWN + len(INTERPOLATION_EXPERTS)
N_CONDITIONS = 8
_SPARE = 4  # more neighbors are looked up than kept, so that ties at the last place can be broken
_RAW_COUNT, _DENOISED_COUNT = 0.5, 0.1  # added before a logarithm
_CLIP = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SpotNeighborhoods:
    """The part of the condition that no field changes; made once for a layout.

    Parameters
    ----------
    target
        Spots that own pixels, shape (T,).
    pixel
        Their pixels, shape (T, K), padded with 0.
    mask
        Which of them are real, shape (T, K).
    neighbor, distance, similarity, total
        For each pixel its nearest other spots: index, distance in pitches, latent similarity to the pixel's own spot,
        and log ratio of the totals; shape (Q, M) each.
    offset
        Distance of each pixel from its spot's center in pitches, shape (Q,).
    level_neighbor
        The nearest spots of each spot, itself included, shape (N, L): they define a field's local level.
    spot_condition
        Per spot: log total against its neighbors, and mean latent similarity to them, shape (N, 2).
    """

    target: np.ndarray
    pixel: Tensor
    mask: Tensor
    neighbor: Tensor
    distance: Tensor
    similarity: Tensor
    total: Tensor
    offset: Tensor
    level_neighbor: np.ndarray
    spot_condition: Tensor

    @classmethod
    def of_layout(cls, layout: SpotPixelMap, pool: SlideEmbedding | SpotEmbedding) -> SpotNeighborhoods:
        """Precompute neighbors and similarities."""
        index, distance = nearest_other_spots(layout.spots, layout.pixels, layout.parent, N_NEIGHBOURS + _SPARE)
        latent = pool.comparable
        similarity = np.einsum("qmd,qd->qm", latent[index], latent[layout.parent])
        log_total = np.log1p(pool.totals)
        total = np.clip(log_total[index] - log_total[layout.parent][:, None], -_CLIP, _CLIP)
        missing = ~np.isfinite(distance)
        distance = np.where(missing, 10.0 * layout.pitch, distance)
        similarity[missing], total[missing] = 0.0, 0.0
        # On a lattice many spots are equally far: what they hold, not where they lie, breaks the tie.
        coarse = np.rint(distance / layout.pitch * 1e4)
        order = np.lexsort((total, similarity, coarse), axis=1)[:, :N_NEIGHBOURS]
        index, distance, similarity, total = (
            np.take_along_axis(a, order, 1) for a in (index, distance, similarity, total)
        )

        counts = layout.n_pixels_of_spot
        target = np.flatnonzero(counts)
        order = np.argsort(layout.parent, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts[target])[:-1]])
        slot = np.arange(counts[target].max())
        mask = slot < counts[target][:, None]
        pixel = order[np.where(mask, starts[:, None] + slot, 0)]
        level = level_neighbors(layout, log_total)
        spot_condition = np.column_stack(
            [
                log_total - log_total[level].mean(axis=1),
                np.einsum("nld,nd->nl", latent[level], latent).mean(axis=1),
            ]
        )
        return cls(
            target=target,
            pixel=torch.from_numpy(np.where(mask, pixel, 0)),
            mask=torch.from_numpy(mask),
            neighbor=torch.from_numpy(index),
            distance=_float(np.minimum(distance / layout.pitch, 10.0)),
            similarity=_float(similarity),
            total=_float(total),
            offset=_float(np.linalg.norm(layout.pixels - layout.spots[layout.parent], axis=1) / layout.pitch),
            level_neighbor=level,
            spot_condition=_float(spot_condition),
        )


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Network input: tokens (B, K, N_FEATURES), condition (B, N_CONDITIONS), log prior and mask (B, K)."""

    tokens: Tensor
    condition: Tensor
    log_prior: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowInputs:
    """The condition of all pairs of a layout's target spots and a block of fields.

    Parameters
    ----------
    geometry
        See there.
    counts
        The fields, shape (N, F).
    log_raw, log_denoised
        Logarithms of counts, observed and denoised, shape (N, F).
    level_raw, level_denoised
        The same of the local level, shape (N, F).
    experts
        log(K r) of each interpolation, shape (E, Q, F).
    field_condition
        Per field: smoothness, dependence on the totals, log mean; shape (F, 3).
    """

    geometry: SpotNeighborhoods
    counts: Tensor
    log_raw: Tensor
    log_denoised: Tensor
    level_raw: Tensor
    level_denoised: Tensor
    experts: Tensor
    field_condition: Tensor

    @property
    def n_fields(self) -> int:
        """Number of fields, F."""
        return self.counts.shape[1]

    def pairs(self, target: Tensor, field: Tensor) -> PairBatch:
        """Gather the input of B pairs: ``target`` indexes the target spots, ``field`` the fields."""
        geometry = self.geometry
        spot = torch.from_numpy(geometry.target)[target]
        pixel, mask = geometry.pixel[target], geometry.mask[target]
        neighbor = geometry.neighbor[pixel]  # (B, K, M)
        column = field[:, None, None]
        level_raw, level_denoised = self.level_raw[spot, field], self.level_denoised[spot, field]
        raw = (self.log_raw[neighbor, column] - level_raw[:, None, None]).clamp(-_CLIP, _CLIP)
        denoised = (self.log_denoised[neighbor, column] - level_denoised[:, None, None]).clamp(-_CLIP, _CLIP)
        n = self.counts[spot, field]
        n_pixels = mask.sum(dim=1)
        own = torch.stack(
            [
                torch.log1p(n),
                level_raw,
                (self.log_raw[spot, field] - level_raw).clamp(-_CLIP, _CLIP),
                (self.log_denoised[spot, field] - level_denoised).clamp(-_CLIP, _CLIP),
                torch.log(n_pixels.float()),
                geometry.spot_condition[spot, 0],
            ],
            dim=1,
        )
        experts = self.experts[:, pixel, field[:, None]].permute(1, 2, 0)  # (B, K, E)
        tokens = torch.cat(
            [
                geometry.distance[pixel],
                raw,
                denoised,
                geometry.similarity[pixel],
                geometry.total[pixel],
                geometry.offset[pixel][..., None],
                own[:, None, :].expand(-1, pixel.shape[1], -1),
                experts,
            ],
            dim=2,
        )
        condition = torch.cat([own[:, [0, 1, 4]], geometry.spot_condition[spot], self.field_condition[field]], dim=1)
        prior = experts[..., PRIOR].masked_fill(~mask, -torch.inf)
        return PairBatch(tokens * mask[..., None], condition, torch.log_softmax(prior, dim=1), mask)


def condition_fields(
    layout: SpotPixelMap,
    pool: SlideEmbedding | SpotEmbedding,
    geometry: SpotNeighborhoods,
    interpolator: Interpolator,
    counts: sparse.csr_matrix,
    known: FieldStatistics | None = None,
) -> FlowInputs:
    """Prepare a block of fields.

    Parameters
    ----------
    layout, pool, geometry, interpolator
        All of one slide.
    counts
        The fields, CSR, shape (N, F).
    known
        What is known of them over the whole slide, where these spots are only a part of it; else fitted here.
    """
    if known is None:
        if isinstance(pool, SpotEmbedding):
            raise TypeError("a part of a slide needs what is known of the fields over the whole")
        known = summarize_fields(layout, pool, counts)
    raw = counts.toarray().astype(np.float64)
    denoised = known.denoising.at(pool.surroundings, pool.depth)
    level = geometry.level_neighbor
    level_raw, level_denoised = raw[level].mean(axis=1), denoised[level].mean(axis=1)
    n_pixels = layout.n_pixels_of_spot[layout.parent][:, None]
    totals = interpolator.ratios("gp", pool.totals[:, None], process=known.totals) * n_pixels
    experts = np.stack(
        [
            _log_ratio(interpolator.ratios("gp", raw, process=known.raw) * n_pixels),
            _log_ratio(interpolator.ratios("gp", denoised, process=known.denoised) * n_pixels),
            _log_ratio(interpolator.ratios("pycnophylactic", denoised) * n_pixels),
            _log_ratio(interpolator.ratios("bilinear", raw) * n_pixels),
            np.broadcast_to(_log_ratio(totals), (layout.n_pixels, raw.shape[1])),
        ]
    )
    log_raw, log_level = np.log(raw + _RAW_COUNT), np.log(level_raw + _RAW_COUNT)
    return FlowInputs(
        geometry=geometry,
        counts=_float(raw),
        log_raw=_float(log_raw),
        log_denoised=_float(np.log(denoised + _DENOISED_COUNT)),
        level_raw=_float(log_level),
        level_denoised=_float(np.log(level_denoised + _DENOISED_COUNT)),
        experts=_float(experts),
        field_condition=_float(known.description),
    )


def _log_ratio(scaled: np.ndarray) -> np.ndarray:
    """Return the logarithm of K r, kept off minus infinity."""
    return np.log(np.maximum(scaled, 1e-2))


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
