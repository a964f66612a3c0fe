"""Make the screenshots of the documentation: operate the window on the built-in slide.

Run it in the environment that bootstrap.py creates: ``python docs/make_pictures.py``. Without a display it starts a
virtual one with ``xvfb-run``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES = Path(__file__).resolve().parent / "images"
GENES = ["MUC2", "OLFM4", "COL1A1", "KRT20"]


def main() -> int:
    """Write docs/images/*.png; return 0."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", sys.executable, __file__]
        return subprocess.run(command, check=False).returncode
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the user's recent slides stay out of the screenshots
        os.environ["NAPARI_CONFIG"] = str(Path(folder) / "napari.yaml")
        take_pictures()
    return 0


def take_pictures() -> None:
    """Operate the window and save a screenshot of each step."""
    from napari_srast.gui.controllers.task_runner import AppState
    from napari_srast.gui.demo import wait_until
    from napari_srast.gui.layers.factory import world_extent
    from napari_srast.gui.runtime.launch import open_window

    viewer, widget = open_window()
    widget.tour.postpone()
    viewer.window.resize(1600, 1000)
    controller = widget.controller
    problems: list[str] = []
    controller.messages.error_message.connect(problems.append)

    def ready() -> None:
        if not wait_until(lambda: controller.tasks.state is AppState.READY or bool(problems), 1800) or problems:
            raise RuntimeError(f"A step failed: {problems or 'timeout'}")
        overlay = controller.results.overlay
        wait_until(lambda: overlay is None or len(overlay.shown) == len(overlay.genes), 120)

    def octagon(radius: float) -> np.ndarray:
        low, high = world_extent(controller.slides.slide)
        angle = np.pi / 8 + np.arange(8) * np.pi / 4
        return (low + high) / 2 + radius * (high - low) * np.column_stack([np.cos(angle), np.sin(angle)])

    widget.slide_panel.sample.click()
    ready()
    save_screenshot(viewer, "opening")
    controller.regions.add(octagon(0.36))
    save_screenshot(viewer, "region")
    widget.gene_panel.model.check(GENES)
    widget.settings_panel.factor.value = 4
    widget.settings_panel.mode.value = "sample"
    widget.settings_panel.advanced.click()
    widget.run_bar.run.click()
    wait_until(lambda: widget.run_bar.progress.value() > 100 or controller.tasks.state is AppState.READY, 600)
    save_screenshot(viewer, "running")
    ready()
    widget.result_panel.model.check(GENES, only=True)
    ready()
    save_screenshot(viewer, "overlay")
    explore = widget.result_panel
    for view in ("before", "side_by_side", "std"):
        explore.views[view].click()
        if view == "side_by_side":
            wait_until(lambda: "SRast side-by-side spots" in viewer.layers, 120)
        save_screenshot(viewer, view)
    explore.views["after"].click()
    comparison = explore.comparison_panel
    explore.section.header.click()  # room for the comparison
    comparison.section.header.click()
    comparison.start.click()
    ready()
    save_screenshot(viewer, "comparison")
    comparison.plot.click()
    ready()
    save_plot(comparison, "volcano")
    comparison.section.header.click()
    cells = explore.cell_panel
    cells.section.header.click()
    viewer.add_layer(nuclei(controller.slides.slide))
    cells.source.setCurrentText("layer: nuclei")
    controller.results.show_genes(GENES[:3])
    cells.start.click()
    ready()
    low, high = world_extent(controller.slides.slide)
    viewer.scene.camera.center = (0.0, *(low + (high - low) * [0.45, 0.28])[::-1])  # glands
    viewer.scene.camera.zoom *= 2.5
    save_screenshot(viewer, "cells")
    controller.cells.uncover()
    viewer.layers.remove("nuclei")
    controller.results.show_genes(GENES)
    ready()
    cells.section.header.click()
    viewer.reset_view()
    domains = explore.domain_panel
    domains.section.header.click()
    domains.number.setValue(5)
    domains.start.click()
    ready()
    save_screenshot(viewer, "domains")
    domains.display.setCurrentText("Hidden")
    domains.display.activated.emit(domains.display.currentIndex())
    domains.section.header.click()
    explore.section.header.click()
    wait_until(lambda: False, 1.0)
    explore.export_panel.write_figure(IMAGES / "figure.png")
    with Image.open(IMAGES / "figure.png") as figure:
        figure.convert("RGB").resize((800, round(800 * figure.height / figure.width))).save(
            IMAGES / "figure.png", optimize=True
        )
    viewer.close()


def nuclei(slide: Any) -> Any:
    """Return a hidden layer of nuclei of the histology, as a plugin for segmentation adds it."""
    from make_cells import segment
    from napari.layers import Labels

    from napari_srast.gui.layers.factory import image_affine, world_units

    to_intrinsic = slide.image.to_intrinsic[0]
    stain = 255.0 - np.asarray(slide.image.levels[0])[0]
    labels = segment(stain, float(np.sqrt(abs(np.linalg.det(to_intrinsic[:2, :2])))))
    affine = image_affine(slide.to_cs @ to_intrinsic)
    return Labels(labels, name="nuclei", affine=affine, units=world_units(slide), visible=False)


def save_screenshot(viewer: Any, name: str) -> None:
    """Save a screenshot of the whole window."""
    from napari_srast.gui.demo import wait_until

    deadline = time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > deadline, 5)
    IMAGES.mkdir(exist_ok=True)
    screenshot = Image.fromarray(viewer.window.screenshot(canvas_only=False, flash=False)).convert("RGB")
    smaller = screenshot.resize((1200, 750), Image.Resampling.LANCZOS)
    smaller.save(IMAGES / f"{name}.png", optimize=True)  # a palette would change the colors of the genes


def save_plot(panel: Any, name: str) -> None:
    """Save a picture of the window with the plot of a comparison, and close it."""
    from napari_srast.gui.demo import wait_until
    from napari_srast.gui.widgets.plot_window import PlotWindow

    wait_until(lambda: bool(panel.findChildren(PlotWindow)), 60)
    (plot,) = panel.findChildren(PlotWindow)
    plot.grab().save(str(IMAGES / f"{name}.png"))
    plot.close()


if __name__ == "__main__":
    sys.exit(main())
