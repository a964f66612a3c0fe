"""Sample integer counts of pixels, for all spots and genes at once.

Every random number is a function of the seed, the gene, the spot and its own index alone: the outputs of a SplitMix64
generator (Steele et al. 2014, doi:10.1145/2660193.2660195) for each spot-gene pair. The counts of a gene therefore do
not depend on the genes and spots that are sampled in the same call, and no generator is created per gene or spot.

Up to a few dozen counts, a pair is sampled count by count with Polya's urn (Blackwell & MacQueen 1973,
doi:10.1214/aos/1176342372): count i + 1 goes to a pixel by the ratios with probability A / (A + i), and otherwise to
the pixel of one of the i counts before it. These counts are Dirichlet-multinomial with concentration A. Larger pairs
are sampled pixel by pixel through quantiles, of a beta for the pixel's share of the rest and of a binomial for its
counts, so that the work does not grow with the counts.

Shape legend: N spots, Q pixels, F fields, K pixels per spot (padded), B spot-field pairs, E counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pandas.util import hash_array
from scipy import sparse

from napari_srast.geometry.spot_pixel_map import SpotPixelMap

__all__ = ["SampleKeys", "sample_counts"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the increment of SplitMix64; hash_array is its output function for integers
_MAX_URN_COUNTS = 24  # counts of a pair up to which the urn is used; beyond, quantiles are faster
_EDGE = 1e-12  # quantiles closer to 0 or 1 may make SciPy's search for a binomial's quantile fail
_MAX_BATCH = 1_000_000  # counts, or pixels of pairs


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleKeys:
    """Random-stream keys of fields and spots, independent of what else is sampled in the call.

    Parameters
    ----------
    fields
        Key of each field, uint64, shape (F,).
    spots
        Key of each spot, uint64, shape (N,).
    """

    fields: np.ndarray
    spots: np.ndarray

    @classmethod
    def of(cls, genes: np.ndarray, spots: np.ndarray) -> SampleKeys:
        """Return the keys of genes, from their names, and of spots, from their indices in the slide."""
        names = np.asarray(genes).astype(str).astype(object)
        return cls(fields=hash_array(names, categorize=False), spots=np.asarray(spots).astype(np.uint64))


def sample_counts(
    ratios: np.ndarray,
    counts: np.ndarray,
    layout: SpotPixelMap,
    seed: int,
    *,
    keys: SampleKeys | None = None,
    concentration: np.ndarray | None = None,
) -> sparse.csc_matrix:
    """Sample integer counts of pixels, which add up to those of the spots.

    Parameters
    ----------
    ratios
        Expected share of each pixel in its spot, up to a factor, shape (Q, F).
    counts
        Integer counts of the spots, shape (N, F).
    layout
        Spots and pixels.
    seed
        Seed of the samples, at least 0.
    keys
        Keys of the fields and spots. Default: their indices.
    concentration
        Concentration A > 0 of a Dirichlet distribution of the true shares around the ratios, shape (N, F). Default: the
        ratios are exact, and the counts multinomial.

    Returns
    -------
    scipy.sparse.csc_matrix
        Counts of the pixels, float64, shape (Q, F).
    """
    keys = keys or SampleKeys(fields=np.arange(counts.shape[1]), spots=np.arange(counts.shape[0]))
    table = layout.padded_pixels()
    n_slots = table.mask.shape[1]
    spot, field = np.nonzero((counts > 0) & (layout.n_pixels_per_spot > 0)[:, None])
    n = np.rint(counts[spot, field]).astype(np.int64)
    stream = _stream(seed, keys.fields[field].astype(np.uint64), keys.spots[spot].astype(np.uint64))
    a = None if concentration is None else concentration[spot, field]
    pixels, columns, values = [], [], []
    for sample, pairs, cost in (
        (_sample_by_urn, np.flatnonzero(n <= _MAX_URN_COUNTS), n + n_slots),
        (_sample_by_quantiles, np.flatnonzero(n > _MAX_URN_COUNTS), np.full(len(n), n_slots)),
    ):
        for batch in _batches(pairs, cost):
            pixel, mask = table.pixel_index[spot[batch]], table.mask[spot[batch]]
            share = _shares(ratios[pixel, field[batch][:, None]], mask)
            sampled = sample(share, n[batch], stream[batch], None if a is None else a[batch])
            pair, slot = np.nonzero(sampled)
            pixels.append(pixel[pair, slot])
            columns.append(field[batch][pair])
            values.append(sampled[pair, slot])
    row, column = (np.concatenate([np.empty(0, dtype=np.int64), *parts]) for parts in (pixels, columns))
    return sparse.csc_matrix((np.concatenate([np.empty(0), *values]), (row, column)), shape=ratios.shape)


def _batches(pairs: np.ndarray, cost: np.ndarray) -> list[np.ndarray]:
    """Divide pairs into batches of about the same cost."""
    total = np.cumsum(cost[pairs])
    ends = np.arange(_MAX_BATCH, total[-1] if len(total) else 0, _MAX_BATCH)
    return [part for part in np.split(pairs, np.searchsorted(total, ends)) if len(part)]


def _shares(ratios: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Scale ratios (B, K) to sum to 1 over the pixels of a spot; ratios of 0 give the uniform split."""
    share = np.where(mask, ratios, 0.0).astype(np.float64)
    total = np.cumsum(share, axis=1)[:, -1:]  # one by one, because padding must not change the last bit
    uniform = mask / mask.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, share / np.where(total > 0, total, 1.0), uniform))


