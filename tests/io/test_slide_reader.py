from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.slides import image_element
from spatialdata.models import Image3DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, Identity, Scale, Sequence, Translation, set_transformation

from napari_srast._utils import matrix_on_disk
from napari_srast.api import upsample
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.element_selection import slide_choices
from napari_srast.io.slide_reader import read_slide
from napari_srast.io.store import write_store


@pytest.mark.parametrize("lattice", ["square", "hex"])
@pytest.mark.parametrize("kind", ["circles", "squares"])
def test_shapes_become_spots(make_slide, make_store, kind, lattice):
    made = make_slide(5, 6, lattice=lattice)
    slide = read_slide(make_store(made, kind))
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.toarray())
    np.testing.assert_allclose(slide.centers, made.centers)
    assert slide.spot_diameter == pytest.approx(made.spot_diameter)
    assert slide.spot_shape == ("circle" if kind == "circles" else "square")
    assert list(slide.spot_ids) == list(made.spot_ids)
    assert list(slide.genes) == list(made.genes)
    assert detect_lattice(slide.centers).kind == lattice
    assert slide.notices == ()


def test_large_slide_on_disk_gives_the_same_result(make_slide, make_store, monkeypatch):
    store = make_store(make_slide(5, 6))
    in_memory = upsample(read_slide(store), factor=2, method="bilinear")
    monkeypatch.setattr(matrix_on_disk, "_MAX_BYTES_IN_MEMORY", 0)
    slide = read_slide(store)
    for _ in range(2):  # the first run releases the pages of the counts
        result = upsample(slide, factor=2, method="bilinear")
        np.testing.assert_array_equal(result.counts.toarray(), in_memory.counts.toarray())


def test_labels_become_spots(make_slide, make_store):
    made = make_slide(4, 5, pitch=10, spot_diameter=10.0)
    made.centers[:] += 5
    slide = read_slide(make_store(made, "labels"))
    np.testing.assert_allclose(slide.centers, made.centers)  # a label's center, with pixel [0, 0] centered at 0.5
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.toarray())
    assert slide.unit == "px"
    assert (slide.spot_shape, slide.spot_area) == ("square", pytest.approx(100))  # the labels touch each other


def test_rotated_squares_are_recognized(make_slide, make_store):
    store = make_store(make_slide(3, 3), "squares")
    store.shapes["spots"]["geometry"] = store.shapes["spots"].rotate(30)
    slide = read_slide(store)
    assert slide.spot_shape == "square"
    assert slide.spot_diameter == pytest.approx(100)


def test_chained_transformations_are_resolved(make_slide, make_store, tmp_path):
    made = make_slide(3, 4)
    store = make_store(made)
    turn = Affine(np.array([[0.0, -1.0, 3.0], [1.0, 0.0, 4.0], [0, 0, 1]]), ("x", "y"), ("x", "y"))
    chain = Sequence([Scale([2.0, 3.0], axes=("x", "y")), turn, Translation([10.0], axes=("y",))])
    set_transformation(store.shapes["spots"], chain, "chain")
    write_store(store, tmp_path / "slide.zarr")
    slide = read_slide(tmp_path / "slide.zarr", coordinate_system="chain")
    assert set(slide.transforms) == {"global", "chain"}
    point = apply_affine(slide.to_cs, np.array([[1.0, 1.0]]))[0]
    np.testing.assert_allclose(point, [-3 + 3, 2 + 4 + 10])
    assert slide.cs_scale == pytest.approx(np.sqrt(6))
    assert slide.cs_unit == "unknown"


def test_rows_are_matched_by_id_not_by_order(make_slide, make_store):
    made = make_slide(4, 4)
    store = make_store(made)
    order = np.random.default_rng(1).permutation(16)
    store.shapes["spots"] = store.shapes["spots"].iloc[order]
    np.testing.assert_allclose(read_slide(store).centers, made.centers)


def test_unmatched_spots_and_rows_are_dropped_with_notices(make_slide, make_store):
    made = make_slide(4, 4)
    store = make_store(made)
    store.shapes["spots"] = store.shapes["spots"].iloc[2:]
    table = store.tables["table"][:-3].copy()
    del store.tables["table"]
    store.tables["table"] = table
    slide = read_slide(store)
    np.testing.assert_allclose(slide.centers, made.centers[2:-3])
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.toarray()[2:-3])
    assert any("2 rows" in n for n in slide.notices)
    assert any("3 spots" in n for n in slide.notices)


def test_text_ids_match_numeric_ids(make_slide, make_store):
    made = make_slide(3, 3)
    store = make_store(made)
    store.tables["table"].obs["instance_id"] = store.tables["table"].obs["instance_id"].astype(str)
    np.testing.assert_allclose(read_slide(store).centers, made.centers)


