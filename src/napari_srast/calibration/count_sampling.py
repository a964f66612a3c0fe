"""Whole counts of pixels: one plausible draw, for all spots and genes at once.

Every random number is a function of the seed, the gene, the spot and its own place alone: the outputs of a SplitMix64
generator (Steele et al. 2014, doi:10.1145/2660193.2660195) for each pair of a spot and a gene. So a gene's counts do
not depend on the genes and spots that it is drawn with, and nothing is drawn for one gene, or one spot, at a time.

Up to a few dozen counts a pair is drawn count by count: by Polya's urn (Blackwell & MacQueen 1973,
doi:10.1214/aos/1176342372), where count i + 1 goes to a pixel by the ratios with probability A / (A + i), and else
where one of the i before it went, the counts are Dirichlet-multinomial with concentration A. Beyond, they are drawn
pixel by pixel by their quantiles, a beta for what the pixel takes of the rest and a binomial for its counts, so that
the work does not grow with the counts.

Shape legend: N spots, Q pixels, F fields, K pixels of a spot (padded), B pairs of a spot and a field, E counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pandas.util import hash_array
from scipy import sparse

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["SampleKeys", "draw_counts"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the step of SplitMix64, whose output function hash_array is for numbers
_URN = 24  # counts of a pair up to which they are drawn one by one; beyond, quantiles are quicker
_EDGE = 1e-12  # of quantiles, closer to which SciPy's search for a binomial's may fail
_AT_ONCE = 1_000_000  # counts, or pixels of pairs


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleKeys:
    """Who draws: numbers that stay the same whatever is drawn beside.

    Parameters
    ----------
    fields
        One for each field, uint64, shape (F,).
    spots
        One for each spot, uint64, shape (N,).
    """

    fields: np.ndarray
    spots: np.ndarray

    @classmethod
    def of(cls, genes: np.ndarray, spots: np.ndarray) -> SampleKeys:
        """Return the keys of genes by their names, and of spots by their numbers in the slide."""
        names = np.asarray(genes).astype(str).astype(object)
        return cls(fields=hash_array(names, categorize=False), spots=np.asarray(spots).astype(np.uint64))


def draw_counts(
    ratios: np.ndarray,
    counts: np.ndarray,
    layout: SpotPixelMap,
    seed: int,
    *,
    keys: SampleKeys | None = None,
    concentration: np.ndarray | None = None,
) -> sparse.csc_matrix:
    """Draw whole counts, which add up to those of the spots.

    Parameters
    ----------
    ratios
        Expected share of each pixel in its spot, up to a factor, shape (Q, F).
    counts
        Counts of the spots, shape (N, F); must be whole.
    layout
        Gives each pixel's spot.
    seed
        Seeds the draw, at least 0.
    keys
        Which fields and spots these are; by default they are numbered.
    concentration
        How close the true shares lie to the ratios: A > 0 of a Dirichlet distribution around them, shape (N, F). None:
        they are the ratios, and the counts multinomial.

    Returns
    -------
    scipy.sparse.csc_matrix
        Shape (Q, F), float64.
    """
    keys = keys or SampleKeys(fields=np.arange(counts.shape[1]), spots=np.arange(counts.shape[0]))
    slots = _Slots.of(layout)
    spot, field = np.nonzero((counts > 0) & (layout.n_pixels_per_spot > 0)[:, None])
    n = np.rint(counts[spot, field]).astype(np.int64)
    stream = _stream(seed, keys.fields[field].astype(np.uint64), keys.spots[spot].astype(np.uint64))
    a = None if concentration is None else concentration[spot, field]
    pixels, columns, drawn = [], [], []
    for draw, pairs, price in (
        (_one_by_one, np.flatnonzero(n <= _URN), n + slots.n_slots),
        (_by_quantiles, np.flatnonzero(n > _URN), np.full(len(n), slots.n_slots)),
    ):
        for some in _batches(pairs, price):
            pixel, owned = slots.pixel[spot[some]], slots.owned[spot[some]]
            share = _shares(ratios[pixel, field[some][:, None]], owned)
            got = draw(share, n[some], stream[some], None if a is None else a[some])
            pair, slot = np.nonzero(got)
            pixels.append(pixel[pair, slot])
            columns.append(field[some][pair])
            drawn.append(got[pair, slot])
    where = [np.concatenate([np.empty(0, dtype=np.int64), *parts]) for parts in (pixels, columns)]
    values = np.concatenate([np.empty(0), *drawn])
    return sparse.csc_matrix((values, (where[0], where[1])), shape=ratios.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Slots:
    """Pixels of each spot, padded with its first one's, and which of them are real, shape (N, K)."""

    pixel: np.ndarray
    owned: np.ndarray

    @classmethod
    def of(cls, layout: SpotPixelMap) -> _Slots:
        n_pixels = layout.n_pixels_per_spot
        owned = np.arange(n_pixels.max(initial=1)) < n_pixels[:, None]
        first = (np.cumsum(n_pixels) - n_pixels)[:, None]
        by_spot = np.append(np.argsort(layout.parent, kind="stable"), 0)
        return cls(pixel=by_spot[np.where(owned, first + np.arange(owned.shape[1]), first)], owned=owned)

    @property
    def n_slots(self) -> int:
        return self.owned.shape[1]


