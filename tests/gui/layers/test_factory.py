from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from helpers.spot_layers import spot_colors, spot_positions
from napari.components import ViewerModel
from napari.layers import Image, Layer, Points
from scipy import sparse

from napari_srast.core.result import UpsampleResult
from napari_srast.core.slide import Slide, SlideImage
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.layers.backdrop import Backdrop
from napari_srast.gui.layers.factory import (
    KEY,
    gene_layer_kwargs,
    image_affine,
    measured_layer,
    role_of,
    slide_layer_data,
    swap_axes,
    update_transforms,
    world_units,
)

pytestmark = pytest.mark.gui
SYSTEMS = ["global", "skewed", "turned"]


def _world_of(layer: Layer, weights: np.ndarray) -> np.ndarray:
    """Return the center of mass of an image in the world, (x, y)."""
    center = np.array([np.average(grid, weights=weights) for grid in np.indices(weights.shape)])
    return np.array(layer.data_to_world(center))[::-1]


@pytest.mark.parametrize("system", SYSTEMS)
def test_histology_spots_and_genes_coincide(
    skewed_slide: Slide, make_result: Callable[..., UpsampleResult], system: str
) -> None:
    """Histology, spot and gene pixels at one position coincide to a tenth of a pixel in each coordinate system."""
    slide = dataclasses.replace(skewed_slide, coordinate_system=system)
    spot = 17
    expected = apply_affine(slide.transforms[system], slide.centers[[spot]])[0]
    counts = sparse.csr_matrix(([50.0], ([spot], [0])), shape=slide.counts.shape, dtype=np.float32)
    only = dataclasses.replace(slide, counts=counts)
    assert slide.image is not None
    to_intrinsic = np.diag([4.0, 4.0, 1.0])
    to_intrinsic[:2, 2] = slide.centers[spot] - 4.0 * np.array([31.5, 20.5])
    pixels = np.zeros((1, 40, 60), dtype=np.uint8)
    pixels[0, 20, 31] = 255  # its center is at column 31.5, row 20.5 in spatialdata's convention
    only = dataclasses.replace(
        only, image=SlideImage(name="he", levels=(pixels,), to_intrinsic=(to_intrinsic,), channels=("dapi",))
    )
    histology, spots = (Layer.create(*data) for data in slide_layer_data(only))
    np.testing.assert_allclose(_world_of(histology, np.asarray(histology.data, float)), expected, atol=0.4)
    np.testing.assert_allclose(spot_positions(spots, only)[spot], expected, atol=1e-6)

    result = make_result(only, factor=5.0)
    gene = Image(result.gene_image("Gene0"), **gene_layer_kwargs(result))
    tenth = 0.1 * result.raster.pixel_size * slide.cs_scale
    np.testing.assert_allclose(_world_of(gene, np.nan_to_num(gene.data)), expected, atol=tenth)


def test_image_affine_shifts_by_half_a_pixel() -> None:
    affine = image_affine(np.diag([2.0, 3.0, 1.0]))
    np.testing.assert_allclose(affine @ [0, 0, 1], [1.5, 1.0, 1.0])  # (y, x) of the center of pixel [0, 0]


def test_swapping_axes_twice_is_the_identity() -> None:
    matrix = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(swap_axes(swap_axes(matrix)), matrix)
    np.testing.assert_array_equal(swap_axes(matrix) @ [7, 8, 1], (matrix @ [8, 7, 1])[[1, 0, 2]])


def test_color_images_are_one_layer_and_channels_one_each(skewed_slide: Slide) -> None:
    import dask.array as da

    assert skewed_slide.image is not None
    lazy = dataclasses.replace(skewed_slide.image, levels=tuple(da.from_array(lv) for lv in skewed_slide.image.levels))
    data, kwargs, kind = slide_layer_data(dataclasses.replace(skewed_slide, image=lazy))[0]
    assert kind == "image"
    assert kwargs["rgb"]
    assert kwargs["multiscale"]
    assert [level.shape for level in data] == [(80, 100, 3), (40, 50, 3)]
    assert all(isinstance(level, da.Array) for level in data)

    stains = dataclasses.replace(lazy, channels=("DAPI", "PanCK", "CD45"))
    layers = slide_layer_data(dataclasses.replace(skewed_slide, image=stains))
    assert [meta["name"] for _, meta, _ in layers if meta["metadata"][KEY]["role"] == "histology"] == [
        "Synthetic slide DAPI",
        "Synthetic slide PanCK",
        "Synthetic slide CD45",
    ]


