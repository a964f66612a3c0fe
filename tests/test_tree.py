"""The tests mirror the folders and modules of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

import napari_srast

PACKAGE = Path(napari_srast.__file__).parent
TESTS = Path(__file__).parent
MODULES = {path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")}
FOLDERS = sorted({module.parent for module in MODULES if module.name != "__init__" and module.parent != Path(".")})
FILES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))
SEVERAL_MODULES = {  # behavior that no single module has; also the folder "reliability"
    "benchmarks/test_performance",
    "cli/test_analysis",
    "cli/test_cli",
    "cli/test_histology_options",
    "cli/test_section_options",
    "gui/layers/test_region_shapes",
    "gui/panels/test_sections",
    "gui/test_during_runs",
    "gui/test_endurance",
    "gui/test_flow_genes",
    "gui/test_flow_slides",
    "gui/test_high_dpi",
    "gui/test_keyboard_and_preferences",
    "gui/test_layer_removal",
    "gui/test_mouse",
    "gui/test_speed",
    "gui/test_window_contract",
    "gui/test_window_faults",
    "histology/test_cost",
    "histology/test_formats",
    "histology/test_image_runs",
    "inference/test_compute_devices",
    "inference/test_integer_mode",
    "inference/test_large_slides",
    "inference/test_unusual_slides",
    "io/test_foreign_stores",
    "io/test_napari_spatialdata",
    "io/test_result_plots",
    "models/intensity/test_intensity",
    "models/test_large_slides",
}


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_each_folder_has_tests(folder: Path) -> None:
    assert list((TESTS / folder).glob("test_*.py")), f"tests/{folder} has no tests"


@pytest.mark.parametrize("file", [file for file in FILES if file.parent != Path(".")], ids=str)
def test_each_test_file_is_named_for_a_module(file: Path) -> None:
    module = file.with_name(file.stem.removeprefix("test_"))
    known = module in MODULES or module / "__init__" in MODULES or module.parent.name == module.name
    assert known or file.parts[0] == "reliability" or file.with_suffix("").as_posix() in SEVERAL_MODULES


def test_list_of_exceptions_is_current() -> None:
    present = {file.with_suffix("").as_posix() for file in FILES}
    assert present >= SEVERAL_MODULES
    assert not {name for name in SEVERAL_MODULES if Path(name.replace("/test_", "/")) in MODULES}
