"""napari-spatialdata opens written results, and shows them at the correct coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import spatialdata

from napari_srast.geometry.affine import apply_affine
from napari_srast.io import image_levels
from napari_srast.io.result_elements import result_names
from napari_srast.io.result_writer import write_result

pytestmark = pytest.mark.gui


@pytest.mark.contract(
    section="Other programs",
    case="results in napari-spatialdata",
    response="shown at their coordinates",
)
@pytest.mark.parametrize("has_levels", [False, True])
def test_results_open_at_their_coordinates(
    make_napari_viewer, qtbot, make_slide, make_result, awkward_transforms, tmp_path, monkeypatch, has_levels
):
    if has_levels:
        monkeypatch.setattr(image_levels, "MAX_FLAT_SIDE", 12)
        monkeypatch.setattr(image_levels, "_MIN_LEVEL_SIDE", 6)
    interactive = pytest.importorskip("napari_spatialdata", reason="napari-spatialdata is not installed").Interactive
    viewer = make_napari_viewer()
    result = make_result(make_slide(5, 6, n_genes=4, transforms=awkward_transforms))
    store = spatialdata.read_zarr(write_result(result, tmp_path / "out.zarr"))
    names = result_names(result)
    window = interactive(store, headless=True)
    for n_shown, name in enumerate((names.image, names.shapes), start=1):
        window.add_element(name, element_coordinate_system="sheared")
        qtbot.waitUntil(lambda n=n_shown: len(viewer.layers) == n, timeout=60_000)  # it loads in a thread
    layers = {layer.metadata.get("name"): layer for layer in viewer.layers}
    assert set(layers) == {names.image, names.shapes}
    image = layers[names.image]
    assert image.multiscale == has_levels
    finest = image.data[0] if has_levels else image.data
    assert finest.shape[-2:] == result.raster.shape
    # World coordinates of napari are (y, x); a pixel of the image must be at the center of its circle.
    k = result.n_pixels // 2
    index = [0] * (image.ndim - 2) + [int(result.raster.row[k]), int(result.raster.col[k])]
    world = np.array(image.data_to_world(index))[-2:]
    expected = apply_affine(awkward_transforms["sheared"], result.raster.centers[[k]])[0, ::-1]
    np.testing.assert_allclose(world, expected, atol=0.1 * result.raster.pixel_size)
