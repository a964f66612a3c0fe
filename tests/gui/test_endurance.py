"""Responsiveness during a run, memory after many runs, and use together with napari-spatialdata."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.heartbeat import Beats
from helpers.window import (
    PATIENCE,
    SQUARE,
    layer_names,
    open_slide,
    run,
    use_fast_method,
    visible,
    wait_ready,
    wait_shown,
)
from qtpy.QtCore import QTimer

from napari_srast import api
from napari_srast.core.settings import UpsampleSettings
from napari_srast.geometry.affine import apply_affine
from napari_srast.gui.widget import SRastWidget
from napari_srast.io.convert.importer import import_slide
from napari_srast.io.result_elements import result_names
from napari_srast.io.result_writer import write_result
from napari_srast.io.slide_reader import read_slide

pytestmark = pytest.mark.gui


def test_slide_of_napari_spatialdata_is_adopted(
    make_napari_viewer: Callable[..., Any], qtbot: Any, store: Path, tmp_path: Path
) -> None:
    interactive = pytest.importorskip("napari_spatialdata", reason="napari-spatialdata is not installed").Interactive
    import spatialdata
    from spatialdata.transformations import Affine, set_transformation

    sdata = spatialdata.read_zarr(store)
    turned = Affine(np.array([[0.0, -1, 5], [1, 0, 7], [0, 0, 1]]), input_axes=("x", "y"), output_axes=("x", "y"))
    image = next(iter(sdata.images))
    for name in ("spots", image):
        set_transformation(sdata[name], turned, "turned")
    viewer = make_napari_viewer()
    neighbor = interactive(sdata, headless=True)
    neighbor.add_element("spots", element_coordinate_system="global")
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=PATIENCE)
    external = viewer.layers[0]
    widget = SRastWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    assert widget.slide_panel.use_shown.isVisible()
    widget.open_path(store)  # the path of the slide that napari-spatialdata shows
    wait_ready(qtbot, widget)
    assert widget.controller.slides.slide is not None
    assert layer_names(widget) == [external.name, "breast histology"]
    assert not widget.slide_panel.use_shown.isVisible()
    use_fast_method(widget)
    widget.controller.regions.add(SQUARE)
    widget.gene_panel.model.check(["Gene3"])
    result = run(qtbot, widget)

    neighbor.switch_coordinate_system("turned")
    qtbot.waitUntil(lambda: widget.controller.slides.slide.coordinate_system == "turned", timeout=PATIENCE)
    slide = widget.controller.slides.slide
    corner = np.array(viewer.layers["Gene3"].data_to_world((-0.5, -0.5)))[::-1]
    np.testing.assert_allclose(corner, apply_affine(slide.to_cs @ result.raster.affine, np.zeros((1, 2)))[0], atol=1e-3)
    spot = np.array(external.data_to_world(external.data[0]))[::-1] if getattr(external.data, "ndim", 0) == 2 else None
    if spot is not None:
        np.testing.assert_allclose(spot, apply_affine(slide.to_cs, slide.centers[:1])[0], atol=1e-3)
    assert widget.controller.regions.n_spots_inside() == 9

    # The saved result, opened in napari-spatialdata, is aligned with the gene layer in every coordinate system.
    name = result_names(result).image
    sdata[name] = spatialdata.read_zarr(write_result(result, tmp_path / "result.zarr"))[name]
    neighbor.add_element(name, element_coordinate_system="turned")
    qtbot.waitUntil(lambda: name in viewer.layers, timeout=PATIENCE)  # loaded in another thread
    written, gene_layer = viewer.layers[name], viewer.layers["Gene3"]
    for system in ("global", "turned"):
        neighbor.switch_coordinate_system(system)
        qtbot.waitUntil(
            lambda system=system: widget.controller.slides.slide.coordinate_system == system, timeout=PATIENCE
        )
        for pixel in ((0, 0), (3, 2)):
            point = written.data_to_world((0,) * (written.ndim - 2) + pixel)[-2:]
            tolerance = 0.1 * result.raster.pixel_size
            np.testing.assert_allclose(point, gene_layer.data_to_world(pixel)[-2:], atol=tolerance)
    viewer.layers.remove(written)
    widget.slide_panel.close_slide.click()
    assert layer_names(widget) == [external.name]
    widget.controller.shutdown()


@pytest.mark.slow
def test_memory_is_freed_after_ten_slides(record_property: Callable[[str, object], None]) -> None:
    """Measure in a process of its own: here, threads of earlier tests still return memory or take it."""
    file = Path(__file__).with_name("memory_of_ten_slides.py")
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)], capture_output=True, text=True, env=alone, check=False
    )
    record_property("output", done.stdout[-1000:])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


@pytest.mark.slides
@pytest.mark.slow
def test_window_stays_responsive_on_a_real_slide(
    open_window: Callable[[], SRastWidget],
    qtbot: Any,
    slide_path: Callable[..., Path],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    window = open_window()
    name = "st_human_breast_her2_c4"
    store = import_slide(slide_path(name), tmp_path / "her2.zarr", image=slide_path(name, "_he.jpg"))
    # Load modules and caches first: the run without a window, with which times are compared, has them too.
    api.upsample(read_slide(store), None, ["ERBB2"], settings=UpsampleSettings(factor=4, seed=2))
    viewer, beats = window.controller.viewer, Beats()
    beats.start()
    slide = open_slide(qtbot, window, store)
    assert slide.n_genes == 15_267
    low, high = slide.centers.min(axis=0), slide.centers.max(axis=0)
    x0, y0, x1, y1 = *(low + (high - low) / 3), *(high - (high - low) / 3)
    window.controller.regions.add(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    genes = ["ERBB2", "KRT19", "COL1A1"]
    window.gene_panel.model.check(genes)
    window.settings_panel.factor.value = 4
    qtbot.wait(1000)  # a user presses Run after the slide and the region are drawn
    beats.stop()
    beats.report(record_property, "opening")

    beats, inserting = Beats(), []
    viewer.layers.events.inserting.connect(lambda: inserting.append(time.perf_counter()))
    pan = QTimer()
    center = np.array(viewer.scene.camera.center)

    def move() -> None:
        viewer.scene.camera.center = tuple(center + 100 * np.sin(time.perf_counter() * np.array([0.0, 3.0, 4.0])))

    pan.timeout.connect(move)
    pan.start(100)
    beats.start()
    start = time.process_time()
    result = run(qtbot, window)
    busy = time.process_time() - start
    qtbot.wait(200)  # until the last gene is drawn
    pan.stop()
    beats.stop()
    assert len(inserting) == 1 + len(genes)
    in_the_run = beats.report(record_property, "in_the_run", until=inserting[0])
    adding_layers = beats.report(record_property, "adding_layers", since=inserting[0])
    record_property("the_computer_was_crowded", beats.is_crowded)
    # The targets are 100 ms, 300 ms and, for the whole run, 1.5 times the duration without a window; the properties
    # record the measured values. The test allows twice that on an idle computer, and 2 s on a busy one.
    if beats.is_crowded:
        assert max(in_the_run, adding_layers) <= 2000
    else:
        assert in_the_run <= 2 * 100
        assert adding_layers <= 2 * 300
    assert set(result.genes) == set(genes)
    assert sorted(visible(window)) == sorted(genes)
    displayed = window.controller.results.current
    assert displayed is not None
    assert displayed.quality.max_relative_mass_error <= 1e-6
    assert displayed.quality.negative_pixels == 0
    extent = viewer.layers["ERBB2"].extent.world
    spots = slide.centers[result.raster.spots][:, ::-1]
    assert (extent[0] <= spots.min(axis=0)).all()
    assert (extent[1] >= spots.max(axis=0)).all()
    record_property("cpu_seconds_with_the_window_busy", busy)
    record_property("seconds_with_the_window_busy", result.provenance["seconds"]["total"])

    # A second region of the slide uses the cached fit.
    window.controller.regions.clear()
    window.controller.regions.add(np.array([[x0, y0], [x1, y0], [x1, y1]]))
    window.tabs.setCurrentIndex(0)
    again = run(qtbot, window)
    wait_shown(qtbot, window)
    fitting = ("align", "calibrate")
    spent = [sum(r.provenance["seconds"].get(stage, 0.0) for stage in fitting) for r in (result, again)]
    record_property("seconds_of_fitting", spent)
    assert spent[1] < 0.5 * spent[0]
    # Repeat the run without a window, with another seed so that no cached fit is used.
    settings = dataclasses.replace(result.settings, seed=1)
    alone = api.upsample(slide, result.region, genes, settings=settings)
    seconds = [r.provenance["seconds"]["total"] for r in (alone, result)]
    record_property("seconds_without_a_window", seconds[0])
    record_property("times_as_long_with_the_window_busy", round(seconds[1] / seconds[0], 2))
    if not beats.is_crowded:  # other processes would distort the comparison
        assert seconds[1] <= 2 * 1.5 * seconds[0]
