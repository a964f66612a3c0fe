"""Benchmark whether the embeddings of several slides are comparable, after Fig. 2 of the paper.

``python -m napari_srast.evaluation.embedding_benchmark DATA --out docs/results`` writes scores and a figure. DATA is a
folder with the slides in ``slides/``.

The counts of every slide are split at random into two halves (binomial thinning). Features are fitted to one half and
predict the other.

Shape legend: N spots of all slides, D features, G shared genes.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA

from napari_srast.errors import InputError, OutputError
from napari_srast.evaluation.batch_mixing import ilisi, neighbor_agreement
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.models.sasa.config import SasaConfig
from napari_srast.models.sasa.embedding import SlideEmbedding, log_normalize
from napari_srast.models.sasa.fitting import fit_sasa
from napari_srast.models.sasa.procrustes import align_embeddings

__all__ = ["COHORTS", "EmbeddingComparison", "EmbeddingScore", "SlideCounts", "compare_embeddings", "main"]

COHORTS: Mapping[str, tuple[str, ...]] = {
    "breast carcinoma, adjacent sections": tuple(f"st_human_breast_bcl_{i}" for i in (1, 2, 3, 4)),
    "olfactory bulb, serial sections": tuple(f"st_mouse_olfactorybulb_mob{i}" for i in (1, 2, 3)),
    "HER2+ breast carcinoma, one patient": tuple(f"st_human_breast_her2_{i}" for i in ("c2", "c4", "c6")),
    "three tumors of three studies": ("st_human_breast_bcl_1", "st_human_breast_her2_c2", "st_human_melanoma"),
}
_DRAWN_FEATURES = ("joint PCA", "SASA", "SASA + Latent Norm", "SASA + Latent Norm, aligned")
_N_PCA_GENES = 2000
_N_PREDICTED_GENES = 200  # the most variable genes
_PANEL_SIZES = (16, 32, 64, 128, 256, 512, 1000)


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideCounts:
    """Integer counts of a slide, CSR (N, G), spot centers (N, 2) and gene names."""

    counts: sparse.csr_matrix
    centers: np.ndarray
    genes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingScore:
    """Features of all slides' spots and their scores.

    Parameters
    ----------
    name
        Kind of features.
    values
        Features, shape (N, D).
    mixing
        Mean :func:`~napari_srast.evaluation.batch_mixing.ilisi`.
    within, across
        :func:`~napari_srast.evaluation.batch_mixing.neighbor_agreement` within slides and across slides.
    """

    name: str
    values: np.ndarray
    mixing: float
    within: float
    across: float


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingComparison:
    """Scores of all kinds of features on one cohort of slides.

    Parameters
    ----------
    scores
        One score for each kind of features.
    slide
        Slide of each spot, shape (N,).
    n_shared
        Number of genes that all slides have.
    agreement
        Agreement of each slide's gene loadings, see :class:`~napari_srast.models.sasa.procrustes.AlignedEmbeddings`.
    by_panel
        Score across slides by the number of shared genes from which the alignment is computed.
    """

    scores: tuple[EmbeddingScore, ...]
    slide: np.ndarray
    n_shared: int
    agreement: tuple[float, ...]
    by_panel: Mapping[int, float]


def compare_embeddings(
    slides: Sequence[SlideCounts], *, sasa: SasaConfig | None = None, seed: int = 0
) -> EmbeddingComparison:
    """Score joint PCA, and SASA before and after Latent Norm and alignment, on several slides.

    Parameters
    ----------
    slides
        At least two slides, which share genes by name.
    sasa
        Settings of SASA, which is fitted to each slide separately.
    seed
        Random seed of the split of the counts.

    Raises
    ------
    InputError
        The slides cannot be aligned; see :func:`~napari_srast.models.sasa.procrustes.align_embeddings`.
    """
    rng = np.random.default_rng(seed)
    halves = [_split_counts(slide.counts, rng) for slide in slides]
    embeddings = [
        fit_sasa(a, s.centers, detect_lattice(s.centers), config=sasa) for (a, _), s in zip(halves, slides, strict=True)
    ]
    panels = [slide.genes for slide in slides]
    fitted_counts = [a for a, _ in halves]
    aligned = align_embeddings(embeddings, fitted_counts, panels)
    before = [
        dataclasses.replace(embedding, latent=embedding.raw_latent - embedding.raw_latent.mean(axis=0))
        for embedding in embeddings
    ]
    columns = [[panel.index(gene) for gene in aligned.genes] for panel in panels]
    expression = [_log_normalize(a[:, c]) for a, c in zip(fitted_counts, columns, strict=True)]
    width = embeddings[0].latent.shape[1]
    centered = _stack([values - values.mean(axis=0) for values in expression])
    features = {
        "joint PCA": _components(_stack(expression), width),
        "joint PCA, slides centered": _components(centered, width),
        "joint PCA, slides centered, whitened": _components(centered, width, whiten=True),
        "SASA": _stack([embedding.raw_latent for embedding in embeddings]),
        "SASA, aligned": _stack(align_embeddings(before, fitted_counts, panels).latents),
        "SASA + Latent Norm": _stack([embedding.latent for embedding in embeddings]),
        "SASA + Latent Norm, aligned": _stack(aligned.latents),
        "noise": rng.standard_normal((len(centered), width)),
    }
    slide = np.repeat(np.arange(len(slides)), [a.shape[0] for a in fitted_counts])
    held_out = _stack([_center_columns(_log_normalize(b[:, c])) for (_, b), c in zip(halves, columns, strict=True)])
    held_out = held_out[:, np.argsort(-held_out.var(axis=0), kind="stable")[:_N_PREDICTED_GENES]]
    by_panel = {}
    for n_genes in (n for n in _PANEL_SIZES if width <= n < len(aligned.genes)):
        subset = np.sort(rng.choice(len(aligned.genes), n_genes, replace=False))
        aligned_latents = _align_by(embeddings, fitted_counts, columns, subset)
        by_panel[n_genes] = neighbor_agreement(aligned_latents, held_out, slide, across=True)
    return EmbeddingComparison(
        scores=tuple(_score(name, values, held_out, slide) for name, values in features.items()),
        slide=slide,
        n_shared=len(aligned.genes),
        agreement=aligned.agreement,
        by_panel=by_panel,
    )


def _score(name: str, values: np.ndarray, held_out: np.ndarray, slide: np.ndarray) -> EmbeddingScore:
    return EmbeddingScore(
        name=name,
        values=values,
        mixing=float(ilisi(values, slide).mean()),
        within=neighbor_agreement(values, held_out, slide, across=False),
        across=neighbor_agreement(values, held_out, slide, across=True),
    )


def _align_by(
    embeddings: Sequence[SlideEmbedding],
    counts: Sequence[sparse.csr_matrix],
    columns: Sequence[list[int]],
    subset: np.ndarray,
) -> np.ndarray:
    """Return latents (N, D) that are aligned by a subset of the shared genes."""
    parts = [matrix[:, np.asarray(shared)[subset]] for matrix, shared in zip(counts, columns, strict=True)]
    return _stack(align_embeddings(embeddings, parts, [[str(gene) for gene in subset]] * len(embeddings)).latents)


def _split_counts(counts: sparse.csr_matrix, rng: np.random.Generator) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split integer counts at random into two halves, both CSR (N, G)."""
    first = counts.astype(np.float32).tocsr()
    first.data = rng.binomial(np.rint(counts.data).astype(np.int64), 0.5).astype(np.float32)
    second = sparse.csr_matrix(counts - first, dtype=np.float32)
    first.eliminate_zeros()
    second.eliminate_zeros()
    return first, second