def _stream(seed: int, fields: np.ndarray, spots: np.ndarray) -> np.ndarray:
    """Return the initial state of each pair's generator, uint64, shape (B,)."""
    start = hash_array(np.array([seed], dtype=np.uint64) + _GOLDEN)
    return hash_array(hash_array(fields + start) + spots * _GOLDEN)


def _uniform(stream: np.ndarray, index: np.ndarray | int) -> np.ndarray:
    """Return random number ``index`` of each generator, in [0, 1)."""
    with np.errstate(over="ignore"):
        state = stream + (np.asarray(index).astype(np.uint64) + np.uint64(1)) * _GOLDEN
    return (hash_array(state) >> np.uint64(11)) * 2.0**-53


def _sample_by_urn(share: np.ndarray, n: np.ndarray, stream: np.ndarray, a: np.ndarray | None) -> np.ndarray:
    """Sample the counts (B,) of pairs with shares (B, K) by Polya's urn; returns (B, K)."""
    pair = np.repeat(np.arange(len(n)), n)
    first = np.repeat(np.cumsum(n) - n, n)
    turn = np.arange(len(pair)) - first  # (E,)
    pick, slot = _uniform(stream[pair], 2 * turn), np.zeros(len(pair), dtype=np.int64)
    for upper in np.cumsum(share, axis=1).T[:-1]:
        slot += pick >= upper[pair]
    slot = np.minimum(slot, _last(share)[pair])  # rounding may leave the sum of shares below 1
    if a is not None:
        source = np.arange(len(pair))
        position = _uniform(stream[pair], 2 * turn + 1) * (a[pair] + turn)
        copies = position >= a[pair]
        source[copies] = first[copies] + np.minimum((position - a[pair])[copies].astype(np.int64), turn[copies] - 1)
        while not np.array_equal(further := source[source], source):
            source = further
        slot = slot[source]
    n_slots = share.shape[1]
    return np.bincount(pair * n_slots + slot, minlength=len(n) * n_slots).reshape(len(n), n_slots)


def _sample_by_quantiles(share: np.ndarray, n: np.ndarray, stream: np.ndarray, a: np.ndarray | None) -> np.ndarray:
    """Sample the counts (B,) of pairs with shares (B, K) pixel by pixel; returns (B, K)."""
    from scipy.special import betaincinv
    from scipy.stats import binom

    rest = np.cumsum(share[:, ::-1], axis=1)[:, ::-1]  # share of this pixel and all after it
    last, n_left = _last(share), n.copy()
    sampled = np.zeros(share.shape, dtype=np.int64)
    for slot in range(share.shape[1]):
        with np.errstate(invalid="ignore", divide="ignore"):
            chance = np.clip(np.nan_to_num(share[:, slot] / rest[:, slot]), 0.0, 1.0)
        active = np.flatnonzero((n_left > 0) & (chance > 0) & (slot < last))
        p = chance[active]
        if a is not None:
            alpha = a[active] * share[active, slot]
            beta = a[active] * (rest[active, slot] - share[active, slot])
            least = 1e-300  # the parameters must be above 0
            p = betaincinv(np.maximum(alpha, least), np.maximum(beta, least), _uniform(stream[active], 2 * slot))
        u = np.clip(_uniform(stream[active], 2 * slot + 1), _EDGE, 1.0 - _EDGE)
        sampled[active, slot] = np.clip(binom.ppf(u, n_left[active], p), 0, n_left[active])
        n_left -= sampled[:, slot]
    sampled[np.arange(len(n)), last] += n_left
    return sampled


def _last(share: np.ndarray) -> np.ndarray:
    """Return the last pixel of each pair with a share above 0, shape (B,)."""
    return share.shape[1] - 1 - np.argmax(share[:, ::-1] > 0, axis=1)
