from __future__ import annotations

import numpy as np
import pytest
from helpers.slides import image_element
from scipy import sparse
from spatialdata.models import Image2DModel
from spatialdata.transformations import Identity

from napari_srast.io.slide_checks import position_notices
from napari_srast.io.slide_reader import read_slide

POINTS = np.column_stack([np.arange(60) % 10, np.arange(60) // 10]) * 8.0
SCALED = {"global": np.diag([0.5, 0.5, 1.0])}


@pytest.mark.contract(
    section="Spots and transformations",
    case="positions in obsm['spatial'] that differ from the spots",
    response="*notice:* names the shift in units and pitches",
)
def test_shift_between_two_statements_of_the_positions_is_noticed():
    (notice,) = position_notices(POINTS + np.array([4, 0]), POINTS, {}, "bins")
    assert "'bins' by (4, 0), which is 0.5 pitches" in notice
    (notice,) = position_notices(POINTS / 2 + np.array([0, -2]), POINTS, SCALED, "bins")
    assert "by (0, -2), which is 0.5 pitches" in notice
    (notice,) = position_notices(np.random.default_rng(0).permutation(POINTS), POINTS, {}, "bins")
    assert "rows in the right order" in notice


@pytest.mark.parametrize(
    "stated", [POINTS, POINTS / 2, POINTS * 0.3 + 17, POINTS + 0.01, POINTS[:, ::-1] * np.nan], ids=str
)
def test_positions_that_agree_are_silent(stated):
    assert position_notices(stated, POINTS, SCALED, "bins") == ()


def test_shifted_labels_of_another_tool_are_noticed(make_slide, make_store):
    made = make_slide(5, 6, pitch=10, spot_diameter=10.0)
    made.centers[:] += 5
    store = make_store(made, "labels")
    store.tables["table"].obsm["spatial"] = made.centers
    assert not any("shifted" in notice for notice in read_slide(store).notices)
    store.tables["table"].obsm["spatial"] = made.centers - 5
    assert any("(-5, -5), which is 0.71 pitches" in notice for notice in read_slide(store).notices)


@pytest.mark.contract(
    section="Tables and counts",
    case="spots of nearly the same total, as of rounded CPM",
    response="*notice:* names the total; check that these are the raw counts",
)
def test_rounded_values_of_one_total_are_noticed(make_slide, make_store):
    made = make_slide(5, 6)
    counts = np.random.default_rng(0).poisson(40, (30, made.counts.shape[1])).astype(np.float64)
    store = make_store(made)
    store.tables["table"].X = sparse.csr_matrix(counts)
    assert not any("nearly the same total" in notice for notice in read_slide(store).notices)
    store.tables["table"].X = sparse.csr_matrix(np.rint(counts / counts.sum(axis=1, keepdims=True) * 1e6))
    assert any("nearly the same total, 1e+06" in notice for notice in read_slide(store).notices)


@pytest.mark.contract(
    section="Images",
    case="image that does not cover the spots",
    response="*notice:* how many spots are outside",
)
def test_spots_outside_of_the_image_are_noticed(make_slide, make_store):
    covering = {"he": image_element((3, 400, 400), systems={"global": Identity()})}
    assert not any(
        "outside of the image" in n for n in read_slide(make_store(make_slide(3, 3), images=covering)).notices
    )
    small = {"he": image_element((3, 50, 50), systems={"global": Identity()})}
    notices = read_slide(make_store(make_slide(3, 3), images=small)).notices
    assert any("8 of 9 spots are outside of the image 'he'" in notice for notice in notices)
    assert not any("outside" in n for n in read_slide(make_store(make_slide(3, 3), images=small), image=None).notices)


@pytest.mark.contract(
    section="Images",
    case="stains (fluorescence) or the image of the CytAssist next to a smaller H&E image",
    response="the H&E image is chosen",
)
def test_stains_and_the_image_of_the_cytassist_rank_below_histology(make_slide, make_store):
    stains = image_element((3, 400, 600))
    images = {"if": Image2DModel.parse(stains.data, dims=("c", "y", "x"), c_coords=["DAPI", "CD3", "PanCK"])}
    images |= {"A_cytassist_image": image_element((3, 400, 600)), "A_hires_image": image_element((3, 40, 60))}
    assert read_slide(make_store(make_slide(3, 3), images=images)).image.name == "A_hires_image"
    del images["A_hires_image"]
    assert read_slide(make_store(make_slide(3, 3), images=images)).image.name == "A_cytassist_image"


def test_unknown_radius_of_a_few_spots_refuses_nothing(make_slide, make_store):
    store = make_store(make_slide(3, 3, spot_diameter=50.0))
    store.shapes["spots"]["radius"] = [np.nan, *[25.0] * 7, np.nan]
    assert read_slide(store).spot_diameter == 50


def test_larger_image_elsewhere_is_mentioned(make_slide, make_store):
    images = {"hires": image_element((3, 40, 60)), "full": image_element((3, 400, 600), systems={"px": Identity()})}
    slide = read_slide(make_store(make_slide(3, 3), images=images))
    assert slide.image.name == "hires"
    assert any("'full' (600 x 400 pixels) is larger than 'hires'" in notice for notice in slide.notices)


def test_circles_of_bins_are_squares(make_slide, make_store):
    store = make_store(make_slide(6, 6, pitch=8, spot_diameter=4.4))
    store.tables["table"].uns["bin_size"] = 8
    slide = read_slide(store)
    assert (slide.spot_shape, slide.spot_diameter) == ("square", pytest.approx(8))
    assert any("squares of 8" in notice for notice in slide.notices)
    assert read_slide(store, spot_shape="circle").spot_diameter == pytest.approx(4.4)