def test_unmatched_ids_are_refused(make_slide, make_store):
    store = make_store(make_slide(3, 3))
    store.tables["table"].obs["instance_id"] = np.arange(9) + 5000
    with pytest.raises(InputError, match="do not match"):
        read_slide(store)


def test_repeated_ids_are_refused(make_slide, make_store):
    store = make_store(make_slide(3, 3))
    store.tables["table"].obs["instance_id"] = np.full(9, 10)
    with pytest.raises(InputError, match="more than once"):
        read_slide(store)


def test_unlinked_table_is_matched_by_names(make_slide, make_store):
    made = make_slide(3, 3)
    store = make_store(made)
    store.shapes["spots"].index = pd.Index(made.spot_ids)
    table = store.tables["table"].copy()
    del store.tables["table"]
    table.obs = table.obs.drop(columns=["region", "instance_id"])
    table.uns.pop("spatialdata_attrs")
    store.tables["table"] = TableModel.parse(table)
    np.testing.assert_allclose(read_slide(store).centers, made.centers)


def test_several_kinds_of_spots_require_a_choice(make_slide, make_store):
    fine, coarse = make_slide(4, 4, pitch=50), make_slide(2, 2)
    store = make_store(fine, table="fine")
    store.shapes["coarse"] = ShapesModel.parse(coarse.centers, geometry=0, radius=10.0)
    table = make_store(coarse).tables["table"]
    table.obs["region"] = pd.Categorical(["coarse"] * 4)
    table.obs["instance_id"] = np.arange(4)
    table.uns.pop("spatialdata_attrs")
    store.tables["table2"] = TableModel.parse(table, region="coarse", region_key="region", instance_key="instance_id")
    with pytest.raises(InputError, match="--spots: coarse, spots"):
        read_slide(store)
    assert read_slide(store, spots="coarse").n_spots == 4
    assert read_slide(store, table="fine").n_spots == 16
    with pytest.raises(InputError, match="does not annotate"):
        read_slide(store, spots="coarse", table="fine")
    choices = slide_choices(store)
    assert set(choices.spots) == {"spots", "coarse"}
    assert set(choices.tables) == {"fine", "table2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spots": "nope"}, "no spots 'nope'; choose one with --spots: spots"),
        ({"table": "nope"}, "no table 'nope'; choose one with --table: table"),
        ({"image": "nope"}, "no image 'nope'"),
        ({"coordinate_system": "nope"}, "--coordinate-system: global"),
    ],
)
def test_unknown_names_are_refused_with_the_valid_ones(make_slide, make_store, options, message):
    with pytest.raises(InputError, match=message):
        read_slide(make_store(make_slide(3, 3)), **options)


def test_missing_elements_are_named(make_slide, make_store):
    store = make_store(make_slide(3, 3))
    table = store.tables["table"]
    del store.tables["table"]
    with pytest.raises(InputError, match="no table"):
        read_slide(store)
    del store.shapes["spots"]
    store.tables["table"] = table
    with pytest.raises(InputError, match="neither shapes nor labels"):
        read_slide(store)


def test_layer_counts_replaces_log_normalized_x(make_slide, make_store):
    made = make_slide(3, 3)
    normalized = made.counts.log1p()
    with pytest.raises(InputError, match="not counts"):
        read_slide(make_store(made, x=normalized))
    slide = read_slide(make_store(made, x=normalized, layers={"counts": made.counts}))
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.toarray())
    assert any("layer 'counts'" in n for n in slide.notices)


def test_repeated_genes_are_made_unique_with_a_notice(make_slide, make_store):
    slide = read_slide(make_store(make_slide(3, 3, n_genes=3), genes=["A", "A", "B"]))
    assert list(slide.genes) == ["A", "A-1", "B"]
    assert any("1 gene name occurs more than once (A)" in n for n in slide.notices)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 40, 60), np.uint8), ((4, 40, 60), np.uint8), ((1, 40, 60), np.uint16), ((7, 40, 60), np.float32)],
)
def test_images_of_any_type_are_read_lazily(make_slide, make_store, tmp_path, shape, dtype):
    write_store(make_store(make_slide(3, 3), images={"he": image_element(shape, dtype)}), tmp_path / "slide.zarr")
    image = read_slide(tmp_path / "slide.zarr").image
    assert image.levels[0].shape == shape
    assert image.levels[0].dtype == dtype
    assert hasattr(image.levels[0], "compute")
    assert len(image.channels) == shape[0]


