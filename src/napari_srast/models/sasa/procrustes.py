"""One pool of general features for several slides: latents turned so that they mean the same genes.

SASA is fitted to each slide by itself, so a latent's axes have an arbitrary turn: near in one slide's coordinates says
nothing about near in another's. The loadings say what the axes mean. If ``z`` is a latent and ``w_g`` the loading of
gene g, ``z . w_g`` is that gene's denoised field, and it stays what it is when both are turned,
``(z R) . (R^T w_g)``. So each slide is turned until its loadings of the genes that all slides share agree best with
those of the others: generalized orthogonal Procrustes (Gower 1975, doi:10.1007/BF02291478; a single rotation by
Schoenemann 1966, doi:10.1007/BF02289451). A turn changes neither distances nor inner products within a slide, hence
nothing of what PCFM is told.

Shape legend: S slides, N spots of a slide, D latent width, G shared genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.models.sasa.embedding import SlideEmbedding

__all__ = ["AlignedEmbeddings", "align_embeddings", "procrustes_rotations"]

_ROUNDS = 200
_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedEmbeddings:
    """Latents of several slides in common coordinates.

    Parameters
    ----------
    latents
        For each slide (N, D): its normalized latent, turned.
    rotations
        The turns, orthogonal (D, D); ``latent @ rotation`` is the turned latent.
    genes
        Names of the shared genes.
    agreement
        For each slide, the congruence (Tucker 1951: the cosine, from -1 to 1) of its turned loadings with the mean of
        the other slides'. Near 0, the slides have nothing in common and their common coordinates mean nothing.
    """

    latents: tuple[np.ndarray, ...]
    rotations: tuple[np.ndarray, ...]
    genes: tuple[str, ...]
    agreement: tuple[float, ...]


def align_embeddings(
    pools: Sequence[SlideEmbedding], counts: Sequence[sparse.csr_matrix], genes: Sequence[Sequence[str]]
) -> AlignedEmbeddings:
    """Turn the latents of several slides into common coordinates.

    Parameters
    ----------
    pools
        Features of each slide, all of one latent width D.
    counts
        Raw counts of each slide, CSR (N, genes of its panel).
    genes
        Gene names of each slide's panel. Genes are matched by exact names; of several equal ones the first counts.

    Returns
    -------
    AlignedPools
        The same whatever the order of the slides, up to rounding.

    Raises
    ------
    InputError
        There are fewer than two slides, their latents differ in width, or they share fewer genes than D: these could
        not tell one turn from another.
    """
    if len(pools) < 2:
        raise InputError("Alignment needs at least two slides; give more.")
    widths = {pool.latent.shape[1] for pool in pools}
    if len(widths) > 1:
        raise InputError("The slides' latents differ in width; fit all of them with the same SasaConfig.")
    width = widths.pop()
    shared = sorted(set.intersection(*(set(map(str, panel)) for panel in genes)))
    if len(shared) < width:
        raise InputError(
            f"The slides share {len(shared)} genes by name, but {width} are needed to align their latents; "
            "give slides of more similar panels, or one spelling of the genes' names."
        )
    loadings = []
    for pool, matrix, panel in zip(pools, counts, genes, strict=True):
        column = {str(gene): i for i, gene in reversed(list(enumerate(panel)))}
        loadings.append(pool.loadings(matrix[:, [column[gene] for gene in shared]])[1:])
    rotations = procrustes_rotations(loadings)
    turned = [_unit(rotation.T @ loading) for rotation, loading in zip(rotations, loadings, strict=True)]
    others = [_unit(sum(turned[:s] + turned[s + 1 :], np.zeros_like(turned[s]))) for s in range(len(turned))]
    return AlignedEmbeddings(
        latents=tuple(pool.latent @ rotation for pool, rotation in zip(pools, rotations, strict=True)),
        rotations=tuple(rotations),
        genes=tuple(shared),
        agreement=tuple(float(np.vdot(own, other)) for own, other in zip(turned, others, strict=True)),
    )


def procrustes_rotations(loadings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the orthogonal matrices R_s that bring all ``R_s^T W_s`` as near to their mean as can be.

    Parameters
    ----------
    loadings
        W_s of each slide, shape (D, G); each is scaled to one size first, so that no slide outweighs another.

    Returns
    -------
    list of np.ndarray
        Orthogonal, shape (D, D). The common coordinates are the principal axes of the mean loadings, the strongest
        first, each with a fixed sign.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> loading = rng.standard_normal((3, 50))
    >>> turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    >>> first, second = procrustes_rotations([loading, turn @ loading])
    >>> bool(np.allclose(first.T @ loading, second.T @ turn @ loading))
    True
    """
    scaled = [_unit(np.asarray(loading, dtype=np.float64)) for loading in loadings]
    width = len(scaled[0])
    # Begun at what all loadings have in common, which favors no slide.
    _, strength, axes = np.linalg.svd(np.concatenate(scaled), full_matrices=False)
    mean = strength[:width, None] * axes[:width]
    for _ in range(_ROUNDS):
        rotations = [_nearest_rotation(loading @ mean.T) for loading in scaled]
        before, mean = mean, np.mean([r.T @ w for r, w in zip(rotations, scaled, strict=True)], axis=0)
        if np.abs(mean - before).max() <= _TOLERANCE * max(np.abs(mean).max(), _TOLERANCE):
            break
    left, _, axes = np.linalg.svd(mean, full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)[:, 0]
    canonical = left * np.where(largest < 0, -1.0, 1.0)
    return [rotation @ canonical for rotation in rotations]


def _nearest_rotation(cross: np.ndarray) -> np.ndarray:
    """Return the orthogonal R of largest trace(R^T cross): Schoenemann's solution."""
    left, _, right = np.linalg.svd(cross)
    return left @ right


def _unit(values: np.ndarray) -> np.ndarray:
    return values / max(float(np.linalg.norm(values)), 1e-12)
