"""The napari manifest is valid and its commands exist."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path

import pytest

import napari_srast

npe2 = pytest.importorskip("npe2")
MANIFEST = Path(napari_srast.__file__).with_name("napari.yaml")


def test_manifest_is_valid() -> None:
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    assert manifest.name == "napari-srast"
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["SRast"]


def test_entry_point_names_the_manifest() -> None:
    (entry,) = (point for point in metadata.entry_points(group="napari.manifest") if point.name == "napari-srast")
    module, _, file = entry.value.partition(":")
    assert Path(importlib.import_module(module).__file__ or "").with_name(file) == MANIFEST


def test_manifest_reads_slides_results_and_regions() -> None:
    (reader,) = npe2.PluginManifest.from_file(MANIFEST).contributions.readers
    assert reader.filename_patterns == ["*.zarr", "*.h5ad", "*.geojson"]
    assert reader.accepts_directories  # Zarr stores and the folders of Space Ranger


@pytest.mark.gui
def test_commands_of_the_manifest_exist() -> None:
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.contributions.commands
    for command in manifest.contributions.commands:
        assert callable(command.python_name and _resolve(str(command.python_name)))


def _resolve(name: str) -> object:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
