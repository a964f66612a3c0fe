from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.planted import planted_domain, planted_slide
from helpers.results import make_result, with_expression
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score

from napari_srast.analysis.clustering import embed, find_partition, nearby_pixels, neighbor_graph, partition
from napari_srast.analysis.domains import Domains, domains, read_domains
from napari_srast.analysis.expression_scaling import log_normalize
from napari_srast.analysis.markers import find_markers
from napari_srast.core.result import UpsampleResult, no_columns
from napari_srast.errors import Cancelled, InputError, SettingsError
from napari_srast.io.pixel_classes import add_pixel_classes
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result


@pytest.fixture(scope="module")
def result() -> UpsampleResult:
    """The planted slide at factor 4."""
    pytest.importorskip("igraph")
    return make_result(planted_slide(), method="gp", factor=4.0)


def whole_spots(labels: np.ndarray, parent: np.ndarray) -> float:
    """Return the fraction of spots whose pixels are in one cluster."""
    return float(np.mean([len(np.unique(labels[parent == spot])) == 1 for spot in np.unique(parent)]))


def test_domains_follow_the_planted_ones_and_not_the_spots(result):
    truth, parent, slide = planted_domain(result.raster.centers), result.raster.parent, result.slide
    found = domains(result, n_domains=3).labels.codes
    graph = neighbor_graph(
        embed(log_normalize(slide.counts.toarray())), cKDTree(slide.centers).query_pairs(110, output_type="ndarray")
    )
    spots = find_partition(graph, 3).labels[parent]
    assert adjusted_rand_score(truth, found) > 0.8
    assert adjusted_rand_score(truth, found) > adjusted_rand_score(truth, spots) + 0.05
    assert abs(whole_spots(found, parent) - whole_spots(truth, parent)) < 0.15
    assert whole_spots(spots, parent) == 1


def test_number_of_domains_is_steady_over_seeds(result):
    numbers = [len(domains(result, resolution=0.5, seed=seed).sizes) for seed in range(5)]
    assert max(np.abs(np.array(numbers) / np.median(numbers) - 1)) <= 0.2


def test_default_number_is_that_of_clusters_of_the_spots_at_any_factor(result):
    genes = [f"G{i}" for i in range(30)]
    columns = [result.gene_column(gene) for gene in genes]
    spots = embed(log_normalize(result.slide.counts[:, columns].toarray()))
    expected = partition(neighbor_graph(spots, np.empty((0, 2), dtype=int)), 1.0).n_clusters
    coarse = make_result(planted_slide(), method="gp", factor=2.0)
    for run in (coarse, result):
        assert abs(len(domains(run, genes=genes).sizes) - expected) <= 0.2 * expected
    assert len(domains(result, genes=genes, resolution=1.0).sizes) > 1.2 * expected


def test_same_seed_gives_the_same_domains(result):
    first, second = domains(result, seed=3), domains(result, seed=3)
    np.testing.assert_array_equal(first.labels.codes, second.labels.codes)
    assert first.markers.equals(second.markers)


def test_domains_are_named_by_size(result):
    found = domains(result, resolution=0.5)
    assert list(found.sizes.index) == [str(i + 1) for i in range(len(found.sizes))]
    assert list(found.sizes) == sorted(found.sizes, reverse=True)
    assert found.sizes.sum() == result.n_pixels


def test_merged_domains_keep_the_first_name_and_get_markers_of_their_own(result):
    found = domains(result, n_domains=3)
    merged = found.merge(["3", "1"])
    assert list(merged.labels.categories) == ["1", "2"]
    np.testing.assert_array_equal(merged.labels == "2", found.labels == "2")
    expected, changed = (table.markers.query("domain == '2'") for table in (found, merged))
    assert expected["auroc"].tolist() == changed["auroc"].tolist()
    assert len(merged.markers) == 2 * len(result.genes)
    assert "same counts" in merged.markers.attrs["note"]


def test_renamed_domains_keep_pixels_and_markers(result):
    found = domains(result, n_domains=3)
    renamed = found.rename({"2": "stroma"})
    assert list(renamed.labels.categories) == ["1", "stroma", "3"]
    np.testing.assert_array_equal(renamed.labels.codes, found.labels.codes)
    assert renamed.markers["domain"].unique().tolist() == ["1", "stroma", "3"]
    for call in (lambda: found.rename({"2": "1"}), lambda: found.rename({"9": "x"}), lambda: found.merge(["1"])):
        with pytest.raises(SettingsError, match=r"name of its own|no domain '9'|at least two"):
            call()


def test_markers_of_a_domain_are_genes_of_its_planted_profile(result):
    found = domains(result, n_domains=3)
    truth = planted_domain(result.raster.centers)
    values = log_normalize(result.expression.toarray())
    for domain, group in found.markers.groupby("domain"):
        inside = truth == np.bincount(truth[found.labels == domain]).argmax()
        column = list(result.genes).index(group["gene"].iloc[0])
        assert values[inside, column].mean() > values[~inside, column].mean() + 0.3
        assert group["auroc"].iloc[0] > 0.9
    assert "same counts" in found.markers.attrs["note"]


def test_chosen_genes_decide_the_domains_and_all_are_markers(result):
    found = domains(result, genes=["G1", "G2", "G3"])
    assert found.genes == ("G1", "G2", "G3")
    assert set(found.markers["gene"]) == set(result.genes)
    assert not np.array_equal(found.labels.codes, domains(result).labels.codes)


def test_number_that_no_resolution_gives_has_a_notice(result):
    found = domains(result, n_domains=500)
    assert len(found.sizes) != 500
    assert f"{len(found.sizes)} is closest" in found.notices[0]


