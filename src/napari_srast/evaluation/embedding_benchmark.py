"""Do slides share one pool of general features? Scores and a picture of it, after Fig. 2 of the paper.

Run it as ``python -m napari_srast.evaluation.embedding_benchmark DATA --out docs/results``; DATA holds ``slides/``.

Every slide's counts are parted into two halves at random (binomial thinning): features come of one, and what they
foretell is the other. Shape legend: N spots of all slides, D features, G shared genes.
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

__all__ = ["COHORTS", "Comparison", "FeatureScore", "SlideCounts", "compare_features", "main"]

COHORTS: Mapping[str, tuple[str, ...]] = {
    "breast carcinoma, adjacent sections": tuple(f"st_human_breast_bcl_{i}" for i in (1, 2, 3, 4)),
    "olfactory bulb, serial sections": tuple(f"st_mouse_olfactorybulb_mob{i}" for i in (1, 2, 3)),
    "HER2+ breast carcinoma, one patient": tuple(f"st_human_breast_her2_{i}" for i in ("c2", "c4", "c6")),
    "three tumors of three studies": ("st_human_breast_bcl_1", "st_human_breast_her2_c2", "st_human_melanoma"),
}
_DRAWN = ("joint PCA", "SASA", "SASA + Latent Norm", "SASA + Latent Norm, aligned")
_VARIABLE = 2000  # genes of the joint PCA
_FORETOLD = 200  # genes that are foretold: the most variable ones
_PANELS = (16, 32, 64, 128, 256, 512, 1000)


@dataclass(frozen=True, kw_only=True, eq=False)
class SlideCounts:
    """A slide's whole counts, CSR (N, G), spot centers (N, 2) and gene names."""

    counts: sparse.csr_matrix
    centers: np.ndarray
    genes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureScore:
    """Features of all slides' spots, and what they are worth.

    Parameters
    ----------
    name
        Which features.
    values
        Shape (N, D).
    mixing
        Mean :func:`~napari_srast.evaluation.batch_mixing.ilisi`.
    within, across
        :func:`~napari_srast.evaluation.batch_mixing.neighbor_agreement` on the same slide and on the other slides.
    """

    name: str
    values: np.ndarray
    mixing: float
    within: float
    across: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Scores of all kinds of features on one group of slides.

    Parameters
    ----------
    scores
        One for each kind.
    slide
        Slide of each spot, (N,).
    n_shared
        Genes that the slides share.
    agreement
        For each slide; see :class:`~napari_srast.models.sasa.procrustes.AlignedEmbeddings`.
    by_panel
        Agreement across slides (last of the scores) when only so many shared genes align the latents.
    """

    scores: tuple[FeatureScore, ...]
    slide: np.ndarray
    n_shared: int
    agreement: tuple[float, ...]
    by_panel: Mapping[int, float]


def compare_features(slides: Sequence[SlideCounts], *, sasa: SasaConfig | None = None, seed: int = 0) -> Comparison:
    """Score features of several slides: joint PCA, and SASA before and after Latent Norm and alignment.

    Parameters
    ----------
    slides
        At least two, which share genes by name.
    sasa
        How SASA is fitted, on each slide by itself.
    seed
        Parts the counts.

    Raises
    ------
    InputError
        The slides cannot be aligned; see :func:`~napari_srast.models.sasa.procrustes.align_embeddings`.
    """
    rng = np.random.default_rng(seed)
    halves = [_halves(slide.counts, rng) for slide in slides]
    pools = [
        fit_sasa(a, s.centers, detect_lattice(s.centers), config=sasa) for (a, _), s in zip(halves, slides, strict=True)
    ]
    panels = [slide.genes for slide in slides]
    seen = [a for a, _ in halves]
    aligned = align_embeddings(pools, seen, panels)
    before = [dataclasses.replace(pool, latent=pool.raw_latent - pool.raw_latent.mean(axis=0)) for pool in pools]
    columns = [[panel.index(gene) for gene in aligned.genes] for panel in panels]
    expression = [_logged(a[:, c]) for a, c in zip(seen, columns, strict=True)]
    width = pools[0].latent.shape[1]
    centerd = _stack([values - values.mean(axis=0) for values in expression])
    features = {
        "joint PCA": _components(_stack(expression), width),
        "joint PCA, slides centerd": _components(centerd, width),
        "joint PCA, slides centerd, whitened": _components(centerd, width, whiten=True),
        "SASA": _stack([pool.raw_latent for pool in pools]),
        "SASA, aligned": _stack(align_embeddings(before, seen, panels).latents),
        "SASA + Latent Norm": _stack([pool.latent for pool in pools]),
        "SASA + Latent Norm, aligned": _stack(aligned.latents),
        "noise": rng.standard_normal((len(centerd), width)),
    }
    slide = np.repeat(np.arange(len(slides)), [a.shape[0] for a in seen])
    unseen = _stack([_centerd(_logged(b[:, c])) for (_, b), c in zip(halves, columns, strict=True)])
    unseen = unseen[:, np.argsort(-unseen.var(axis=0), kind="stable")[:_FORETOLD]]
    by_panel = {}
    for n_genes in (n for n in _PANELS if width <= n < len(aligned.genes)):
        some = np.sort(rng.choice(len(aligned.genes), n_genes, replace=False))
        few = _align_by(pools, seen, columns, some)
        by_panel[n_genes] = neighbor_agreement(few, unseen, slide, across=True)
    return Comparison(
        scores=tuple(_score(name, values, unseen, slide) for name, values in features.items()),
        slide=slide,
        n_shared=len(aligned.genes),
        agreement=aligned.agreement,
        by_panel=by_panel,
    )


def _score(name: str, values: np.ndarray, unseen: np.ndarray, slide: np.ndarray) -> FeatureScore:
    return FeatureScore(
        name=name,
        values=values,
        mixing=float(ilisi(values, slide).mean()),
        within=neighbor_agreement(values, unseen, slide, across=False),
        across=neighbor_agreement(values, unseen, slide, across=True),
    )


def _align_by(
    pools: Sequence[SlideEmbedding], counts: Sequence[sparse.csr_matrix], columns: Sequence[list[int]], some: np.ndarray
) -> np.ndarray:
    """Return latents (N, D) aligned by some of the shared genes only."""
    parts = [matrix[:, np.asarray(shared)[some]] for matrix, shared in zip(counts, columns, strict=True)]
    return _stack(align_embeddings(pools, parts, [[str(gene) for gene in some]] * len(pools)).latents)


def _halves(counts: sparse.csr_matrix, rng: np.random.Generator) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Part whole counts at random into two, both CSR (N, G)."""
    first = counts.astype(np.float32).tocsr()
    first.data = rng.binomial(np.rint(counts.data).astype(np.int64), 0.5).astype(np.float32)
    second = sparse.csr_matrix(counts - first, dtype=np.float32)
    first.eliminate_zeros()
    second.eliminate_zeros()
    return first, second