def test_spots_are_drawn_at_their_diameter(make_slide: Callable[..., Slide]) -> None:
    hexagonal = Layer.create(*slide_layer_data(make_slide(lattice="hex", pitch=100.0))[-1])
    assert isinstance(hexagonal, Points)
    np.testing.assert_allclose(hexagonal.size, 55.0)
    unknown = Layer.create(*slide_layer_data(make_slide(spot_diameter=None))[-1])
    assert isinstance(unknown, Points)
    assert 20 < float(np.unique(unknown.size)[0]) < 80


@pytest.mark.parametrize("make", [lambda slide: Layer.create(*slide_layer_data(slide)[-1]), measured_layer])
def test_spot_size_is_independent_of_the_coordinate_system(
    make: Callable[[Slide], Points], make_slide: Callable[..., Slide]
) -> None:
    pixels = np.array([[0.0, -0.25, 30.0], [0.25, 0.0, -7.0], [0.0, 0.0, 1.0]])
    slide = make_slide(lattice="hex", pitch=100.0, transforms={"global": np.eye(3), "px": pixels})
    layer = make(slide)
    for name, drawn in (("px", 55.0 / 4), ("global", 55.0)):
        moved = dataclasses.replace(slide, coordinate_system=name)
        for placed in (layer, make(moved)):
            update_transforms([placed], moved)
            # napari multiplies the size of points by the last scale and ignores the affine
            np.testing.assert_allclose(placed.size * placed.scale[-1], drawn)
            world = np.array([placed.data_to_world(point) for point in placed.data])
            np.testing.assert_allclose(world[:, ::-1], apply_affine(moved.to_cs, slide.centers), atol=1e-9)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("make", [lambda slide: Layer.create(*slide_layer_data(slide)[-1]), measured_layer])
def test_bins_are_an_image_with_one_pixel_for_each(
    make: Callable[[Slide], Layer], skewed_slide: Slide, system: str
) -> None:
    layer = make(skewed_slide)
    moved = dataclasses.replace(skewed_slide, coordinate_system=system)
    update_transforms([layer], moved)
    assert isinstance(layer, Image)
    assert layer.data.shape[:2] == (6, 7)
    np.testing.assert_allclose(spot_positions(layer, moved), apply_affine(moved.to_cs, moved.centers), atol=1e-6)


def test_spots_without_histology_are_more_opaque(make_slide: Callable[..., Slide], skewed_slide: Slide) -> None:
    alone, above = (Layer.create(*slide_layer_data(slide)[-1]) for slide in (make_slide(), skewed_slide))
    opacities = [spot_colors(layer, slide)[0, 3] for layer, slide in ((alone, make_slide()), (above, skewed_slide))]
    assert opacities[0] > 2 * opacities[1]


def test_layers_follow_the_coordinate_system(skewed_slide: Slide, make_result: Callable[..., UpsampleResult]) -> None:
    viewer = ViewerModel()
    for data in slide_layer_data(skewed_slide):
        viewer.add_layer(Layer.create(*data))
    result = make_result(skewed_slide)
    viewer.add_layer(Backdrop.of_slide(skewed_slide, result, 0.5).layer)
    other = viewer.add_image(np.zeros((4, 4)), name="other layer")
    turned = dataclasses.replace(skewed_slide, coordinate_system="turned")
    update_transforms(list(viewer.layers), turned)
    fresh = {meta["name"]: meta["affine"] for _, meta, _ in slide_layer_data(turned)}
    for name, affine in fresh.items():
        np.testing.assert_allclose(viewer.layers[name].affine.affine_matrix, affine)
        assert viewer.layers[name].metadata[KEY]["slide"] is turned
    np.testing.assert_array_equal(other.affine.affine_matrix, np.eye(3))
    assert role_of(other) is None


def test_lengths_in_micrometers_have_units(make_slide: Callable[..., Slide]) -> None:
    slide = dataclasses.replace(make_slide(), unit="um")
    assert world_units(slide) == ("micrometer", "micrometer")
    (spots,) = (Layer.create(*data) for data in slide_layer_data(slide))
    assert [str(unit) for unit in spots.units] == ["micrometer", "micrometer"]
    scaled = dataclasses.replace(slide, transforms={"global": np.diag([2.0, 2.0, 1.0])})
    assert world_units(scaled) == ("pixel", "pixel")  # one unit of the world is half a micrometer
    update_transforms([spots], scaled)
    assert [str(unit) for unit in spots.units] == ["pixel", "pixel"]