def test_equal_pixels_are_clustered():
    pytest.importorskip("igraph")
    result = with_expression(make_result(), [0, 1, 2, 3])
    values = np.ones(result.counts.shape, dtype=np.float32)
    flat = dataclasses.replace(result, expression=type(result.counts)(values))
    assert domains(flat).sizes.sum() == result.n_pixels


def test_nearby_pixels_are_all_pairs_within_two_pixels():
    raster = make_result(factor=3.0).raster
    kept = raster.restrict(np.isin(raster.parent, [0, 1, 7, 9, 14]))
    found = {tuple(pair) for pair in nearby_pixels(kept)}
    places = np.column_stack([kept.row, kept.col])
    assert len(found) == len(nearby_pixels(kept))
    assert found == {tuple(sorted(pair)) for pair in cKDTree(places).query_pairs(2.0)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0.0}, "resolution is 0, but must be above 0"),
        ({"n_domains": 1}, "between 2 and"),
        ({"genes": []}, "list of genes is empty"),
        ({"genes": "G1"}, "not as the text"),
    ],
)
def test_wrong_options_are_refused(result, options, message):
    with pytest.raises(SettingsError, match=message):
        domains(result, **options)


def test_result_without_expression_is_refused(result):
    bare = dataclasses.replace(result, expression=None, expression_columns=no_columns())
    with pytest.raises(InputError, match="has no expression; run again"):
        domains(bare)


def test_gene_without_expression_is_refused():
    pytest.importorskip("igraph")
    with pytest.raises(InputError, match="no expression of gene 'Gene1'"):
        domains(with_expression(make_result(), [0, 2]), genes=["Gene1"])


def test_missing_package_is_named_with_the_command(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(InputError, match=r'igraph; install it with: pip install "napari-srast\[analysis\]"'):
        domains(result)


def test_progress_is_reported_and_cancellation_stops(result):
    steps = []
    domains(result, progress=steps.append)
    assert [step.done for step in steps] == [1, 2]
    with pytest.raises(Cancelled):
        domains(result, should_stop=lambda: True)


@pytest.fixture
def stored(tmp_path):
    """A result with expression in a store, its path, and domains of it that are not saved."""
    result = with_expression(make_result(planted_slide(n=6)), range(40))
    path = write_result(result, tmp_path / "fine.zarr")
    labels = pd.Categorical.from_codes(np.arange(result.n_pixels) % 3, ["stroma", "2", "3"])
    genes = [str(gene) for gene in result.genes]
    markers = find_markers(result.expression.toarray(), genes, labels)
    return result, path, Domains(result=result, labels=labels, markers=markers, genes=("G1",), resolution=0.5, seed=3)


def test_saved_domains_are_read_with_names_markers_and_settings(stored):
    result, path, found = stored
    assert read_domains(result, path) == {}
    found.write(path, "fine")
    found.merge(["stroma", "3"]).write(path, "merged")
    read = read_domains(read_result(path), path)
    assert list(read) == ["fine", "merged"]
    np.testing.assert_array_equal(read["fine"].labels.codes, found.labels.codes)
    assert list(read["fine"].labels.categories) == ["stroma", "2", "3"]
    assert list(read["merged"].labels.categories) == ["stroma", "2"]
    assert (read["fine"].genes, read["fine"].resolution, read["fine"].seed) == (("G1",), 0.5, 3)
    assert list(read["fine"].markers["domain"].unique()) == ["stroma", "2", "3"]
    assert "same counts" in read["fine"].markers.attrs["note"]
    np.testing.assert_array_equal(read["fine"].image(), found.image())


def test_classes_of_another_kind_are_no_domains(stored):
    result, path, found = stored
    add_pixel_classes(result, path, "zones", found.labels, {"kind": "drawn"})
    assert read_domains(result, path) == {}


@pytest.mark.parametrize("fault", ["lost part", "pixel without a domain", "settings"])
def test_damaged_domains_are_named_and_the_others_read(stored, fault):
    result, path, found = stored
    found.write(path, "good")
    settings = {"resolution": 0.5, "seed": 3, "genes": ["G1"]}
    labels = found.labels
    if fault == "lost part":  # it reads as zeros
        labels = pd.Categorical.from_codes(np.zeros(result.n_pixels, dtype=int), labels.categories)
    elif fault == "settings":
        settings["resolution"] = "high"
    else:
        labels = pd.Categorical.from_codes(
            np.where(np.arange(result.n_pixels) == 4, -1, labels.codes), labels.categories
        )
    add_pixel_classes(result, path, "bad", labels, settings)
    with pytest.raises(InputError, match=r"The domains 'bad' .* find them again, and save them under another name"):
        read_domains(result, path)
    damages = []
    assert list(read_domains(result, path, on_damage=damages.append)) == ["good"]
    assert ["'bad'" in str(damage) for damage in damages] == [True]


def test_domains_of_other_pixels_are_refused(stored):
    _, path, found = stored
    found.write(path)
    other = dataclasses.replace(make_result(planted_slide(n=5)), run=found.result.run)
    with pytest.raises(InputError, match="do not match the pixels"):
        read_domains(other, path)


def test_domains_of_a_result_without_expression_have_no_markers(stored):
    result, path, found = stored
    found.write(path)
    bare = dataclasses.replace(result, expression=None, expression_columns=no_columns())
    read = read_domains(bare, path)["domains"]
    assert len(read.markers) == 0
    assert read.sizes.equals(found.sizes)


def test_reading_of_domains_can_be_canceled(stored):
    result, path, found = stored
    found.write(path)
    with pytest.raises(Cancelled):
        read_domains(result, path, should_stop=lambda: True)
