from __future__ import annotations

import os

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_srast.errors import Cancelled, InputError, OutputError, SettingsError
from napari_srast.geometry.affine import apply_affine
from napari_srast.geometry.lattice import detect_lattice
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.slide_reader import read_slide

TO_PIXELS = np.array([[0.11, -0.02, 30.0], [0.03, 0.1, 25.0], [0, 0, 1]])


@pytest.fixture
def h5ad(make_slide, tmp_path):
    """Write an .h5ad of a synthetic slide; keyword arguments replace attributes of the table."""

    def write(slide=None, **parts):
        slide = slide or make_slide(6, 7)
        data = anndata.AnnData(
            slide.counts,
            obs=pd.DataFrame(index=slide.spot_ids),
            var=pd.DataFrame(index=slide.genes),
            obsm={"spatial": slide.centers, "spatial_px": apply_affine(TO_PIXELS, slide.centers)},
            uns={"meta": {"coord_unit": "um", "spot_diameter_um": 90, "tissue": "none"}},
        )
        for name, value in parts.items():
            setattr(data, name, value)
        data.write_h5ad(tmp_path / "in.h5ad")
        return tmp_path / "in.h5ad"

    return write


@pytest.fixture
def image_file(tmp_path):
    """Write an image file with one red pixel at column 90, row 50."""

    def write(name="he.png", shape=(120, 150, 3), dtype=np.uint8):
        pixels = np.full(shape, 200, dtype=dtype)
        pixels[min(50, shape[0] - 1), min(90, shape[1] - 1)] = 0
        if shape[2:] == (4,):
            pixels[..., 3] = 255
        if name.endswith(".tif"):
            import tifffile

            tifffile.imwrite(tmp_path / name, pixels)
        else:
            Image.fromarray(pixels.squeeze()).save(tmp_path / name)
        return tmp_path / name

    return write


def test_store_that_needs_no_import_is_named(h5ad, tmp_path):
    store = import_slide(h5ad(), tmp_path / "slide.zarr")
    with pytest.raises(InputError, match=r"is a SpatialData store already, and needs no import; .*napari-srast info"):
        import_slide(store, tmp_path / "again.zarr")
    assert not (tmp_path / "again.zarr").exists()


def test_progress_grows_to_the_end(h5ad, image_file, tmp_path):
    steps = []
    import_slide(h5ad(), tmp_path / "out.zarr", image=image_file(), progress=steps.append)
    assert list(dict.fromkeys(step.stage for step in steps)) == ["reading", "converting counts", "writing"]
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert any(0.5 < fraction < 1 for fraction in fractions)  # while the image is written


@pytest.mark.contract(
    section="In the window",
    case="an import is canceled",
    response="it ends at the next file, or block of counts or of an image; no store is left",
)
@pytest.mark.parametrize("stage", ["reading", "converting counts", "writing"])
def test_canceled_import_leaves_nothing(h5ad, image_file, tmp_path, stage):
    source, image, seen = h5ad(), image_file(), []
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Cancelled):
        import_slide(
            source,
            tmp_path / "out.zarr",
            image=image,
            progress=lambda step: seen.append(step.stage),
            should_stop=lambda: stage in seen,
        )
    assert seen[-1] == stage
    assert sorted(tmp_path.iterdir()) == before


