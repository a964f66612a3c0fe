"""Comparison of embeddings: alignment makes the embeddings of slides with common programs comparable."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from napari_srast.errors import InputError
from napari_srast.evaluation import embedding_benchmark
from napari_srast.evaluation.embedding_benchmark import EmbeddingComparison, SlideCounts, compare_embeddings, main
from napari_srast.models.sasa.config import SasaConfig

QUICK = SasaConfig(latent=4, epochs=40, n_components=10)


def simulate_slides(n_slides: int = 2) -> list[SlideCounts]:
    """Simulate slides with the same gene programs, other spatial patterns and a shift of every gene in each slide."""
    rng = np.random.default_rng(0)
    loading = rng.standard_normal((4, 60))
    row, col = (a.ravel() for a in np.mgrid[:14, :14])
    slides = []
    for _ in range(n_slides):
        waves = rng.normal(0, 0.5, (4, 2))
        programs = np.sin(np.column_stack([row, col]) @ waves.T + rng.uniform(0, 6, 4))
        mean = 6 * np.exp(0.5 * programs @ loading + rng.normal(0, 0.3, 60))
        slides.append(
            SlideCounts(
                counts=sparse.csr_matrix(rng.poisson(mean), dtype=np.float32),
                centers=np.column_stack([col, row]) * 100.0,
                genes=tuple(f"g{i}" for i in range(60)),
            )
        )
    return slides


@pytest.fixture(scope="module")
def comparison() -> EmbeddingComparison:
    return compare_embeddings(simulate_slides(), sasa=QUICK)


def test_alignment_makes_slides_comparable_and_keeps_structure(comparison: EmbeddingComparison) -> None:
    score = {s.name: s for s in comparison.scores}
    before, after = score["SASA + Latent Norm"], score["SASA + Latent Norm, aligned"]
    assert after.within == pytest.approx(before.within, abs=0.02)  # a rotation changes no distance
    assert after.across > before.across + 0.1
    assert after.across > 0.3
    assert abs(score["noise"].across) < 0.1
    assert comparison.n_shared == 60
    assert sorted(comparison.by_panel) == [16, 32]
    assert len(comparison.agreement) == 2


def test_comparison_is_reproducible(comparison: EmbeddingComparison) -> None:
    again = compare_embeddings(simulate_slides(), sasa=QUICK)
    for one, other in zip(comparison.scores, again.scores, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-6)


@pytest.mark.slow
def test_command_writes_tables_and_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("umap")
    (tmp_path / "slides").mkdir()
    for i, slide in enumerate(simulate_slides()):
        table = anndata.AnnData(X=slide.counts)
        table.obsm["spatial"], table.var_names = slide.centers, list(slide.genes)
        table.write_h5ad(tmp_path / "slides" / f"slide{i}.h5ad")
    monkeypatch.setattr(embedding_benchmark, "COHORTS", {"simulated": ("slide0", "slide1")})
    main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out" / "alignment.png").stat().st_size > 10_000
    assert len((tmp_path / "out" / "alignment.csv").read_text().splitlines()) == 9
    assert len((tmp_path / "out" / "alignment_genes.csv").read_text().splitlines()) == 2


def test_missing_slide_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        main([str(tmp_path), "--out", str(tmp_path)])
