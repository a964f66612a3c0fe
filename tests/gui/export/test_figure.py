from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.colormaps import ensure_colormap
from PIL import Image as PillowImage

from napari_srast.gui.export.figure import Caption, save_figure
from napari_srast.gui.layers.gene_colors import GeneStyle, colormap_stops

pytestmark = pytest.mark.gui


def test_figure_has_scale_bar_legend_and_note(qtbot: Any, tmp_path: Path) -> None:
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
    assert red[400:, :400].any()  # the color ramp of the legend
    assert (pixels[:60, :300] == 255).all(axis=-1).any()  # the note


def test_figure_of_a_slide_without_a_unit_of_length_has_no_scale_bar(tmp_path: Path) -> None:
    black = np.zeros((600, 800, 4), dtype=np.uint8)
    save_figure(black, Caption(pixel_length=2.5, unit="unknown", genes=(), meaning=""), tmp_path / "figure.png")
    with PillowImage.open(tmp_path / "figure.png") as picture:
        assert not np.asarray(picture.convert("RGB")).any()


def test_legend_of_the_figure_has_the_colors_of_the_colormap(qtbot: Any, tmp_path: Path) -> None:
    black = np.zeros((600, 800, 4), dtype=np.uint8)
    black[..., 3] = 255
    viridis = ensure_colormap("viridis")
    genes = [GeneStyle("ERBB2", "#fde725", (0.0, 4.0), stops=colormap_stops(viridis))]
    caption = Caption(pixel_length=2.5, unit="um", genes=genes, meaning="counts per pixel")
    save_figure(black, caption, tmp_path / "figure.png")
    with PillowImage.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))[300:, :400].reshape(-1, 3).astype(int)
    for level in (0.05, 0.5, 0.95):
        color = np.round(255 * viridis.map(np.array([level]))[0, :3])
        assert np.abs(pixels - color).max(axis=1).min() <= 4, level