def test_import_keeps_counts_coordinates_and_metadata(h5ad, make_slide, tmp_path):
    made = make_slide(6, 7)
    out = import_slide(h5ad(made), tmp_path / "out.zarr")
    slide = read_slide(out)
    np.testing.assert_array_equal(slide.counts.toarray(), made.counts.toarray())
    np.testing.assert_allclose(slide.centers, made.centers)
    assert list(slide.spot_ids) == list(made.spot_ids)
    assert slide.spot_diameter == 90
    assert slide.unit == "um"
    assert slide.image is None
    assert slide.notices == ()
    assert sorted(os.listdir(tmp_path)) == ["in.h5ad", "out.zarr"]


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("he.jpg", (120, 150, 3), np.uint8),
        ("H&E scan.png", (120, 150, 4), np.uint8),
        ("gray.png", (120, 150), np.uint8),
        ("he.tif", (120, 150, 3), np.uint8),
        ("deep.tif", (120, 150), np.uint16),
    ],
)
def test_image_is_aligned_to_the_spots(h5ad, image_file, tmp_path, name, shape, dtype):
    slide = read_slide(import_slide(h5ad(), tmp_path / "out.zarr", image=image_file(name, shape, dtype)))
    channels = 1 if len(shape) == 2 else 3
    assert slide.image.levels[0].shape == (channels, 120, 150)
    assert slide.image.levels[0].dtype == dtype
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.linalg.inv(TO_PIXELS), atol=1e-6)
    row, col = np.unravel_index(slide.image.levels[0][0].argmin().compute(), (120, 150))
    assert (row, col) == (50, 90)
    pixel_system = next(s for s in slide.transforms if s.endswith("_px"))
    np.testing.assert_allclose(slide.transforms[pixel_system], TO_PIXELS, atol=1e-6)


def test_large_image_gets_chunks_and_levels(h5ad, image_file, tmp_path):
    image = image_file(shape=(1100, 1300, 3))
    levels = read_slide(import_slide(h5ad(), tmp_path / "out.zarr", image=image)).image.levels
    assert [level.shape for level in levels] == [(3, 1100, 1300), (3, 550, 650)]
    assert max(levels[0].chunks[1]) == 512


def test_pixel_size_replaces_spatial_px(h5ad, make_slide, image_file, tmp_path):
    made = make_slide(6, 7)
    source = h5ad(made, obsm={"spatial": made.centers})
    with pytest.raises(InputError, match=r"spatial_px.*--pixel-size"):
        import_slide(source, tmp_path / "out.zarr", image=image_file())
    slide = read_slide(import_slide(source, tmp_path / "out.zarr", image=image_file(), pixel_size=8.0))
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([8.0, 8, 1]))


def test_image_without_spots_is_refused(h5ad, image_file, tmp_path):
    with pytest.raises(InputError, match="spots are inside the image"):
        import_slide(h5ad(), tmp_path / "out.zarr", image=image_file(shape=(20, 25, 3)))
    assert not (tmp_path / "out.zarr").exists()


def test_spots_without_a_place_on_the_image_do_not_hinder_its_alignment(h5ad, make_slide, image_file, tmp_path):
    made = make_slide(6, 7)
    on_image = apply_affine(TO_PIXELS, made.centers)
    on_image[[2, 9]] = np.nan
    source = h5ad(made, obsm={"spatial": made.centers, "spatial_px": on_image})
    slide = read_slide(import_slide(source, tmp_path / "out.zarr", image=image_file()))
    assert slide.n_spots == 42
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.linalg.inv(TO_PIXELS), atol=1e-6)


@pytest.mark.parametrize("noise", [40, 4000])
def test_misfit_of_the_image_is_noticed_or_refused(h5ad, make_slide, image_file, tmp_path, noise):
    made = make_slide(6, 7)
    moved = made.centers + np.random.default_rng(0).normal(0, noise, (42, 2))
    source = h5ad(made, obsm={"spatial": made.centers, "spatial_px": apply_affine(TO_PIXELS, moved)})
    if noise > 100:
        with pytest.raises(InputError, match="same spots in the same order"):
            import_slide(source, tmp_path / "out.zarr", image=image_file())
    else:
        slide = read_slide(import_slide(source, tmp_path / "out.zarr", image=image_file()))
        assert any("deviates from the spots" in notice for notice in slide.notices)


def test_spot_diameter_option_precedes_metadata_and_default(h5ad, make_slide, tmp_path):
    assert read_slide(import_slide(h5ad(), tmp_path / "a.zarr", spot_diameter=33)).spot_diameter == 33
    guessed = read_slide(import_slide(h5ad(make_slide(6, 7, lattice="hex"), uns={}), tmp_path / "b.zarr"))
    assert guessed.spot_diameter == pytest.approx(55)
    assert "diameter" in guessed.notices[0]
    assert guessed.unit == "unknown"


