from __future__ import annotations

from collections.abc import Callable

import anndata
import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from napari_srast.calibration.fitting import gain_per_gene
from napari_srast.core.slide import SlideImage
from napari_srast.errors import InputError
from napari_srast.geometry.coarsening import coarsen_slide
from napari_srast.geometry.spot_pixel_map import SpotPixelMap
from napari_srast.histology import ImageExpert, fit_image_expert
from napari_srast.io.convert.images import read_picture
from napari_srast.io.transforms import fit_affine


def _even(layout: SpotPixelMap, n_fields: int) -> np.ndarray:
    return np.repeat(-np.log(layout.n_pixels_of_spot[layout.parent])[:, None], n_fields, axis=1)


def _gain(tissue, image: SlideImage) -> tuple[float, np.ndarray]:
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, image)
    local = expert.on(tissue.layout)
    even = _even(tissue.layout, 6)
    told = local.added_to(even, expert.slopes(tissue.counts), tissue.layout)
    return expert.fit.evidence, gain_per_gene(np.maximum(told, -30), tissue.truth, tissue.layout)


@pytest.mark.parametrize(
    ("kind", "taken_for"),
    [
        ("color", "color"),
        ("color16", "color"),
        ("alpha", "color"),
        ("gray", "gray"),
        ("fluorescence", "fluorescence"),
    ],
)
def test_every_kind_of_image_tells_where_counts_lie(tissue, kind: str, taken_for: str) -> None:
    image = tissue.image(kind)
    assert fit_image_expert(tissue.counts, tissue.centers, 100.0, image).features.kind == taken_for
    evidence, gain = _gain(tissue, image)
    assert evidence > 20
    assert (gain[:3] > 0.02).all()  # the genes of the stained cells


def test_a_gene_that_does_not_follow_the_image_is_left_alone(tissue) -> None:
    _, gain = _gain(tissue, tissue.image())
    assert (gain[3:] > -0.01).all()


@pytest.mark.parametrize("wrong", ["turned", "mirrored", "other", "noise"])
def test_a_wrong_image_earns_nothing(tissue, tissue_maker: Callable, wrong: str) -> None:
    density = {
        "turned": tissue.density[::-1, ::-1],
        "mirrored": tissue.density[:, ::-1],
        "other": tissue_maker(seed=5).density,
        "noise": np.random.default_rng(2).uniform(0, 2, tissue.density.shape),
    }[wrong]
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(density=density))
    assert not expert.informative


def test_the_spots_order_shift_and_the_image_s_laziness_change_nothing(tissue) -> None:
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
    np.testing.assert_allclose(moved.on(tissue.layout).contrasts, plain.on(tissue.layout).contrasts, atol=1e-3)


def test_the_mass_of_every_spot_is_conserved(tissue) -> None:
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image())
    layout = tissue.layout
    ratios = np.exp(expert.on(layout).added_to(_even(layout, 6), expert.slopes(tissue.counts), layout))
    np.testing.assert_allclose(layout.membership @ ratios, 1.0, rtol=1e-9)
    assert (ratios >= 0).all()


def test_part_of_the_pixels_says_the_same_as_all(tissue) -> None:
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image())
    layout = tissue.layout
    some = np.arange(40, 90)
    part = SpotPixelMap(spots=layout.spots, pixels=layout.pixels[some], parent=layout.parent[some], pitch=layout.pitch)
    np.testing.assert_allclose(expert.on(part).contrasts, expert.on(layout).at(some).contrasts, atol=1e-5)


def test_what_the_image_expects_to_bring_is_what_it_brings(tissue) -> None:
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image())
    slopes = expert.slopes(tissue.counts)
    expected = expert.on(tissue.layout).expected_nats(slopes, expert.totals, tissue.layout)
    _, gain = _gain(tissue, tissue.image())
    assert expected == pytest.approx(gain, rel=0.5)
    assert expected[:3].min() > 2 * expected[3:].max()


def test_an_image_elsewhere_is_refused_in_one_sentence(tissue) -> None:
    away = np.eye(3)
    away[:2, 2] = 1e6
    with pytest.raises(InputError, match=r"'he' does not lie under the spots; .*--image none"):
        fit_image_expert(tissue.counts, tissue.centers, 100.0, tissue.image(to_intrinsic=away))


def test_a_blank_image_and_a_tiny_slide_say_nothing(tissue) -> None:
    blank = tissue.image(density=np.zeros_like(tissue.density))
    expert = fit_image_expert(tissue.counts, tissue.centers, 100.0, blank)
    assert not expert.informative
    assert np.abs(expert.on(tissue.layout).contrasts).max() == 0
    few = slice(0, 3)
    tiny = fit_image_expert(sparse.csr_matrix(tissue.counts[few]), tissue.centers[few], 100.0, tissue.image())
    assert not tiny.informative


@pytest.mark.slides
@pytest.mark.parametrize("name", ["st_human_breast_her2_c4", "st_mouse_olfactorybulb_mob2"])
def test_real_histology_tells_where_counts_lie_and_a_turned_one_does_not(slide_path: Callable, name: str) -> None:
    table = anndata.read_h5ad(slide_path(name))
    spots = np.asarray(table.obsm["spatial"], dtype=float)
    placed, _ = fit_affine(np.asarray(table.obsm["spatial_px"], dtype=float), spots)
    turn = np.diag([-1.0, -1.0, 1.0])
    turn[:2, 2] = 2 * spots.mean(axis=0)
    counts = sparse.csr_matrix(table.X, dtype=np.float32)
    coarse = coarsen_slide(spots, counts)
    layout, origin = coarse.layout, spots[coarse.used[0]] - coarse.layout.pixels[0]
    deep = np.argsort(-np.asarray(coarse.truth.sum(axis=0)).ravel())[:200]
    pixels = read_picture(slide_path(name, "_he.jpg"))

    def expert(affine: np.ndarray) -> ImageExpert:
        image = SlideImage(name="he", levels=(pixels,), to_intrinsic=(affine,))
        return fit_image_expert(coarse.counts, layout.spots + origin, layout.pitch, image)

    found = expert(placed)
    even = _even(layout, 200)
    told = found.on(layout).added_to(even, found.slopes(coarse.counts[:, deep]), layout)
    truth = coarse.truth[:, deep].toarray()
    gain = (truth * (told - even)).sum() / truth.sum()
    assert found.informative
    assert gain > 0.007  # more than any interpolation gains here
    assert not expert(turn @ placed).informative
