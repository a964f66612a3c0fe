"""The parts of the window that need no viewer: what is read, remembered, written and listed."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from napari.components import ViewerModel
from PIL import Image as PillowImage

from napari_srast.core.region import Region
from napari_srast.core.result import UpsampleResult
from napari_srast.core.settings import UpsampleSettings
from napari_srast.core.slide import Slide, SlideSource
from napari_srast.errors import InputError
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.export.command_line import command_line
from napari_srast.gui.export.figure import Caption, round_length, save_figure
from napari_srast.gui.layers.camera import CameraBookmark
from napari_srast.gui.layers.cursor_readout import PixelReadout, read_pixel
from napari_srast.gui.layers.factory import role_of
from napari_srast.gui.layers.gene_layer import GeneStyle
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.layers.regions import RegionLayer, load_geojson, save_geojson, without_holes
from napari_srast.gui.state.displayed_result import prepare_for_display
from napari_srast.gui.state.preferences import UserPreferences
from napari_srast.gui.state.quality_checks import measure_quality, qc_summary
from napari_srast.gui.state.run_request import result_title
from napari_srast.gui.state.slide_loading import LoadedSlide
from napari_srast.gui.state.slide_session import SlideSession, titles
from napari_srast.gui.state.spatial_structure import spatial_structure
from napari_srast.gui.widget import SRastWidget
from napari_srast.gui.widgets.shortcuts import SHORTCUTS, shortcut_table
from napari_srast.gui.widgets.tooltips import TOOLTIPS

pytestmark = pytest.mark.gui


def test_structure_is_morans_i(make_slide: Callable[..., Slide]) -> None:
    slide = make_slide(lattice="hex", rows=9, cols=9)
    found = spatial_structure(slide)
    from scipy.spatial import cKDTree

    near = cKDTree(slide.centers).query(slide.centers, k=7)[1][:, 1:]
    dense = slide.counts.toarray().astype(float)
    z = np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))
    z -= z.mean(axis=0)
    with np.errstate(invalid="ignore"):
        known = (z * z[near].mean(axis=1)).sum(axis=0) / (z**2).sum(axis=0)
    inner = np.isfinite(known)
    np.testing.assert_allclose(found[inner], known[inner], atol=0.02)  # ties among the neighbors at the rim
    assert np.isnan(found[2])  # zero everywhere
    assert found[0] > found[4]  # a slope is smoother than a wave


def test_a_pixel_is_read_with_its_spot_and_what_was_measured(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    slide = make_slide()
    finished = prepare_for_display(make_result(slide))
    reading = read_pixel(finished, ["Gene0", "Gene3"], slide.centers[20] + [10.0, -10.0])
    measured = slide.counts[20, [0, 3]].toarray()[0]
    assert reading.spot == "spot20"
    assert reading.genes == (("Gene0", measured[0] / 4, measured[0]), ("Gene3", measured[1] / 4, measured[1]))
    assert read_pixel(finished, ["Gene0"], np.array([1e6, 1e6])).text == ""


def test_the_second_picture_shows_the_same_place(
    skewed_slide: Slide, make_result: Callable[..., UpsampleResult]
) -> None:
    """Histology and spots beside are those of the region, moved by one and the same way, in every system."""
    region = Region(shapely.box(-50, -50, 250, 250))
    for system in skewed_slide.transforms:
        slide = dataclasses.replace(skewed_slide, coordinate_system=system)
        result = make_result(skewed_slide, region)
        viewer = ViewerModel()
        overlay = Overlay(viewer, result, result.counts.tocsc(), lambda: None)
        overlay.set_slide(slide)
        overlay.show(["Gene0"])
        overlay.set_view("side_by_side")
        _, histology, dimmer, spots = (layer for layer in viewer.layers if role_of(layer) == "side_by_side")
        world = np.array([spots.data_to_world(point) for point in spots.data])[:, ::-1]
        home = apply_affine(slide.to_cs, slide.centers[result.raster.spots])
        shift = (world - home).mean(axis=0)
        assert shift[0] > 0
        np.testing.assert_allclose(world - home, np.tile(shift, (len(home), 1)), atol=1e-3)
        np.testing.assert_allclose(overlay.offset_at(world[0]), shift, atol=1e-3)
        np.testing.assert_array_equal(overlay.offset_at(home[0]), 0)
        # A pixel of the crop has the color that the whole picture has there.
        pixel = np.array([2, 3])
        place = np.array(histology.data_to_world(pixel))[::-1] - shift
        to_pixels = np.linalg.inv(slide.to_cs @ slide.image.to_intrinsic[0])
        col, row = np.floor(apply_affine(to_pixels, place[None])[0]).astype(int)
        np.testing.assert_array_equal(histology.data[tuple(pixel)], slide.image.levels[0][:, row, col])
        corners = [dimmer.data_to_world(c) for c in ((-0.5, -0.5), (0.5, 0.5))]
        edges = [histology.data_to_world(c) for c in ((-0.5, -0.5), np.array(histology.data.shape[:2]) - 0.5)]
        np.testing.assert_allclose(corners, edges)
        overlay.set_view("after")
        assert [role_of(layer) for layer in viewer.layers] == ["dimmer", "gene"]
        overlay.remove()
        assert len(viewer.layers) == 0


def test_both_pictures_come_into_view_and_the_view_goes_back() -> None:
    viewer = ViewerModel()
    viewer.canvas.size = (100, 200)
    camera = viewer.scene.camera
    camera.center, camera.zoom = (0.0, 20.0, 30.0), 2.0  # x from -20 to 80, y from -5 to 45
    viewpoint, where = CameraBookmark(viewer), (camera.center, camera.zoom)
    viewpoint.show(np.array([0.0, 0.0]), np.array([70.0, 40.0]))
    assert (camera.center, camera.zoom) == where  # all of it was in view
    viewpoint.go_back()
    viewpoint.show(np.array([0.0, 0.0]), np.array([300.0, 40.0]))
    assert camera.center[-2:] == (20.0, 150.0)
    assert 0.6 < camera.zoom < 200 / 300
    viewpoint.go_back()
    assert (camera.center, camera.zoom) == where
    viewpoint.show(np.array([0.0, 0.0]), np.array([300.0, 40.0]))
    camera.zoom = 5.0  # the user has looked closer since, and stays there
    viewpoint.go_back()
    assert (camera.center[-1], camera.zoom) == (150.0, 5.0)


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        ((0.0, 1.811), "0 to 1.81"),
        ((0.056, 22.44), "0.1 to 22.4"),
        ((0.25, 2.0), "0.25 to 2"),
        ((54.2, 1234.5), "54 to 1,234"),
        ((0.0, 0.00123), "0 to 0.00123"),
        ((0.0, 100.0), "0 to 100"),
        ((0.0, 0.0), "0 to 0"),
    ],
)
def test_a_scale_is_written_as_people_read_it(limits: tuple[float, float], written: str) -> None:
    assert GeneStyle("ERBB2", "#56b4e9", limits).scale == written


def test_results_are_told_apart_by_what_is_not_usual(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    result = make_result(make_slide())
    assert result_title(2, prepare_for_display(result)) == f"2: 64 spots, {len(result.genes)} genes, ×2, uniform"
    usual = UpsampleSettings(factor=4)
    assert result_title(1, prepare_for_display(dataclasses.replace(result, settings=usual))).endswith(" genes, ×4")
    drawn = UpsampleSettings(pixel_size=25.0, mode="sample")
    assert result_title(1, prepare_for_display(dataclasses.replace(result, settings=drawn))).endswith(
        "pixels of 25, sample"
    )


def test_the_panel_keeps_the_room_that_a_reading_needed(widget: SRastWidget) -> None:
    explore = widget.result_panel
    explore.pointed.resize(300, explore.pointed.minimumHeight())
    genes = tuple((f"GENE{i}", 1.25, 1000.0) for i in range(6))
    explore._on_pointed(PixelReadout("spot_0001", genes))
    needed = explore.pointed.minimumHeight()
    assert needed >= explore.pointed.heightForWidth(300) > 34
    explore._on_pointed(PixelReadout())
    assert explore.pointed.minimumHeight() == needed


def test_nothing_is_saved_into_the_built_in_slide(
    widget: SRastWidget, make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    export_panel = widget.result_panel.export_panel
    for synthetic in (True, False):
        source = SlideSource(path="slide.zarr", synthetic=synthetic)
        slide = dataclasses.replace(make_slide(), source=source)
        widget.controller.slides.show(LoadedSlide(slide=slide, source=None))
        widget.controller.results.add_saved(widget.controller.slides.current, prepare_for_display(make_result(slide)))
        assert export_panel.export_into.isEnabled() is not synthetic


def test_the_eye_of_the_list_is_the_check_box(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(make_slide())
    overlay = Overlay(viewer, result, result.counts.tocsc(), lambda: None)
    overlay.show(["Gene0", "Gene1"])
    viewer.layers["Gene0"].visible = False
    assert overlay.genes == ["Gene1"]
    assert viewer.layers["Gene1"].opacity == 1
    viewer.layers["Gene0"].visible = True
    assert overlay.genes == ["Gene0", "Gene1"]
    overlay.hide()  # another slide is worked on
    assert not any(layer.visible for layer in viewer.layers)
    overlay.reveal()
    assert overlay.genes == ["Gene0", "Gene1"]
    assert viewer.layers["Gene0"].visible


@pytest.mark.parametrize(("view", "name"), [("before", "measured"), ("side_by_side", "side-by-side")])
def test_before_follows_color_and_contrast(
    view: Any, name: str, make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    viewer, result = ViewerModel(), make_result(make_slide())
    overlay = Overlay(viewer, result, result.counts.tocsc(), lambda: None)
    overlay.show(["Gene0"])
    overlay.set_view(view)
    overlay.set_style("Gene0", color="#ff0000", limits=(0.0, 1e9))
    layer = viewer.layers[f"SRast {name} spots"]
    np.testing.assert_allclose(layer.face_color[:, :3], 0, atol=1e-6)
    overlay.set_style("Gene0", limits=(0.0, 1e-9))
    counts = result.slide.counts[:, 0].toarray()[:, 0]
    np.testing.assert_allclose(layer.face_color[counts > 0][:, :3], [[1, 0, 0]] * int((counts > 0).sum()), atol=1e-6)
    assert overlay.shown == [GeneStyle("Gene0", "#ff0000", (0.0, 1e-9), 1.0)]


def test_changes_of_the_region_are_undone_one_by_one() -> None:
    regions = RegionLayer(ViewerModel(), lambda: None)
    box = np.array([[0.0, 0.0], [10, 0], [10, 10], [0, 10]])
    assert not regions.can_undo
    regions.add(box, 1.0)
    regions.add(box + 100, 1.0)
    regions.clear()
    areas = []
    while regions.can_undo:
        regions.undo()
        region = regions.region("global")
        areas.append(0 if region is None else region.geometry.area)
    assert areas == [200, 100, 0]


def test_a_region_with_a_hole_is_drawn_as_what_it_is(make_slide: Callable[..., Slide], tmp_path: Path) -> None:
    hole = (
        shapely.box(0, 0, 400, 400).difference(shapely.box(100, 100, 200, 300)).difference(shapely.box(250, 0, 260, 9))
    )
    region = Region(hole)
    parts = without_holes(region)
    assert all(not part.interiors for part in parts)
    assert shapely.union_all(parts).equals(hole)
    regions = RegionLayer(ViewerModel(), lambda: None)
    regions.set(region, make_slide(), 1.0)
    assert regions.region("global").geometry.symmetric_difference(hole).area < 1e-3
    save_geojson(region, tmp_path / "r.geojson")
    assert load_geojson(tmp_path / "r.geojson", "global").geometry.equals(hole)


def test_recent_slides_and_favorites_are_remembered_and_damage_is_forgiven(tmp_path: Path) -> None:
    file = tmp_path / "state" / "window.json"
    remembered = UserPreferences.load(file)
    for i in range(12):
        remembered.add_slide(f"/slides/{i}.zarr")
    remembered.add_slide("/slides/5.zarr")
    remembered.set_favorite("ERBB2", True)
    again = UserPreferences.load(file)
    assert again.slides[:2] == ["/slides/5.zarr", "/slides/11.zarr"]
    assert len(again.slides) == 10
    assert again.genes == ["ERBB2"]
    again.set_favorite("ERBB2", False)
    again.forget_slides()
    assert (UserPreferences.load(file).slides, UserPreferences.load(file).genes) == ([], [])
    for damage in ("", "[]", '{"slides": 3}', "\x00"):
        file.write_text(damage)
        assert UserPreferences.load(file).slides == []


def test_the_command_names_what_decides_the_result(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    source = SlideSource(path="/data/my slide.zarr", spots="spots", table="table")
    slide = make_slide(source=source)
    whole = shlex.split(command_line(make_result(slide)))
    assert whole[:3] == ["napari-srast", "upsample", "/data/my slide.zarr"]
    assert "--genes" not in whole
    assert "--region" not in whole
    assert whole[whole.index("--image") + 1] == "none"
    assert whole[whole.index("--method") + 1] == "uniform"
    assert "--factor" not in whole  # 2 is the default
    by_size = shlex.split(command_line(make_result(slide, factor=3.0, pixel_size=30.0, seed=5)))
    assert by_size[by_size.index("--pixel-size") + 1] == "30.0"
    assert by_size[by_size.index("--seed") + 1] == "5"
    assert "--factor" not in by_size
    with pytest.raises(InputError, match="not read from a store"):
        command_line(make_result(make_slide()))


def test_a_figure_has_a_scale_bar_of_the_right_length(qtbot: Any, tmp_path: Path) -> None:
    black = np.zeros((600, 800, 4), dtype=np.uint8)
    black[..., 3] = 255
    genes = [GeneStyle("ERBB2", "#ff0000", (0.0, 4.0))]
    caption = Caption(pixel_length=2.5, unit="um", genes=genes, meaning="counts per pixel", note="Synthetic slide")
    save_figure(black, caption, tmp_path / "figure.png")
    with PillowImage.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    white = (pixels[400:, 400:] == 255).all(axis=-1)
    assert white.sum(axis=1).max() == 500 / 2.5  # a quarter of 800 pixels of 2.5 um is 500 um
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 20)
    assert red[400:, :400].any()  # the legend's ramp
    assert (pixels[:60, :300] == 255).all(axis=-1).any()  # the note
    assert [round_length(x) for x in (270.0, 0.07, 1.0, 5.5)] == pytest.approx([200.0, 0.05, 1.0, 5.0])


def test_trust_tells_skill_fallbacks_and_the_say_of_the_image(
    make_slide: Callable[..., Slide], make_result: Callable[..., UpsampleResult]
) -> None:
    result = make_result(make_slide(lattice="hex"), factor=8.0)
    result = dataclasses.replace(
        result,
        skill=np.array([0.02, -0.01, np.nan, 0.04, 0.0]),
        method=np.array(["uniform", "gp", "gp", "bilinear", "uniform"], dtype=object),
        provenance={
            "notices": ["Image 'he' seems to lie elsewhere."],
            "calibration": {"image": {"used": True, "nats_expected_by_gene": [0.01, 0.02, 0.0, 0.03, 0.05]}},
        },
    )
    trust = measure_quality(result)
    text = " ".join(qc_summary(result, trust, ["Gene0", "Gene1"]))
    assert "+0.005 nats per count" in text
    assert "Gene1: no better than an even split" in text
    assert re.search(r"\b2\d% of the painted area was measured", text)
    assert "3 of 5 genes fell back: 2 to gp, 1 to bilinear" in text
    assert "expected to have brought: Gene0 +0.010, Gene1 +0.020." in text
    assert "Image 'he' seems to lie elsewhere." in text
    assert "not known" in " ".join(qc_summary(result, trust, ["Gene2"]))
    assert "Image: about 0.0" in " ".join(qc_summary(result, trust, []))
    plain = dataclasses.replace(result, provenance={})
    assert "Image" not in " ".join(qc_summary(plain, trust, ["Gene0"]))
    unused = dataclasses.replace(result, provenance={"calibration": {"image": {"used": False}}})
    assert "Image: not used" in " ".join(qc_summary(unused, measure_quality(unused), ["Gene0"]))


def test_every_shortcut_is_listed_and_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "window" / "keyboard_and_preferences.md").read_text(encoding="utf-8")
    for shortcut in SHORTCUTS:
        assert shortcut.text in shortcut_table()
        assert f"| `{shortcut.keys}` | {shortcut.text} |" in page
    assert len({s.keys for s in SHORTCUTS}) == len(SHORTCUTS)
    named = {s.control for s in SHORTCUTS} - {"prepare", "explore", "filter_genes", "blink"}
    assert named <= set(TOOLTIPS)


def test_shortcuts_are_none_of_naparis() -> None:
    from napari.utils.shortcuts import default_shortcuts

    theirs = {str(keys).replace(" ", "") for bound in default_shortcuts.values() for keys in bound}
    assert not theirs & {s.keys.replace("Return", "Enter") for s in SHORTCUTS}


def test_slides_of_one_name_are_told_apart(make_slide: Callable[..., Slide]) -> None:
    def opened(path: str, image: str | None, table: str = "table") -> SlideSession:
        source = SlideSource(path=path, spots="spots", table=table, image=image)
        slide = dataclasses.replace(make_slide(3, 3), source=source)
        nothing = {"region_changed": lambda: None, "shown_changed": lambda: None, "failed": lambda _: None}
        return SlideSession(ViewerModel(), LoadedSlide(slide=slide, source=path), **nothing)

    one, other, none = (opened("/a/one.zarr", image) for image in ("he", "he2", None))
    assert titles([one, opened("/a/two.zarr", "he")]) == ["one", "two"]
    assert titles([one, other, none]) == ["one, he", "one, he2", "one, no image"]
    assert titles([one, opened("/a/one.zarr", "he", "raw")]) == ["one, table", "one, raw"]
    assert titles([one, opened("/b/one.zarr", "he")]) == ["one (1)", "one (2)"]
