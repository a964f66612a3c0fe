from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import spatialdata
from spatialdata.models import ShapesModel, TableModel

from napari_srast.errors import InputError
from napari_srast.io.sections import choose_section, section_metadata
from napari_srast.io.slide_reader import read_slide

N = 30


def lattice(shift=(0.0, 0.0), pitch=100.0, turn=0.0):
    """Return 5 x 6 spots of a hexagonal lattice."""
    row, col = (a.ravel() for a in np.mgrid[:5, :6])
    points = np.column_stack([(col + 0.5 * (row % 2)) * pitch, row * pitch * np.sqrt(0.75)])
    spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return points @ spin + shift


def columns(points, **obs):
    return pd.DataFrame(obs, index=[f"AAAC{i}" for i in range(len(points))])


TWO = np.concatenate([lattice(), lattice((23, 31), turn=0.2)])
HALVES = np.repeat(["A", "B"], N)


def store_of(points, obs, uns=None):
    """Return a SpatialData object whose table has a gene with the number of each spot."""
    shapes = ShapesModel.parse(points, geometry=0, radius=27.5)
    obs = obs.assign(region=pd.Categorical(["spots"] * len(points)), instance_id=np.arange(len(points)))
    table = anndata.AnnData(np.arange(1, len(points) + 1, dtype=np.float32)[:, None], obs=obs)
    table = TableModel.parse(table, region="spots", region_key="region", instance_key="instance_id")
    table.uns.update(uns or {})
    return spatialdata.SpatialData(shapes={"spots": shapes}, tables={"table": table})


@pytest.mark.contract(
    section="Spots and transformations",
    case="sections of several slides in one coordinate frame",
    response="names the column and the sections; choose one with --library",
)
@pytest.mark.parametrize("name", ["library_id", "sample", "batch", "section", "FOV", "slide"])
def test_overlapping_sections_need_a_choice(name):
    obs = columns(TWO, **{name: HALVES})
    with pytest.raises(InputError, match=rf"2 sections .*column '{name}' of obs: A, B\); choose one with --library"):
        choose_section(obs, {}, TWO, None, "table")
    choice = choose_section(obs, {}, TWO, "B", "table")
    np.testing.assert_array_equal(choice.rows, HALVES == "B")
    assert f"Section 'B' was read (column '{name}' of obs): 30 of 60 spots." in choice.notices
    assert choose_section(obs, {}, TWO, "all", "table").rows.all()
    with pytest.raises(InputError, match="no section 'C'; choose one with --library: A, B"):
        choose_section(obs, {}, TWO, "C", "table")


def test_sections_with_the_same_positions_need_a_choice():
    same = np.concatenate([lattice(), lattice()])
    with pytest.raises(InputError, match="--library"):
        choose_section(columns(same, batch=HALVES), {}, same, None, "table")


def test_sections_of_cells_need_a_choice():
    points = np.random.default_rng(0).uniform(0, 1000, (400, 2))
    obs = columns(points, sample=np.repeat([1, 2], 200))
    with pytest.raises(InputError, match="column 'sample' of obs: 1, 2"):
        choose_section(obs, {}, points, None, "table")


@pytest.mark.parametrize(
    ("name", "is_section"),
    [
        *(("n_section", True), ("brain_section_label", True), ("Slice ID", True), ("sampleID", True), ("z_um", True)),
        *(("sample_type", False), ("batch_cluster", False), ("mouse_stage", False), ("cell_id", False)),
    ],
)
def test_all_words_of_a_column_tell_whether_it_names_sections(name, is_section):
    points = np.random.default_rng(0).uniform(0, 1000, (400, 2))
    obs = columns(points, **{name: np.repeat([1, 2], 200)})
    if is_section:
        with pytest.raises(InputError, match=f"column '{name}' of obs: 1, 2"):
            choose_section(obs, {}, points, None, "table")
    else:
        assert choose_section(obs, {}, points, None, "table").rows.all()


