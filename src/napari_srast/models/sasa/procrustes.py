"""Rotate the latents of several slides into common coordinates by generalized orthogonal Procrustes analysis.

SASA is fitted to each slide separately, so the axes of a latent have an arbitrary rotation: coordinates of two slides
cannot be compared. The gene loadings give the axes a meaning. With the latent ``z`` of a spot and the loading ``w_g``
of gene g, ``z . w_g`` is the denoised field of the gene, and it does not change under a common rotation R,
``(z R) . (R^T w_g)``. Each slide is therefore rotated until its loadings of the genes that all slides share agree best
with those of the other slides: generalized orthogonal Procrustes analysis (Gower 1975, doi:10.1007/BF02291478; a single
rotation by Schoenemann 1966, doi:10.1007/BF02289451). The paper describes a unified pool of general features (SRast,
arXiv 2602.10644); this alignment is this project's choice (docs/method.md). A rotation changes neither distances nor
inner products within a slide, so it does not change the inputs of PCFM.

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

_MAX_ITERATIONS = 200
_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedEmbeddings:
    """Hold the latents of several slides in common coordinates.

    Parameters
    ----------
    latents
        Rotated latents of each slide, S arrays of shape (N, D).
    rotations
        Orthogonal matrices, S arrays of shape (D, D); ``latent @ rotation`` is the rotated latent.
    genes
        Names of the shared genes, length G.
    agreement
        Congruence of each slide's rotated loadings with the mean of the other slides' (Tucker 1951: a cosine, from -1
        to 1), length S. Near 0 the slides have nothing in common, and the common coordinates have no meaning.
    """

    latents: tuple[np.ndarray, ...]
    rotations: tuple[np.ndarray, ...]
    genes: tuple[str, ...]
    agreement: tuple[float, ...]


def align_embeddings(
    embeddings: Sequence[SlideEmbedding], counts: Sequence[sparse.csr_matrix], genes: Sequence[Sequence[str]]
) -> AlignedEmbeddings:
    """Align the latents of several slides by their gene loadings.

    Parameters
    ----------
    embeddings
        Embedding of each slide, all with the same latent width D.
    counts
        Raw counts of each slide, CSR, shape (N, number of its genes).
    genes
        Gene names of each slide. Genes are matched by exact names; of duplicates the first is used.

    Returns
    -------
    AlignedEmbeddings
        Up to rounding, the result does not depend on the order of the slides.

    Raises
    ------
    InputError
        There are fewer than two slides, their latents differ in width, or they share fewer than D genes, which do not
        determine the rotations.
    """
    if len(embeddings) < 2:
        raise InputError("Alignment needs at least two slides; give more.")
    widths = {embedding.latent.shape[1] for embedding in embeddings}
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
    for embedding, matrix, panel in zip(embeddings, counts, genes, strict=True):
        column = {str(gene): i for i, gene in reversed(list(enumerate(panel)))}
        loadings.append(embedding.gene_loadings(matrix[:, [column[gene] for gene in shared]])[1:])
    rotations = procrustes_rotations(loadings)
    rotated = [_unit(rotation.T @ loading) for rotation, loading in zip(rotations, loadings, strict=True)]
    others = [_unit(sum(rotated[:s] + rotated[s + 1 :], np.zeros_like(rotated[s]))) for s in range(len(rotated))]
    return AlignedEmbeddings(
        latents=tuple(embedding.latent @ rotation for embedding, rotation in zip(embeddings, rotations, strict=True)),
        rotations=tuple(rotations),
        genes=tuple(shared),
        agreement=tuple(float(np.vdot(loading, other)) for loading, other in zip(rotated, others, strict=True)),
    )


def procrustes_rotations(loadings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Compute the orthogonal matrices ``R_s`` that minimize ``sum_s |R_s^T W_s - mean_s(R_s^T W_s)|^2``.

    Parameters
    ----------
    loadings
        Loadings ``W_s`` of each slide, S arrays of shape (D, G). Each is scaled to norm 1 first, so that all slides
        have the same influence.

    Returns
    -------
    list of np.ndarray
        Orthogonal matrices, S arrays of shape (D, D). The common coordinates are the principal axes of the mean
        loadings in order of decreasing strength, each with a reproducible sign.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> loading = rng.standard_normal((3, 50))
    >>> rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    >>> first, second = procrustes_rotations([loading, rotation @ loading])
    >>> bool(np.allclose(first.T @ loading, second.T @ rotation @ loading))
    True
    """
    scaled = [_unit(np.asarray(loading, dtype=np.float64)) for loading in loadings]
    width = len(scaled[0])
    # The initial mean comes from the joint decomposition of all loadings, which gives no slide precedence.
    _, strength, axes = np.linalg.svd(np.concatenate(scaled), full_matrices=False)
    mean = strength[:width, None] * axes[:width]
    for _ in range(_MAX_ITERATIONS):
        rotations = [_nearest_rotation(loading @ mean.T) for loading in scaled]
        previous, mean = mean, np.mean([r.T @ w for r, w in zip(rotations, scaled, strict=True)], axis=0)
        if np.abs(mean - previous).max() <= _TOLERANCE * max(np.abs(mean).max(), _TOLERANCE):
            break
    left, _, axes = np.linalg.svd(mean, full_matrices=False)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)[:, 0]
    canonical = left * np.where(largest < 0, -1.0, 1.0)
    return [rotation @ canonical for rotation in rotations]


def _nearest_rotation(cross: np.ndarray) -> np.ndarray:
    """Return the orthogonal R that maximizes ``trace(R^T cross)`` (Schoenemann 1966)."""
    left, _, right = np.linalg.svd(cross)
    return left @ right


def _unit(values: np.ndarray) -> np.ndarray:
    """Scale to Frobenius norm 1."""
    return values / max(float(np.linalg.norm(values)), 1e-12)
