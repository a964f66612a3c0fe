"""napari saves genes and results through the plugin, and everything else as without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import npe2
import numpy as np
import pytest
import tifffile
from helpers.results import assert_same_result, make_result
from napari.components import ViewerModel
from napari.layers import Image

from napari_srast.errors import InputError
from napari_srast.gui.layers.factory import gene_layer_kwargs, role_of
from napari_srast.gui.layers.overlay import Overlay
from napari_srast.gui.state.gene_values import GeneValues
from napari_srast.io.result_reader import read_result
from napari_srast.io.result_writer import write_result

pytestmark = pytest.mark.gui


@pytest.fixture(autouse=True)
def _plugins() -> None:
    """Discover the installed plugins, as napari's window does."""
    npe2.PluginManager.instance().discover()


@pytest.fixture
def viewer(tmp_path: Path) -> ViewerModel:
    """A viewer with the layers of a result of four genes, and one of another origin."""
    viewer = ViewerModel()
    viewer.open(write_result(make_result(), tmp_path / "fine.zarr"), plugin="napari-srast")
    viewer.add_image(np.arange(12, dtype=np.uint8).reshape(3, 4), name="foreign")
    return viewer


def _save(viewer: ViewerModel, path: Path, *names: str) -> list[str]:
    viewer.layers.selection = {viewer.layers[name] for name in names}
    return viewer.layers.save(str(path), selected=True)


def test_selected_genes_are_saved_as_channels_with_the_shown_values(viewer: ViewerModel, tmp_path: Path) -> None:
    path = tmp_path / "genes.ome.tif"
    assert _save(viewer, path, "Gene0", "Gene1") == [str(path)]
    with tifffile.TiffFile(path) as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        image = file.asarray()
    names = [channel["Name"] for channel in pixels["Channel"]]
    unit = "(expression, counts per pixel)"
    assert sorted(names) == [f"Gene0 {unit}", f"Gene1 {unit}"]
    assert pixels["PhysicalSizeX"] == 50
    for name, channel in zip(names, image, strict=True):
        np.testing.assert_array_equal(channel, np.nan_to_num(viewer.layers[name.split()[0]].data, nan=0))
    assert _save(viewer, path, "Gene0") == [str(path)]  # napari has asked whether to replace it
    assert np.squeeze(tifffile.imread(path)).ndim == 2


def test_a_gene_saves_its_result(viewer: ViewerModel, tmp_path: Path) -> None:
    spots = next(layer.name for layer in viewer.layers if role_of(layer) == "spots")
    assert _save(viewer, tmp_path / "saved.zarr", "Gene2", spots) == [str(tmp_path / "saved.zarr")]
    assert_same_result(read_result(tmp_path / "saved.zarr"), read_result(tmp_path / "fine.zarr"))


def test_foreign_images_are_saved_as_without_the_plugin(viewer: ViewerModel, tmp_path: Path) -> None:
    for name in ("foreign.tif", "foreign.ome.tif"):
        assert _save(viewer, tmp_path / name, "foreign") == [str(tmp_path / name)]
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name), viewer.layers["foreign"].data)


@pytest.mark.contract(
    section="In the window",
    case="Layers of another origin, or of several results, are saved with the plugin",
    response="refused with the next step; nothing is written",
)
def test_layers_that_are_no_result_are_refused(viewer: ViewerModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No gene of SRast.*'foreign'"):
        _save(viewer, tmp_path / "x.zarr", "foreign")
    other = make_result(factor=3)
    viewer.add_layer(Image(other.gene_image("Gene1"), name="other", **gene_layer_kwargs(other)))
    for name in ("x.zarr", "x.ome.tif"):
        with pytest.raises(InputError, match="of several results"):
            _save(viewer, tmp_path / name, "Gene1", "other")
    assert {path.name for path in tmp_path.iterdir()} == {"fine.zarr", "state"}  # the preferences


def test_layers_of_the_panel_carry_their_result(widget: Any, tmp_path: Path, qtbot: Any) -> None:
    viewer, results = widget.controller.viewer, widget.controller.results
    viewer.open(write_result(make_result(), tmp_path / "fine.zarr"), plugin="napari-srast")
    qtbot.waitUntil(lambda: results.overlay is not None and bool(results.overlay.shown), timeout=60_000)
    gene = results.overlay.shown[0].gene
    qtbot.waitUntil(lambda: [layer.name for layer in viewer.layers].count(gene) == 1, timeout=60_000)
    assert _save(viewer, tmp_path / "gene.ome.tif", gene) == [str(tmp_path / "gene.ome.tif")]


def test_channels_state_units_other_than_counts_and_unused_layers_are_left_out(tmp_path: Path) -> None:
    result = make_result()
    viewer, values = ViewerModel(), GeneValues.of(dataclasses.replace(result, std=result.counts))
    overlay = Overlay(viewer, values, lambda: None)
    overlay.show(["Gene0", "Gene1"])
    overlay.show(["Gene1"])
    overlay.set_view("std")  # the layer of Gene0 keeps an image of the counts
    overlay.hide()
    names = [layer.name for layer in viewer.layers if role_of(layer) in ("gene", "unused")]
    assert len(names) == 2
    _save(viewer, tmp_path / "std.ome.tif", *names)
    with tifffile.TiffFile(tmp_path / "std.ome.tif") as file:
        channel = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
    assert channel["Name"] == "Gene1 (standard deviation of the counts per pixel)"