def test_storable_columns_are_kept(h5ad, make_slide, tmp_path):
    made = make_slide(2, 2)
    obs = pd.DataFrame(
        {
            "cluster": pd.Categorical(["a", "b", None, "a"]),
            "in tissue": [True, False, True, True],
            "score": [1.0, np.nan, 2.0, 3.0],
            "region": ["x"] * 4,
        },
        index=made.spot_ids,
    )
    out = import_slide(h5ad(made, obs=obs), tmp_path / "out.zarr")
    table = anndata.read_zarr(out / "tables" / "table")
    assert {"cluster", "in_tissue", "score"} <= set(table.obs)
    assert list(table.obs["cluster"].astype(object).where(table.obs["cluster"].notna(), None)) == ["a", "b", None, "a"]
    assert list(table.obs["region"]) == ["spots"] * 4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"obsm": {}}, r"no obsm\['spatial'\]"),
        ({"obsm": {"spatial": np.full((42, 2), np.nan)}}, "finite"),
        ({"X": np.full((42, 5), 0.5, dtype=np.float32)}, "not counts"),
        ({"X": np.full((42, 5), -1, dtype=np.float32)}, "negative"),
    ],
)
def test_unusable_tables_are_refused_and_leave_nothing(h5ad, tmp_path, parts, message):
    with pytest.raises(InputError, match=message):
        import_slide(h5ad(**parts), tmp_path / "out.zarr")
    assert os.listdir(tmp_path) == ["in.h5ad"]


def test_unsupported_and_missing_files_are_refused(h5ad, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.h5ad").write_text("x")
    for name, message in (("notes.txt", "neither"), ("missing.h5ad", "nothing at"), ("broken.h5ad", "cannot be read")):
        with pytest.raises(InputError, match=message):
            import_slide(tmp_path / name, tmp_path / "out.zarr")
    for image, message in (("missing.jpg", "no image at"), ("notes.txt", "cannot be read as an image")):
        with pytest.raises(InputError, match=message):
            import_slide(h5ad(), tmp_path / "out.zarr", image=tmp_path / image)
    with pytest.raises(SettingsError, match="pixel size"):
        import_slide(h5ad(), tmp_path / "out.zarr", pixel_size=-1)
    assert not (tmp_path / "out.zarr").exists()


def test_existing_output_is_kept(h5ad, tmp_path):
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        import_slide(h5ad(), tmp_path / "out.zarr")


def test_nothing_is_printed(h5ad, image_file, tmp_path, capsys, recwarn):
    import_slide(h5ad(), tmp_path / "out.zarr", image=image_file())
    assert capsys.readouterr() == ("", "")
    assert [str(w.message) for w in recwarn if "autosharding" in str(w.message)] == []


@pytest.mark.slides
@pytest.mark.slow
def test_real_slides_keep_their_counts(slide_paths, tmp_path):
    assert slide_paths
    for path in slide_paths:
        source = anndata.read_h5ad(path)
        slide = read_slide(import_slide(path, tmp_path / f"{path.stem}.zarr"))
        assert (slide.counts != source.X).nnz == 0, path.name
        np.testing.assert_array_equal(slide.centers, source.obsm["spatial"])
        assert list(slide.genes) == list(source.var_names)
        assert list(slide.spot_ids) == list(source.obs_names)


@pytest.mark.slides
@pytest.mark.parametrize(
    "name", ["st_human_breast_her2_c4", "visium_mouse_muscle_vis5a", "st_mouse_olfactorybulb_mob1"]
)
def test_real_histology_is_aligned_to_its_spots(slide_path, tmp_path, name):
    path = slide_path(name)
    slide = read_slide(import_slide(path, tmp_path / "out.zarr", image=slide_path(f"{name}_he", ".jpg")))
    source = anndata.read_h5ad(path)
    pixels = apply_affine(np.linalg.inv(slide.image.to_intrinsic[0]), slide.centers)
    distance = np.hypot(*(pixels - source.obsm["spatial_px"]).T) * np.sqrt(
        abs(np.linalg.det(slide.image.to_intrinsic[0][:2, :2]))
    )
    assert (
        np.median(distance) < 0.3 * detect_lattice(slide.centers).pitch
    )  # spots of the first arrays were registered one by one