def test_all_levels_of_an_image_cover_the_same_area(make_slide, make_store, tmp_path):
    """The spots are rotated, and the image is mirrored and has an odd size; its corners agree in all levels."""
    spots_to_b = np.array([[0.0, -2.0, 30.0], [2.0, 0.0, 4.0], [0, 0, 1]])
    image_to_b = np.array([[-0.5, 0.1, 100.0], [0.0, 0.7, 20.0], [0, 0, 1]])
    made = make_slide(3, 3, transforms={"a": np.eye(3), "b": spots_to_b}, coordinate_system="a")
    affine = Affine(image_to_b, ("x", "y"), ("x", "y"))
    image = image_element((3, 101, 75), systems={"b": affine}, scale_factors=[2, 2])
    write_store(make_store(made, images={"he": image}), tmp_path / "slide.zarr")
    got = read_slide(tmp_path / "slide.zarr", image="he").image
    assert [level.shape for level in got.levels] == [(3, 101, 75), (3, 50, 37), (3, 25, 18)]
    expected = np.linalg.inv(spots_to_b) @ image_to_b
    np.testing.assert_allclose(got.to_intrinsic[0], expected)
    for level, matrix in zip(got.levels, got.to_intrinsic, strict=True):
        corners = np.array([[0, 0], [level.shape[2], 0], [0, level.shape[1]]], dtype=float)
        full = np.array([[0, 0], [75, 0], [0, 101]], dtype=float)
        np.testing.assert_allclose(apply_affine(matrix, corners), apply_affine(expected, full), atol=1e-6)


@pytest.mark.contract(
    section="Images",
    case="an image that shows none of the spots by its transformation",
    response="another image, or none; *notice:* which one was left out",
)
def test_image_without_spots_is_left_out(make_slide, make_store):
    away = Affine(np.array([[1.0, 0, 9000], [0, 1, 0], [0, 0, 1]]), ("x", "y"), ("x", "y"))
    images = {"far": image_element((3, 400, 600), systems={"global": away}), "near": image_element((3, 40, 60))}
    assert read_slide(make_store(make_slide(3, 3), images=images)).image.name == "near"
    store = make_store(make_slide(3, 3), images={"far": images["far"]})
    slide = read_slide(store)
    assert slide.image is None
    assert any("No spot is on image 'far'" in n and "choose the image with --image" in n for n in slide.notices)
    assert read_slide(store, image="far").image.name == "far"


def test_largest_color_image_is_selected(make_slide, make_store):
    images = {
        "lowres": image_element((3, 20, 30)),
        "hires": image_element((3, 40, 60)),
        "fluorescence": image_element((2, 80, 120)),
        "elsewhere": image_element((3, 400, 600), systems={"other": Identity()}),
    }
    store = make_store(make_slide(3, 3), images=images)
    assert read_slide(store).image.name == "hires"
    assert read_slide(store, image="fluorescence").image.name == "fluorescence"
    assert read_slide(store, image="none").image is None
    assert read_slide(store, image=None).image is None
    with pytest.raises(InputError, match="shares no coordinate system"):
        read_slide(store, image="elsewhere")


def test_similar_images_require_a_choice(make_slide, make_store):
    store = make_store(make_slide(3, 3), images={"b": image_element(), "a": image_element()})
    with pytest.raises(InputError, match="--image: a, b"):
        read_slide(store)
    assert read_slide(store, image="b").image.name == "b"


def test_unaligned_image_is_dropped_with_a_notice(make_slide, make_store):
    slide = read_slide(make_store(make_slide(3, 3), images={"far": image_element(systems={"other": Identity()})}))
    assert slide.image is None
    assert "far" in slide.notices[0]


def test_volumes_are_not_histology(make_slide, make_store):
    volume = Image3DModel.parse(np.zeros((1, 2, 4, 4), np.uint8), dims=("c", "z", "y", "x"))
    store = make_store(make_slide(3, 3), images={"volume": volume})
    assert read_slide(store).image is None
    assert slide_choices(store).images == ()


def test_coordinate_system_is_selected_with_a_notice(make_slide, make_store):
    made = make_slide(3, 3, transforms={"scaled": np.diag([2.0, 2, 1]), "plain": np.eye(3)}, coordinate_system="plain")
    slide = read_slide(make_store(made))
    assert slide.coordinate_system == "plain"
    assert "'plain' was chosen" in slide.notices[0]


def test_singular_transformation_is_refused(make_slide, make_store):
    made = make_slide(3, 3, transforms={"global": np.diag([1.0, 0.0, 1.0])})
    with pytest.raises(InputError, match="cannot be inverted"):
        read_slide(make_store(made))


@pytest.mark.parametrize(("width", "noticed"), [(65.0, True), (55.0, False)])
def test_nominal_space_ranger_diameter_is_noticed(make_slide, make_store, width, noticed):
    slide = read_slide(make_store(make_slide(6, 7, lattice="hex", spot_diameter=width)))
    assert slide.spot_diameter == width
    assert any("measure 55 um" in notice for notice in slide.notices) == noticed
