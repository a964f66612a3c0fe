from __future__ import annotations

import itertools

import numpy as np
import pytest
from napari.utils.colormaps import ensure_colormap

from napari_srast.gui.layers.gene_colors import (
    PALETTE,
    GeneStyle,
    colormap_stops,
    gene_colormap,
    is_additive,
    map_colormap,
    shared_opacity,
)

pytestmark = pytest.mark.gui
# Machado, Oliveira and Fernandes (2009), severity 1.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _lab(color: str, vision: np.ndarray) -> np.ndarray:
    """Return the CIELAB coordinates of a color as a person sees it."""
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(vision @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colors_of_genes_differ_for_color_blind_people(vision: str) -> None:
    seen = [_lab(color, VISION[vision]) for color in PALETTE]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 18


@pytest.mark.parametrize("n_genes", [2, 3])
def test_sums_of_the_first_colors_have_hues(n_genes: int) -> None:
    for genes in itertools.combinations(range(n_genes), 2):
        total = sum(shared_opacity(n_genes) * gene_colormap(PALETTE[gene]).colors[-1, :3] for gene in genes)
        _, *chroma = _lab("#" + "".join(f"{min(round(255 * float(c)), 255):02x}" for c in total), np.eye(3))
        assert np.hypot(*chroma) > 20


def test_map_rises_in_lightness_and_opacity() -> None:
    stops = colormap_stops(map_colormap())
    lightness = np.array([_lab(stop, np.eye(3))[0] for stop in stops])
    assert (np.diff(lightness) > 0).all()
    opacity = np.array([int(stop[7:], 16) for stop in stops])
    assert opacity[0] == 0
    assert (np.diff(opacity) >= 0).all()


@pytest.mark.parametrize(("name", "additive"), [("magenta", True), ("gray", True), ("viridis", False)])
def test_colormaps_from_black_are_added(name: str, additive: bool) -> None:
    colormap = ensure_colormap(name)
    assert is_additive(colormap) == additive
    assert GeneStyle("A", "#ffffff", (0.0, 1.0), stops=colormap_stops(colormap)).is_additive == additive


def test_style_maps_counts_as_napari_does() -> None:
    style = GeneStyle("A", "#1e90ff", (2.0, 6.0))
    counts = np.array([0.0, 2.0, 3.0, 6.0, 9.0])
    expected = gene_colormap("#1e90ff").map(np.array([0.0, 0.0, 0.25, 1.0, 1.0]))
    np.testing.assert_allclose(style.rgba(counts), expected, atol=0.005)
