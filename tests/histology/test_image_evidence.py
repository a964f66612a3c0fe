"""Test whether images are used, and what they gain, on a synthetic tissue and on real slides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anndata
import dask.array as da
import numpy as np
import pytest
from helpers.scores import gain_per_gene
from scipy import sparse

from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.geometry.coarsening import coarsen_slide
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import ImageExpert, ImagePredictor, fit_image_expert, fit_image_predictor
from napari_srast.io.convert.images import read_image_file
from napari_srast.io.transforms import fit_affine


def _uniform(layout: SpotPixelMap, n_fields: int) -> np.ndarray:
    return np.repeat(-np.log(layout.n_pixels_per_spot[layout.parent])[:, None], n_fields, axis=1)


def _predictor(tissue, expert: ImageExpert) -> ImagePredictor:
    return fit_image_predictor(expert, tissue.counts, np.zeros(2), expert.pitch**2)


def _gain(tissue, image: SlideImage) -> tuple[float, np.ndarray]:
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, image)
    predictor = _predictor(tissue, expert)
    uniform = _uniform(tissue.layout, 6)
    evidence = predictor.predict(tissue.layout)
    pooled = evidence.pool_with(uniform, predictor.field_loadings(tissue.counts), tissue.layout)
    return expert.fit.evidence, gain_per_gene(np.maximum(pooled, -30), tissue.truth, tissue.layout)


@pytest.mark.parametrize(
    ("kind", "expected_kind"),
    [
        ("color", "color"),
        ("color16", "color"),
        ("alpha", "color"),
        ("gray", "gray"),
        ("fluorescence", "fluorescence"),
    ],
)
def test_every_kind_of_image_predicts_counts(tissue, kind: str, expected_kind: str) -> None:
    image = tissue.image(kind)
    assert fit_image_expert(tissue.counts, tissue.centers, 100.0, image).features.kind == expected_kind
    evidence, gain = _gain(tissue, image)
    assert evidence > 20
    assert (gain[:3] > 0.02).all()  # the genes of the stained cells


def test_unrelated_genes_lose_nothing(tissue) -> None:
    _, gain = _gain(tissue, tissue.image())
    assert (gain[3:] > -0.01).all()


@pytest.mark.parametrize("wrong", ["rotated", "mirrored", "other", "noise"])
def test_wrong_image_is_not_informative(tissue, tissue_maker: Callable, wrong: str) -> None:
    density = {
        "rotated": tissue.density[::-1, ::-1],
        "mirrored": tissue.density[:, ::-1],
        "other": tissue_maker(seed=5).density,
        "noise": np.random.default_rng(2).uniform(0, 2, tissue.density.shape),
    }[wrong]
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(density=density))
    assert not expert.informative


def test_translation_and_lazy_image_change_nothing(tissue) -> None:
    plain = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image())
    move = np.eye(3)
    move[:2, 2] = 5e4, -3e4
    image = tissue.image(to_intrinsic=move)
    lazy = SlideImage(
        name="he",
        levels=(da.from_array(image.levels[0], chunks=(3, 100, 100)),),
        to_intrinsic=image.to_intrinsic,
    )
    moved = fit_image_expert(tissue.counts, tissue.centers + move[:2, 2], 100.0, lazy)
    assert moved.fit.evidence == pytest.approx(plain.fit.evidence, abs=1e-2)
    expected, evidence = (_predictor(tissue, expert).predict(tissue.layout) for expert in (plain, moved))
    np.testing.assert_allclose(evidence.log_totals, expected.log_totals, atol=5e-3)
    np.testing.assert_array_equal(evidence.background, expected.background)
    np.testing.assert_allclose(evidence.programs, expected.programs, atol=5e-3)


def test_expected_nats_match_the_gain(tissue) -> None:
    """The expectation does not include the gain from bare glass, which is left out here too."""
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image())
    predictor = _predictor(tissue, expert)
    loadings, evidence = predictor.field_loadings(tissue.counts), predictor.predict(tissue.layout)
    expected = evidence.expected_nats(loadings, expert.totals, tissue.layout)
    evidence = replace(evidence, background=np.zeros_like(evidence.background))
    pooled = evidence.pool_with(_uniform(tissue.layout, 6), loadings, tissue.layout)
    gain = gain_per_gene(pooled, tissue.truth, tissue.layout)
    assert expected == pytest.approx(gain, abs=0.03)
    assert expected[:3].min() > 2 * expected[3:].max()


def test_image_off_the_spots_is_rejected(tissue) -> None:
    away = np.eye(3)
    away[:2, 2] = 1e6
    with pytest.raises(InputError, match=r"'he' does not cover the spots; .*--image none"):
        fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(to_intrinsic=away))


def test_blank_image_and_tiny_slide_are_uninformative(tissue) -> None:
    blank = tissue.image(density=np.zeros_like(tissue.density))
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, blank)
    assert not expert.informative
    assert np.abs(expert.fit.coefficients).max() == 0
    assert np.ptp(_predictor(tissue, expert).predict(tissue.layout).log_totals) == 0
    few = slice(0, 3)
    tiny = fit_image_expert(sparse.csr_matrix(tissue.counts[few]), tissue.centers[few], 100.0, tissue.image())
    assert not tiny.informative


@pytest.mark.slides
@pytest.mark.parametrize("name", ["st_human_breast_her2_c4", "st_mouse_olfactorybulb_mob2"])
def test_real_histology_is_informative_unless_rotated(slide_path: Callable, name: str) -> None:
    table = anndata.read_h5ad(slide_path(name))
    spots = np.asarray(table.obsm["spatial"], dtype=float)
    aligned, _ = fit_affine(np.asarray(table.obsm["spatial_px"], dtype=float), spots)
    rotation = np.diag([-1.0, -1.0, 1.0])
    rotation[:2, 2] = 2 * spots.mean(axis=0)
    counts = sparse.csr_matrix(table.X, dtype=np.float32)
    coarse = coarsen_slide(spots, counts)
    layout, origin = coarse.layout, spots[coarse.used[0]] - coarse.layout.pixels[0]
    high_count = np.argsort(-np.asarray(coarse.truth.sum(axis=0)).ravel())[:200]
    pixels = read_image_file(slide_path(name, "_he.jpg"))

    def expert(affine: np.ndarray) -> ImageExpert:
        image = SlideImage(name="he", levels=(pixels,), to_intrinsic=(affine,))
        return fit_image_expert(coarse.counts, layout.spots + origin, layout.pitch, image)

    fitted = expert(aligned)
    uniform = _uniform(layout, 200)
    predictor = fit_image_predictor(fitted, coarse.counts, np.zeros(2), layout.pitch**2)
    loadings = predictor.field_loadings(coarse.counts[:, high_count])
    pooled = predictor.predict(layout).pool_with(uniform, loadings, layout)
    truth = coarse.truth[:, high_count].toarray()
    gain = (truth * (pooled - uniform)).sum() / truth.sum()
    assert fitted.informative
    assert gain > 0.007  # more than any interpolation gains on these slides
    assert not expert(rotation @ aligned).informative