def _log_normalize(counts: sparse.csr_matrix) -> np.ndarray:
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return log_normalize(counts, totals, float(np.median(totals))).toarray()


def _components(values: np.ndarray, width: int, *, whiten: bool = False) -> np.ndarray:
    """Return principal components (N, D) of the most variable genes."""
    variable = np.argsort(-values.var(axis=0), kind="stable")[:_N_PCA_GENES]
    return np.asarray(
        PCA(width, whiten=whiten, svd_solver="randomized", random_state=0).fit_transform(values[:, variable])
    )


def _center_columns(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=0)


def _stack(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(parts))


def read_slide_counts(path: Path) -> SlideCounts:
    """Read an .h5ad file with integer counts in ``X`` and coordinates in ``obsm["spatial"]``.

    Raises
    ------
    InputError
        The file does not exist.
    """
    import anndata

    if not path.is_file():
        raise InputError(f"The slide '{path}' does not exist; give the folder that contains slides/.")
    table = anndata.read_h5ad(path)
    return SlideCounts(
        counts=sparse.csr_matrix(table.X, dtype=np.float32),
        centers=np.asarray(table.obsm["spatial"], dtype=float)[:, :2],
        genes=tuple(map(str, table.var_names)),
    )


def _write_tables(comparisons: Mapping[str, EmbeddingComparison], out: Path) -> None:
    with (out / "alignment.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["slides", "features", "iLISI", "within slides", "across slides"])
        for name, comparison in comparisons.items():
            for score in comparison.scores:
                values = (f"{score.mixing:.2f}", f"{score.within:.3f}", f"{score.across:.3f}")
                writer.writerow([name, score.name, *values])
    with (out / "alignment_genes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["slides", "shared genes", "agreement of loadings", *(f"by {n} genes" for n in _PANEL_SIZES), "by all"]
        )
        for name, comparison in comparisons.items():
            agreement = " ".join(f"{value:.2f}" for value in comparison.agreement)
            by_panel = [f"{comparison.by_panel[n]:.3f}" if n in comparison.by_panel else "" for n in _PANEL_SIZES]
            aligned = next(score for score in comparison.scores if score.name == _DRAWN_FEATURES[-1])
            writer.writerow([name, comparison.n_shared, agreement, *by_panel, f"{aligned.across:.3f}"])


def _draw(comparisons: Mapping[str, EmbeddingComparison], path: Path) -> None:
    """Draw UMAPs (McInnes et al. 2018): one row for each cohort, one color for each slide."""
    try:
        from matplotlib.figure import Figure
        from umap import UMAP
    except ImportError as error:
        raise OutputError(
            "The figure needs matplotlib and umap-learn; install them with: pip install 'napari-srast[plots,docs]'"
        ) from error
    figure = Figure(figsize=(12, 3 * len(comparisons)), layout="constrained")
    grid = figure.subplots(len(comparisons), len(_DRAWN_FEATURES), squeeze=False)
    for axes, (name, comparison) in zip(grid, comparisons.items(), strict=True):
        by_name = {score.name: score for score in comparison.scores}
        order = np.random.default_rng(0).permutation(len(comparison.slide))  # random, so no slide covers the others
        for ax, kind in zip(axes, _DRAWN_FEATURES, strict=True):
            score = by_name[kind]
            position: Any = UMAP(random_state=0, n_jobs=1).fit_transform(score.values)
            colors = [f"C{slide}" for slide in comparison.slide[order]]
            ax.scatter(*position[order].T, s=4, c=colors, linewidths=0)
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{kind}\niLISI {score.mixing:.2f}, across {score.across:.2f}", fontsize=9)
        axes[0].set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the cohorts and write ``alignment.csv``, ``alignment_genes.csv`` and ``alignment.png``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that contains slides/")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder to write to")
    options = parser.parse_args(arguments)
    comparisons = {
        name: compare_embeddings([read_slide_counts(options.data / "slides" / f"{file}.h5ad") for file in files])
        for name, files in COHORTS.items()
    }
    options.out.mkdir(parents=True, exist_ok=True)
    _write_tables(comparisons, options.out)
    _draw(comparisons, options.out / "alignment.png")


if __name__ == "__main__":
    main()
