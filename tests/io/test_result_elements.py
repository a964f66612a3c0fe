from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import spatialdata
from scipy import ndimage, sparse
from spatialdata.transformations import get_transformation

from napari_srast.geometry.affine import apply_affine
from napari_srast.io.result_elements import result_names, to_spatialdata
from napari_srast.io.result_writer import write_result
from napari_srast.io.transforms import to_matrix


@pytest.mark.parametrize("lattice", ["square", "hex"])
def test_pattern_keeps_its_coordinates_in_every_system(make_slide, make_result, awkward_transforms, tmp_path, lattice):
    slide = make_slide(9, 9, n_genes=2, lattice=lattice, transforms=awkward_transforms, depth=100)
    result = make_result(slide)
    # A blob between pixel centers, far from any symmetry of the slide.
    point = slide.centers[30] + [23.4, -11.7]
    blob = np.exp(-np.sum((result.raster.centers - point) ** 2, axis=1) / (2 * 90.0**2))
    counts = sparse.csr_matrix(np.column_stack([blob, np.ones_like(blob)]), dtype=np.float32)
    result = dataclasses.replace(result, counts=counts)

    store = spatialdata.read_zarr(write_result(result, tmp_path / "out.zarr"))
    names = result_names(result)
    image = store.images[names.image]
    row, col = ndimage.center_of_mass(np.nan_to_num(image.values[0]))
    systems = get_transformation(image, get_all=True)
    shape_systems = get_transformation(store.shapes[names.shapes], get_all=True)
    assert set(systems) == set(shape_systems) == set(awkward_transforms)
    table = store.tables[names.table]
    from_table = table.X[:, [0]].toarray()[:, 0] @ table.obsm["spatial"] / table.X[:, 0].sum()
    for system, matrix in awkward_transforms.items():
        expected = apply_affine(matrix, point[None])[0]
        tolerance = 0.1 * result.raster.pixel_size * np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
        # SpatialData puts the center of pixel [0, 0] at (0.5, 0.5).
        in_image = apply_affine(to_matrix(systems[system]), np.array([[col + 0.5, row + 0.5]]))[0]
        in_shapes = apply_affine(to_matrix(shape_systems[system]), from_table[None])[0]
        np.testing.assert_allclose(in_image, expected, atol=tolerance, rtol=0)
        np.testing.assert_allclose(in_shapes, expected, atol=tolerance, rtol=0)


def test_image_and_circles_have_the_same_coordinates(make_slide, make_result, awkward_transforms):
    """The transformed pixel coordinates of the image equal the centers that spatialdata.transform returns."""
    result = make_result(make_slide(4, 5, transforms=awkward_transforms))
    store = to_spatialdata(result)
    names = result_names(result)
    image, pixels = store.images[names.image], store.shapes[names.shapes]
    x = image.coords["x"].values[result.raster.col]
    y = image.coords["y"].values[result.raster.row]
    for system in awkward_transforms:
        by_image = apply_affine(to_matrix(get_transformation(image, system)), np.column_stack([x, y]))
        moved = spatialdata.transform(pixels, to_coordinate_system=system)
        np.testing.assert_allclose(by_image, np.column_stack([moved.geometry.x, moved.geometry.y]), atol=1e-6)