@pytest.mark.parametrize(
    "points",
    [
        np.concatenate([lattice(), lattice((2000, 0))]),  # side by side
        np.column_stack([np.arange(60) % 10, np.arange(60) // 10]) * 100.0,  # neighboring parts of one lattice
    ],
    ids=["apart", "adjacent"],
)
def test_groups_in_one_frame_are_one_slide(points):
    assert choose_section(columns(points, sample=HALVES), {}, points, None, "table").rows.all()


def test_groups_of_cells_in_adjacent_fields_are_one_slide():
    points = np.random.default_rng(1).uniform(0, 1000, (900, 2))
    fields = (points // 334) @ [1, 3]
    assert choose_section(columns(points, fov=fields.astype(int)), {}, points, None, "table").rows.all()


def test_annotations_of_an_intact_lattice_are_no_sections():
    points = lattice()
    labels = np.random.default_rng(0).choice(["x", "y"], N, p=[0.8, 0.2])
    assert choose_section(columns(points, batch=labels), {}, points, None, "table").rows.all()


def test_third_coordinate_separates_sections():
    stacked = np.column_stack([TWO, np.repeat([0.0, 10.0], N)])
    with pytest.raises(InputError, match="the third coordinate: 0, 10"):
        choose_section(columns(TWO), {}, stacked, None, "table")
    assert choose_section(columns(TWO), {}, stacked, "10", "table").rows.sum() == N


def test_ends_of_spot_names_separate_sections():
    obs = columns(TWO).set_index(pd.Index([f"AAAC{i}-1-{k}" for k in range(2) for i in range(N)]))
    with pytest.raises(InputError, match="the ends of the spot names: -0, -1"):
        choose_section(obs, {}, TWO, None, "table")


@pytest.mark.contract(
    section="Spots and transformations",
    case="the same, but nothing says which spot belongs to which section",
    response="on … lattices that overlap; add a column 'library_id'",
)
def test_unlabeled_sections_are_refused():
    mixed = np.random.default_rng(0).permutation(N)  # tables are often sorted by barcode
    for points in (TWO, np.concatenate([TWO[:N][mixed], TWO[N:][mixed]])):
        with pytest.raises(InputError, match="on 2 lattices that overlap"):
            choose_section(columns(points), {}, points, None, "table")
    with pytest.raises(InputError, match=r"2 sections in uns\['spatial'\] \(A, B\).*library_id"):
        choose_section(columns(TWO), {"spatial": {"A": {}, "B": {}}}, TWO, None, "table")


SHUFFLED = np.random.default_rng(1).permutation(2 * N)  # tables are often sorted by barcode


@pytest.mark.parametrize(
    "name", ["orig.ident", "Sample ID", "sampleName", "slide.name", "patient", "z_um", "any name at all"]
)
def test_columns_of_other_names_separate_sections(name):
    points = TWO[SHUFFLED]
    obs = columns(points, total=np.arange(2 * N), cluster=np.arange(2 * N) % 3, **{name: HALVES[SHUFFLED]})
    with pytest.raises(InputError, match=rf"column '{name}' of obs: [AB], [AB]\); choose one with --library"):
        choose_section(obs, {}, points, None, "table")
    np.testing.assert_array_equal(choose_section(obs, {}, points, "B", "table").rows, HALVES[SHUFFLED] == "B")


def test_columns_of_one_lattice_separate_nothing():
    points = lattice()
    obs = columns(points, cluster=np.arange(N) % 3, anything=np.repeat(["x", "y"], 15))
    assert choose_section(obs, {}, points, None, "table").rows.all()


@pytest.mark.contract(
    section="Spots and transformations",
    case="sections without a column for them, sorted by barcode or put on the same array",
    response="overlap, or repeat places of the array; add a column 'library_id', or keep all with --library all",
)
def test_mixed_sections_without_a_column_are_refused():
    mixed = TWO[SHUFFLED]
    with pytest.raises(InputError, match=r"on several lattices that overlap.* add a column 'library_id'"):
        choose_section(columns(mixed), {}, mixed, None, "table")
    same = np.concatenate([lattice(), lattice()])[SHUFFLED]
    with pytest.raises(InputError, match=r"repeat places of the array: 30 of them .* add a column 'library_id'"):
        choose_section(columns(same), {}, same, None, "table")
    row, col = (np.tile(a.ravel(), 2) for a in np.mgrid[:5, :6])
    apart = np.concatenate([lattice(), lattice((2000, 0))])
    with pytest.raises(InputError, match=r"repeat places of the array: 30 of them"):
        choose_section(columns(apart, array_row=row, array_col=col), {}, apart, None, "table")
    assert choose_section(columns(apart, array_row=0, array_col=0), {}, apart, None, "table").rows.all()
    for points in (mixed, same):
        assert choose_section(columns(points), {}, points, "all", "table").rows.all()


@pytest.mark.contract(
    section="Spots and transformations",
    case="spots in a volume: a third coordinate that differs between neighbors",
    response="its range; keep one section, or project all with --library all",
)
def test_spots_of_a_volume_are_refused_and_a_tilted_section_is_not():
    points = np.random.default_rng(0).uniform(0, 500, (200, 3))
    with pytest.raises(InputError, match=r"in a volume: their third coordinate goes from .*; keep the spots of one"):
        choose_section(columns(points), {}, points, None, "table")
    assert choose_section(columns(points), {}, points, "all", "table").rows.all()
    points[:, 2] = 0.3 * points[:, 0]
    assert choose_section(columns(points), {}, points, None, "table").rows.all()


def test_keys_of_uns_refuse_cells_without_a_column():
    points = np.random.default_rng(0).uniform(0, 1000, (200, 2))
    uns = {"spatial": {"A": {}, "B": {}}}
    with pytest.raises(InputError, match=r"2 sections in uns\['spatial'\] \(A, B\), and no column of obs says"):
        choose_section(columns(points), uns, points, None, "table")
    assert choose_section(columns(lattice()), uns, lattice(), None, "table").rows.all()


def test_keys_of_uns_separate_sections_even_side_by_side():
    points = np.concatenate([lattice(), lattice((2000, 0))])
    uns = {"spatial": {"A": {"x": 1}, "B": {"x": 2}}}
    with pytest.raises(InputError, match="column 'where' of obs: A, B"):
        choose_section(columns(points, where=HALVES), uns, points, None, "table")
    half = columns(points, where=HALVES)[:N]
    assert choose_section(half, uns, points[:N], None, "table").rows.all()
    assert section_metadata(half, uns, None) == ("A", {"x": 1})
    assert section_metadata(columns(points), uns, None) == ("", {})
    assert section_metadata(columns(points), uns, "B") == ("B", {"x": 2})


def test_section_with_sections_of_its_own_is_refused():
    points = np.concatenate([TWO, lattice((7, 43), turn=0.1)])
    obs = columns(points, batch=np.repeat(["A", "A", "B"], N), section=np.repeat([1, 2, 3], N))
    with pytest.raises(InputError, match=r"Section 'A' .* has 2 sections itself \(column 'section' of obs: 1, 2\)"):
        choose_section(obs, {}, points, "A", "table")


def test_store_is_read_by_section():
    store = store_of(TWO, columns(TWO, library_id=HALVES))
    with pytest.raises(InputError, match="--library"):
        read_slide(store)
    slide = read_slide(store, library="B")
    np.testing.assert_allclose(slide.centers, TWO[N:])
    np.testing.assert_array_equal(slide.counts.toarray()[:, 0], np.arange(N + 1, 2 * N + 1))
    assert slide.source.library == "B"


def legacy_store(names=("A", "B"), sides=(90, 50)):
    """Return two sections with an image each; the first one is larger."""
    from spatialdata.models import Image2DModel
    from spatialdata.transformations import Identity, Scale, set_transformation

    store = store_of(TWO, columns(TWO, library_id=np.repeat(names, N)), {"spatial": {name: {} for name in names}})
    systems = {}
    for section, side in zip(names, sides, strict=True):
        name, pixels = f"{section}_hires", np.zeros((3, side, side), np.uint8)
        store.images[name] = Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations={name: Identity()})
        systems[name] = Scale([0.1, 0.1], axes=("x", "y"))
    set_transformation(store.shapes["spots"], systems, set_all=True)
    return store


def test_section_of_a_legacy_table_brings_its_own_image():
    """The layout that spatialdata-io's ``from_legacy_anndata`` gives to a table of two libraries."""
    store = legacy_store()
    slide = read_slide(store, library="B")
    assert slide.image.name == "B_hires"
    assert slide.coordinate_system == "B_hires"
    np.testing.assert_allclose(slide.image.to_intrinsic[0], np.diag([10, 10, 1]))


@pytest.mark.contract(
    section="Spots and transformations",
    case="--library all, and sections with an image each",
    response="*notice:* the largest image is used, and which ones are left out",
)
def test_image_of_one_section_is_noticed_under_the_spots_of_all():
    slide = read_slide(legacy_store(), library="all")
    assert slide.image.name == "A_hires"
    assert any("Image 'A_hires' was used for the spots of all" in n and "(B_hires); choose" in n for n in slide.notices)
    assert not any("was used for the spots" in n for n in read_slide(legacy_store(), library="B").notices)


@pytest.mark.parametrize("names", [("S10", "S1"), ("S1_2", "S1")])
def test_image_of_a_section_with_a_longer_name_is_not_taken(names):
    assert read_slide(legacy_store(names), library="S1").image.name == "S1_hires"
    store = legacy_store(names)
    del store.images["S1_hires"]
    slide = read_slide(store, library="S1")
    assert slide.image is None
    assert any(f"of other sections than 'S1' ({names[0]}_hires)" in notice for notice in slide.notices)


def test_numbers_in_the_names_of_cells_are_no_sections():
    points = np.random.default_rng(2).uniform(0, 1000, (900, 2))
    fields = (points // 334) @ np.array([1, 3])
    cells = pd.Series(fields).groupby(fields).cumcount()
    names = [f"{field:g}_{cell}" for field, cell in zip(fields, cells, strict=True)]
    assert choose_section(columns(points).set_index(pd.Index(names)), {}, points, None, "table").rows.all()


def test_entry_of_a_number_is_found():
    obs = columns(lattice())
    assert section_metadata(obs, {"spatial": {1: {"images": {}}}}, None) == ("1", {"images": {}})


def test_columns_of_lists_name_no_section():
    obs = columns(lattice(), library_id=[[1]] * N, anything=[{}] * N)
    assert choose_section(obs, {"spatial": {"a": {}}}, lattice(), None, "table").rows.all()
    assert section_metadata(obs, {"spatial": {"a": {}, "b": {}}}, None) == ("", {})