def _batches(pairs: np.ndarray, price: np.ndarray) -> list[np.ndarray]:
    """Cut pairs into batches of about the same price."""
    total = np.cumsum(price[pairs])
    ends = np.arange(_AT_ONCE, total[-1] if len(total) else 0, _AT_ONCE)
    return [part for part in np.split(pairs, np.searchsorted(total, ends)) if len(part)]


def _shares(ratios: np.ndarray, owned: np.ndarray) -> np.ndarray:
    """Scale ratios (B, K) to sum to 1 over the pixels of a spot; where all are 0 the split is even."""
    share = np.where(owned, ratios, 0.0).astype(np.float64)
    total = np.cumsum(share, axis=1)[:, -1:]  # one by one: padding must not change the last bit
    even = owned / owned.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, share / np.where(total > 0, total, 1.0), even))


def _stream(seed: int, fields: np.ndarray, spots: np.ndarray) -> np.ndarray:
    """Return where the generator of each pair begins, uint64, shape (B,)."""
    start = hash_array(np.array([seed], dtype=np.uint64) + _GOLDEN)
    return hash_array(hash_array(fields + start) + spots * _GOLDEN)


def _uniform(stream: np.ndarray, place: np.ndarray | int) -> np.ndarray:
    """Return number ``place`` of each generator, in [0, 1)."""
    with np.errstate(over="ignore"):
        state = stream + (np.asarray(place).astype(np.uint64) + np.uint64(1)) * _GOLDEN
    return (hash_array(state) >> np.uint64(11)) * 2.0**-53


def _one_by_one(share: np.ndarray, n: np.ndarray, stream: np.ndarray, a: np.ndarray | None) -> np.ndarray:
    """Draw the counts (B,) of pairs by Polya's urn with shares (B, K); returns (B, K)."""
    pair = np.repeat(np.arange(len(n)), n)
    first = np.repeat(np.cumsum(n) - n, n)
    turn = np.arange(len(pair)) - first  # (E,)
    pick, slot = _uniform(stream[pair], 2 * turn), np.zeros(len(pair), dtype=np.int64)
    for upto in np.cumsum(share, axis=1).T[:-1]:
        slot += pick >= upto[pair]
    slot = np.minimum(slot, _last(share)[pair])  # sums of shares stop short of 1 by a rounding
    if a is not None:
        source = np.arange(len(pair))
        like = _uniform(stream[pair], 2 * turn + 1) * (a[pair] + turn)
        copies = like >= a[pair]
        source[copies] = first[copies] + np.minimum((like - a[pair])[copies].astype(np.int64), turn[copies] - 1)
        while not np.array_equal(further := source[source], source):
            source = further
        slot = slot[source]
    size = share.shape[1]
    return np.bincount(pair * size + slot, minlength=len(n) * size).reshape(len(n), size)


def _by_quantiles(share: np.ndarray, n: np.ndarray, stream: np.ndarray, a: np.ndarray | None) -> np.ndarray:
    """Draw the counts (B,) of pairs pixel by pixel with shares (B, K); returns (B, K)."""
    from scipy.special import betaincinv
    from scipy.stats import binom

    rest = np.cumsum(share[:, ::-1], axis=1)[:, ::-1]  # of this pixel and all after it
    last, left = _last(share), n.copy()
    drawn = np.zeros(share.shape, dtype=np.int64)
    for slot in range(share.shape[1]):
        with np.errstate(invalid="ignore", divide="ignore"):
            chance = np.clip(np.nan_to_num(share[:, slot] / rest[:, slot]), 0.0, 1.0)
        open_ = np.flatnonzero((left > 0) & (chance > 0) & (slot < last))
        p = chance[open_]
        if a is not None:
            alpha = a[open_] * share[open_, slot]
            beta = a[open_] * (rest[open_, slot] - share[open_, slot])
            least = 1e-300  # of what is above 0
            p = betaincinv(np.maximum(alpha, least), np.maximum(beta, least), _uniform(stream[open_], 2 * slot))
        u = np.clip(_uniform(stream[open_], 2 * slot + 1), _EDGE, 1.0 - _EDGE)
        drawn[open_, slot] = np.clip(binom.ppf(u, left[open_], p), 0, left[open_])
        left -= drawn[:, slot]
    drawn[np.arange(len(n)), last] += left
    return drawn


def _last(share: np.ndarray) -> np.ndarray:
    """Return the last pixel of each pair with a share above 0, shape (B,)."""
    return share.shape[1] - 1 - np.argmax(share[:, ::-1] > 0, axis=1)