def _logged(counts: sparse.csr_matrix) -> np.ndarray:
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    return log_normalize(counts, totals, float(np.median(totals))).toarray()


def _components(values: np.ndarray, width: int, *, whiten: bool = False) -> np.ndarray:
    """Return principal components (N, D) of the most variable genes."""
    variable = np.argsort(-values.var(axis=0), kind="stable")[:_VARIABLE]
    return np.asarray(
        PCA(width, whiten=whiten, svd_solver="randomized", random_state=0).fit_transform(values[:, variable])
    )


def _centerd(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=0)


def _stack(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(parts))


def read_slide_counts(path: Path) -> SlideCounts:
    """Read an .h5ad with whole counts in X and obsm["spatial"].

    Raises
    ------
    InputError
        There is no such file.
    """
    import anndata

    if not path.is_file():
        raise InputError(f"The slide '{path}' does not exist; name the folder that holds slides/.")
    table = anndata.read_h5ad(path)
    return SlideCounts(
        counts=sparse.csr_matrix(table.X, dtype=np.float32),
        centers=np.asarray(table.obsm["spatial"], dtype=float)[:, :2],
        genes=tuple(map(str, table.var_names)),
    )


def _write_tables(comparisons: Mapping[str, Comparison], out: Path) -> None:
    with (out / "alignment.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["slides", "features", "iLISI", "within slides", "across slides"])
        for name, comparison in comparisons.items():
            for score in comparison.scores:
                figures = (f"{score.mixing:.2f}", f"{score.within:.3f}", f"{score.across:.3f}")
                rows.writerow([name, score.name, *figures])
    with (out / "alignment_genes.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(
            ["slides", "shared genes", "agreement of loadings", *(f"by {n} genes" for n in _PANELS), "by all"]
        )
        for name, comparison in comparisons.items():
            agreement = " ".join(f"{value:.2f}" for value in comparison.agreement)
            few = [f"{comparison.by_panel[n]:.3f}" if n in comparison.by_panel else "" for n in _PANELS]
            everything = next(score for score in comparison.scores if score.name == _DRAWN[-1])
            rows.writerow([name, comparison.n_shared, agreement, *few, f"{everything.across:.3f}"])


def _draw(comparisons: Mapping[str, Comparison], path: Path) -> None:
    """Draw UMAPs (McInnes et al. 2018): one row for each group of slides, one color for each slide."""
    try:
        from matplotlib.figure import Figure
        from umap import UMAP
    except ImportError as error:
        raise OutputError(
            "The picture needs matplotlib and umap-learn; pip install 'napari-srast[plots,docs]'."
        ) from error
    figure = Figure(figsize=(12, 3 * len(comparisons)), layout="constrained")
    grid = figure.subplots(len(comparisons), len(_DRAWN), squeeze=False)
    for axes, (name, comparison) in zip(grid, comparisons.items(), strict=True):
        by_name = {score.name: score for score in comparison.scores}
        order = np.random.default_rng(0).permutation(len(comparison.slide))  # no slide is drawn over the others
        for ax, kind in zip(axes, _DRAWN, strict=True):
            score = by_name[kind]
            embedding: Any = UMAP(random_state=0, n_jobs=1).fit_transform(score.values)
            colors = [f"C{slide}" for slide in comparison.slide[order]]
            ax.scatter(*embedding[order].T, s=4, c=colors, linewidths=0)
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{kind}\niLISI {score.mixing:.2f}, across {score.across:.2f}", fontsize=9)
        axes[0].set_ylabel(name, fontsize=8)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the cohorts and write ``alignment.csv``, ``alignment_genes.csv`` and ``alignment.png``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("data", type=Path, help="folder that holds slides/")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder to write to")
    options = parser.parse_args(arguments)
    comparisons = {
        name: compare_features([read_slide_counts(options.data / "slides" / f"{file}.h5ad") for file in files])
        for name, files in COHORTS.items()
    }
    options.out.mkdir(parents=True, exist_ok=True)
    _write_tables(comparisons, options.out)
    _draw(comparisons, options.out / "alignment.png")


if __name__ == "__main__":
    main()
